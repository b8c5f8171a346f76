"""What doctor finds around the agent: worlds that know holders, and stores that take what is sent."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from agent.clock import now_ms
from agent.holders.contract import Question
from agent.holders.settings import HolderSettings
from agent.holders.worlds import lookouts
from exporters.fleet import trial
from exporters.settle import Verdict
from gputally.addresses import shown
from gputally.settings import Settings

ANSWER_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at. `good` is None where it is neither good nor bad."""

    what: str
    good: bool | None
    text: str


def worlds(settings: HolderSettings) -> Iterator[Check]:
    """Ask each world that knows holders once."""
    for one in lookouts(settings):
        with closing(one):
            what = f"holders by {one.name}"
            if not one.present():
                yield Check(what=what, good=None, text="not on this node")
                continue
            one.put(Question())
            one.settle(ANSWER_SECONDS)
            answer = one.answer()
            drained = f"; the node is drained: {answer.drained}" if answer.drained else ""
            yield Check(what=what, good=not answer.trouble, text=(answer.trouble or "answers") + drained)


def stores(settings: Settings) -> Iterator[Check]:
    """Write one figure to each store, as an exporter does, and a test to what is told of findings."""
    labels = {"node": settings.node.resolved()}
    labels |= {name: text for name, text in settings.node.labels.items() if text}
    for one in settings.exporters.to:
        what = f"exporter {one.name}"
        outcome, sent = trial(one, labels, now_ms())
        if outcome.verdict is Verdict.DELIVERED and not outcome.refused:
            yield Check(what=what, good=True, text=f"{shown(one.url)} took {sent}")
        else:
            yield Check(what=what, good=False, text=f"{shown(one.url)}: {outcome.reason}")
