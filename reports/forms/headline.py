"""The top of the page: what window, how far to trust it, and the three answers that a planner came for.

How much was wasted, by whom, and what to do first. Wasted is what is known to be: held idle, and down.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from agent.states import UNATTRIBUTED
from agent.tick import State
from reports.forms.cells import price_of, revision_of
from reports.forms.grid import Tone, signed
from reports.forms.story import Story, local
from reports.outline import Decision, OwnerLine, Report
from reports.sections import Score
from reports.window import rfc3339
from reports.wording import hours, money, percent

MOST_DECISIONS = 5
RUNNERS_UP = 3
SOUND = 0.98
POOR = 0.90
"""Coverage from which figures stand by themselves, and below which weeks are not compared (facts, 2.1)."""
BOUNDS_DIFFER = 0.0005
_CHAPTERS = {
    "identity": "quality",
    "reclaim": "waste",
    "unknown": "quality",
    "down": "reliability",
    "free": "capacity",
    "drained": "hours",
    "barely_busy": "owners",
    "buy": "forecast",
    "replace": "reliability",
    "return": "capacity",
    "pack": "fragments",
    "resize": "sizes",
}
"""Where more is said of a decision of that kind."""


class Badge(NamedTuple):
    """A verdict on the data: a word, a sentence, and whether it is good."""

    name: str
    verdict: str
    text: str
    tone: Literal["good", "fair", "bad"]


class Big(NamedTuple):
    """One of the three answers; `lines` say what it is made of, each with a share of 0 to 1 to be drawn.

    `beside` is what is not in it.
    """

    question: str
    figure: str
    below: str
    lines: tuple[tuple[str, str, float | None], ...]
    note: str
    tone: Tone = ""
    beside: tuple[tuple[str, str], ...] = ()


class Deed(NamedTuple):
    """Something to do: GPU-hours, as GPUs over the window, and money."""

    text: str
    gpu_hours: str
    gpus: str
    cost: str
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """All of it."""

    title: str
    facts: tuple[tuple[str, str], ...]
    badges: tuple[Badge, ...]
    alerts: tuple[str, ...]
    bigs: tuple[Big, ...]
    deeds: tuple[Deed, ...]
    priced: bool


def headline(story: Story) -> Headline:
    """Tell the top of the page."""
    report = story.report
    return Headline(
        title=report.window.label or f"{rfc3339(report.window.from_ms)} to {rfc3339(report.window.to_ms)}",
        facts=tuple(_facts(report)),
        badges=(_identity(report), _coverage(report)),
        alerts=tuple(_alerts(report)),
        bigs=(_wasted(story), _by_whom(story), _worked(story)),
        deeds=tuple(_deed(story, one) for one in report.decisions[:MOST_DECISIONS]),
        priced=report.priced,
    )


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    window, inventory = report.window, report.inventory
    yield "window", local(window)
    yield "in UTC", f"{rfc3339(window.from_ms)} to {rfc3339(window.to_ms)}"
    cost = "" if inventory.cost is None else f" · cost {money(inventory.cost)}"
    yield "inventory", f"{inventory.gpus:,} GPUs · {hours(inventory.gpu_ms)} GPU-h{cost}"
    yield "price", price_of(report)
    revision = f", revision {report.revision.number}" if report.revision else ""
    yield "made", f"{rfc3339(report.made_ms)}{revision}"


def _identity(report: Report) -> Badge:
    if report.identity_ok:
        return Badge("identity", "PASS", "the states of each GPU sum to its time in each hour", "good")
    text = f"{report.violation_count:,} GPU-hours do not add up"
    return Badge("identity", "FAIL", text, "bad")


def _coverage(report: Report) -> Badge:
    ratio = report.coverage_ratio
    if ratio is None:
        return Badge("coverage", "none", "nothing was up", "bad")
    if ratio >= SOUND:
        return Badge("coverage", percent(ratio), "of the time was seen", "good")
    text = "was seen: mind the bounds" if ratio >= POOR else "was seen: too little to compare weeks"
    return Badge("coverage", percent(ratio), text, "fair" if ratio >= POOR else "bad")


def _alerts(report: Report) -> Iterator[str]:
    if not report.identity_ok:
        yield "Do not rely on this report: its accounts do not add up."
    yield from (remark[:1].upper() + remark[1:] for remark in report.remarks)
    if report.revision and report.revision.number > 1:
        yield f"This is revision {revision_of(report.revision)}."
    covered, window = report.covered, report.window
    if (covered.from_ms, covered.to_ms) != (window.from_ms, window.to_ms):
        yield f"Only a part of the window is accounted for: {local(covered)}."
    if report.unread:
        count = len(report.unread)
        what = "a journal" if count == 1 else f"{count:,} journals"
        yield f"The GPUs of {what} are missing from all sums, because it could not be read: see below."


def _cost(report: Report, *states: State) -> float | None:
    costs = [line.cost for line in report.states if line.state in states]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if costs and len(known) == len(costs) else None


def _share(report: Report, gpu_ms: int) -> float | None:
    return gpu_ms / report.inventory.gpu_ms if report.inventory.gpu_ms else None


def _said(report: Report, gpu_ms: int, cost: float | None) -> str:
    text = f"{hours(gpu_ms)} GPU-h · {percent(_share(report, gpu_ms))}"
    return text if cost is None else f"{money(cost)} · {text}"


def _wasted(story: Story) -> Big:
    report = story.report
    states = (State.HELD_IDLE, State.DOWN)
    wasted_ms, cost = report.sums.elapsed_ms(*states), _cost(report, *states)
    amount = f"{hours(wasted_ms)} GPU-h"
    share = f"{percent(_share(report, wasted_ms))} of the inventory, as if {story.gpus(wasted_ms):,.1f} GPUs"
    beside = (State.FREE, State.DRAINED, State.UNKNOWN)
    return Big(
        question="How much was wasted?",
        figure=amount if cost is None else f"{report.prices.currency} {money(cost)}".strip(),
        below=f"{share} did nothing" if cost is None else f"cost of {amount}: {share} did nothing",
        lines=tuple(
            (
                state.value,
                _said(report, report.sums.elapsed_ms(state), _cost(report, state)),
                report.sums.elapsed_ms(state) / wasted_ms if wasted_ms else None,
            )
            for state in states
        ),
        note="",
        tone="bad" if wasted_ms else "good",
        beside=tuple(
            (state.value, _said(report, report.sums.elapsed_ms(state), _cost(report, state)))
            for state in beside
            if report.sums.elapsed_ms(state)
        ),
    )


def _by_whom(story: Story) -> Big:
    report = story.report
    whole_ms = report.sums.elapsed_ms(State.HELD_IDLE)
    lines = [line for line in report.owners if _idle_ms(line)]
    if not lines:
        return Big("By whom?", "nobody", "no owner held a GPU idle beyond patience", (), "", "good")
    first, others = lines[0], lines[1 : 1 + RUNNERS_UP]
    rest, first_ms = lines[1 + RUNNERS_UP :], _idle_ms(first)
    rows = [_owner(line, whole_ms) for line in others]
    if rest:
        rest_ms = sum(_idle_ms(line) for line in rest)
        what = "1 other" if len(rest) == 1 else f"{len(rest):,} others"
        costs = [line.idle_cost for line in rest if line.idle_cost is not None]
        rows.append((what, _amounts(rest_ms, sum(costs) if costs else None), rest_ms / whole_ms))
    nameless = next((line for line in lines if line.owner == UNATTRIBUTED), None)
    note = f"{UNATTRIBUTED}: held, but by whom is not known" if nameless in (first, *others) else ""
    return Big(
        question="By whom?",
        figure=first.owner,
        below=f"{_amounts(first_ms, first.idle_cost)} · {percent(first_ms / whole_ms)} of all idle time",
        lines=tuple(rows),
        note=note,
    )


def _idle_ms(line: OwnerLine) -> int:
    return line.sums.elapsed_ms(State.HELD_IDLE)


def _amounts(gpu_ms: int, cost: float | None) -> str:
    text = f"{hours(gpu_ms)} GPU-h"
    return text if cost is None else f"{money(cost)} · {text}"


def _owner(line: OwnerLine, whole_ms: int) -> tuple[str, str, float | None]:
    idle_ms = _idle_ms(line)
    return line.owner, _amounts(idle_ms, line.idle_cost), idle_ms / whole_ms if whole_ms else None


def _worked(story: Story) -> Big:
    report = story.report
    low, high = report.effective_ratio
    figure = percent(low)
    if low is not None and high is not None and high - low >= BOUNDS_DIFFER:
        figure = f"{low * 100:,.1f}–{percent(high)}"  # noqa: RUF001  a range
    active_ms = report.sums.elapsed_ms(State.ACTIVE)
    known = State.UNKNOWN not in report.sums.by_state or not report.sums.elapsed_ms(State.UNKNOWN)
    lines = [
        ("active", _said(report, active_ms, _cost(report, State.ACTIVE)), _share(report, active_ms)),
        ("busy", f"{percent(report.busy_ratio_mean)} of the time that was seen", report.busy_ratio_mean),
    ]
    return Big(
        question="How much did work?",
        figure=figure,
        below="effective use: busy time over the inventory" + ("" if known else ", unknown as 0 and as 1"),
        lines=tuple(lines),
        note=_since_last(story),
    )


def _since_last(story: Story) -> str:
    found: Score | None = next((one for one in story.sections.scores if one.name == "effective"), None)
    if found is None or found.value is None or found.last is None:
        return ""
    change = f"{signed((found.value - found.last) * 100)} points since {story.names.last}"
    return f"{change}: {found.verdict}" if found.verdict != "unknown" else f"{change}, which may mean nothing"


def _deed(story: Story, one: Decision) -> Deed:
    cost = "" if one.cost is None else money(one.cost)
    return Deed(
        text=one.text[:1].upper() + one.text[1:],
        gpu_hours=f"{hours(one.gpu_ms)} GPU-h" if one.gpu_ms else "",
        gpus=f"{story.gpus(one.gpu_ms):,.1f} GPUs" if one.gpu_ms else "",
        cost=cost,
        anchor=_CHAPTERS.get(one.kind, ""),
    )
