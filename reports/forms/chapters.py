"""The chapters of the page, in their order: what each asks, and what it shows, or why it cannot."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from reports.forms import chapters_health, chapters_hours, chapters_people, chapters_supply, chapters_trust
from reports.forms.grid import Block, Note, without_prices
from reports.forms.story import Story
from reports.sections import Sections


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """A chapter as it is shown; `absent` says why nothing is."""

    anchor: str
    title: str
    question: str
    blocks: tuple[Block, ...]
    absent: str = ""


class _Plan(NamedTuple):
    """A chapter to be written. `section` is what it needs; `empty` says what it means to have nothing.

    In title and question {last} is the time compared with.
    """

    anchor: str
    title: str
    question: str
    tell: Callable[[Story], Iterator[Block]]
    section: str = ""
    has: Callable[[Sections], bool] | None = None
    empty: str = ""


_PLANS = (
    _Plan(
        "scorecard",
        "Scorecard",
        "Better or worse than {last}?",
        chapters_hours.scorecard,
        "scores",
        lambda one: bool(one.scores),
        "there is nothing to compare",
    ),
    _Plan("hours", "Where the hours went", "What did every GPU-hour we own do?", chapters_hours.states),
    _Plan(
        "bridge",
        "Bridge from {last}",
        "Why did active time change?",
        chapters_hours.bridge,
        "bridge",
        lambda one: bool(one.bridge),
        "there is no week before to compare with",
    ),
    _Plan(
        "capacity",
        "Capacity and headroom",
        "What can still be taken on?",
        chapters_supply.capacity,
        "capacity",
        lambda one: bool(one.capacity),
        "there is no group of GPUs",
    ),
    _Plan(
        "fragments",
        "Fragmentation",
        "Why is what is free not usable?",
        chapters_supply.fragments,
        "fragments",
        lambda one: bool(one.fragments),
        "no GPU was free",
    ),
    _Plan("waste", "Waste league", "Who holds GPUs without using them?", chapters_people.waste),
    _Plan("owners", "Accounts of the owners", "Who had what, and what did it cost?", chapters_people.owners),
    _Plan("gpus", "GPUs that lost most time", "Which GPUs to look at?", chapters_people.gpus),
    _Plan(
        "sizes",
        "Right-sizing",
        "Who could do with less?",
        chapters_people.sizes,
        "sizes",
        lambda one: bool(one.sizes),
        "nobody stands out",
    ),
    _Plan(
        "rhythm",
        "Hours of the week",
        "When do GPUs stand still?",
        chapters_hours.rhythm,
        "heat_map",
        lambda one: one.heat_map is not None,
        "nothing is known by hour",
    ),
    _Plan(
        "power",
        "Heat, power, energy, carbon",
        "What do heat and power cost?",
        chapters_health.power,
        "heat",
        lambda one: bool(one.heat or one.energy) or not {"heat", "energy"} & one.absent.keys(),
    ),
    _Plan(
        "reliability",
        "Reliability",
        "Is the fleet shrinking, and what goes back to the maker?",
        chapters_health.reliability,
        "reliability",
        lambda one: one.reliability is not None,
        "nothing is known of failures",
    ),
    _Plan(
        "assets",
        "Asset register",
        "What do we own, and where is it?",
        chapters_supply.assets,
        "assets",
        lambda one: bool(one.assets),
        "no GPU is registered",
    ),
    _Plan(
        "forecast",
        "Forecast",
        "When do we have to buy?",
        chapters_supply.forecast,
        "forecast",
        lambda one: bool(one.forecast),
        "there are not enough weeks to tell a trend",
    ),
    _Plan(
        "findings",
        "Findings",
        "What did the rules find?",
        chapters_health.findings,
        "findings",
        lambda one: "findings" not in one.absent,
    ),
)
_PLACED = {plan.section for plan in _PLANS if plan.section} | {"groups", "days", "energy", "waste"}
"""Sections that say in their own chapter why they are absent."""


def chapters(story: Story) -> tuple[Chapter, ...]:
    """Write all chapters; one that has nothing to show says why."""
    return (
        *(_written(plan, story) for plan in _PLANS),
        Chapter(
            anchor="quality",
            title="Quality of the data",
            question="What to distrust?",
            blocks=tuple(chapters_trust.quality(story, _PLACED)),
        ),
        Chapter(
            anchor="method",
            title="Method and glossary",
            question="Can it be defended?",
            blocks=tuple(chapters_trust.method(story)),
        ),
    )


def _written(plan: _Plan, story: Story) -> Chapter:
    why = ""
    if plan.has is not None and not (story.has_sections and plan.has(story.sections)):
        why = _why(plan, story)
    blocks = () if why else (*_lacking(plan, story), *map(without_prices, plan.tell(story)))
    return Chapter(
        anchor=plan.anchor,
        title=plan.title.format(last=story.names.last),
        question=plan.question.format(last=story.names.last),
        blocks=blocks,
        absent=why,
    )


def _lacking(plan: _Plan, story: Story) -> Iterator[Note]:
    """Say what a chapter lacks that nevertheless has something to show."""
    if plan.has is not None and plan.section != "heat" and (reason := story.why_absent(plan.section)):
        yield Note(sentences=[f"In part only: {reason}"])


def _why(plan: _Plan, story: Story) -> str:
    names = (plan.section, "energy") if plan.section == "heat" else (plan.section,)
    reasons = dict.fromkeys(filter(None, map(story.why_absent, names)))
    return "; ".join(reason.rstrip(".") for reason in reasons) or plan.empty
