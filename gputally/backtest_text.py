"""What a backtest found, as a text for people."""

from collections import Counter
from collections.abc import Iterator
from textwrap import fill

from agent.tally import HOUR_MS
from agent.tick import said
from gputally.backtested import Told
from gputally.tables import NONE, columns, duration, hours, tidy
from reports.window import rfc3339
from rules.outcome import Case, Outcome, RuleOutcome, Side
from rules.words import length_in_words

WIDTH = 110
TOP = 3
"""So many owners, and holders, of a rule are named in the text."""
LONGEST_NAME = 32
NOBODY = "nobody known"
_HEAD = ("RULE", "FINDINGS", "TIMES", "GPUS", "GPU-HOURS", "MEDIAN", "LONGEST", "STILL OPEN")
_CHANGES = ("WHAT CHANGES", "FINDINGS", "PRESENT", "MORE", "FEWER", "GPU-HOURS", "PRESENT", "MORE", "FEWER")
_MARKS = {True: "+", False: "-", None: " "}


def as_text(told: Told) -> str:
    """Give all of it for a person."""
    outcome = told.outcome
    parts = ["\n".join(_summary(told))]
    found = [one for one in outcome.rules.rules.values() if one.findings and told.wants(one.rule.name)]
    if found:
        parts.append(columns(_HEAD, [_row(one) for one in found], _HEAD[1:]))
        parts.append("\n".join(["on whom, in GPU-hours:", *map(_on_whom, found)]))
    changes = [_change(outcome, name) for name in told.changed()]
    if changes:
        parts.append(columns(_CHANGES, changes, _CHANGES[1:]))
    if told.with_findings:
        parts += ["\n".join(_finding_lines(told, *one)) for one in told.findings()]
    return "\n\n".join(parts)


def _summary(told: Told) -> Iterator[str]:
    outcome = told.outcome
    yield (
        f"{rfc3339(told.from_ms)} to {rfc3339(told.to_ms)}: {outcome.intervals:,} intervals of "
        f"{length_in_words(told.pace.interval_ms / 1000)}, {_many(outcome.gpus, 'GPU')} on "
        f"{_many(outcome.nodes, 'node')}, {hours(outcome.observed_ms / HOUR_MS)} GPU-hours"
    )
    if told.looked_back_ms:
        yield f"{duration(told.looked_back_ms)} before that were read for what was pending or open then"
    else:
        yield "what was pending or open before that is not known"
    uneven, all_of = told.pace.uneven, told.pace.intervals
    if uneven:
        yield f"{uneven:,} of {all_of:,} intervals are much longer or shorter than others"
    if told.left_out:
        yield f"{_many(told.left_out, 'rule')} about nodes, not GPUs, are left out: no past of that is kept"
    name = tidy(_name(told.name.rpartition("/")[2]))
    yield f"{name}: {_fired(told, outcome.rules)}"
    if outcome.is_same:
        yield f"present rules: the same; {name} changes nothing that judges GPUs"
    if outcome.present is None:
        return
    yield f"present rules: {_fired(told, outcome.present)}"
    new = sum(one.alone for one in outcome.rules.rules.values())
    gone = sum(one.alone for one in outcome.present.rules.values())
    both = len(outcome.rules.cases) - new
    if any(map(outcome.has_changed, outcome.names())):
        yield f"difference: {_many(new, 'finding')} more, {gone:,} fewer, {both:,} by both"
    else:
        yield "the rules differ, but what they find is the same"


def _fired(told: Told, side: Side) -> str:
    if not side.cases:
        return f"none of {len(side.rules)} rules fired"
    length = hours(side.covered_ms / HOUR_MS)
    return (
        f"{side.fired} of {len(side.rules)} rules fired on {side.gpus} of {_many(told.outcome.gpus, 'GPU')}: "
        f"{_many(len(side.cases), 'finding')}, {length} GPU-hours{_money(told, side.covered_ms)}"
    )


def _money(told: Told, open_ms: int) -> str:
    return f", {told.price * open_ms / HOUR_MS:,.2f} at {told.price:g} an hour" if told.price else ""


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _row(one: RuleOutcome) -> tuple[str, ...]:
    return (
        _name(one.rule.name),
        f"{one.findings:,}",
        f"{one.times:,}",
        f"{one.gpus:,}",
        _amount(one.open_ms),
        duration(one.median_ms),
        duration(one.longest_ms),
        f"{one.still_open:,}",
    )


def _on_whom(one: RuleOutcome) -> str:
    owners: Counter[str] = Counter()
    holders: Counter[str] = Counter()
    for seat, open_ms in one.whom.items():
        owners[f"{_name(seat.owner)} ({seat.workload})" if seat else NOBODY] += open_ms
        if seat:
            holders[_name(said(seat.kind, seat.name)) or f"({seat.kind})"] += open_ms
    line = f"{one.rule.name}: {_top(owners)}"
    if holders:
        line += f"; held by {_top(holders)}"
    return fill(tidy(line), WIDTH, initial_indent="  ", subsequent_indent="      ")


def _name(text: str) -> str:
    """Shorten a name that somebody chose."""
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def _top(amounts: Counter[str]) -> str:
    named = [f"{name} {_amount(open_ms)}" for name, open_ms in amounts.most_common(TOP)]
    rest = len(amounts) - len(named)
    if rest > 0:
        rest_ms = amounts.total() - sum(open_ms for _, open_ms in amounts.most_common(TOP))
        named.append(f"{_many(rest, 'other')} {_amount(rest_ms)}")
    return ", ".join(named) or NONE


def _change(outcome: Outcome, name: str) -> tuple[str, ...]:
    now, before = outcome.pair(name)
    both_ms = outcome.both_ms.get(name, 0)
    return (
        _name(name),
        f"{now.findings:,}",
        f"{before.findings:,}",
        f"+{now.alone:,}" if now.alone else NONE,
        f"-{before.alone:,}" if before.alone else NONE,
        _amount(now.open_ms),
        _amount(before.open_ms),
        f"+{_amount(now.open_ms - both_ms)}" if now.open_ms > both_ms else NONE,
        f"-{_amount(before.open_ms - both_ms)}" if before.open_ms > both_ms else NONE,
    )


def _amount(open_ms: int) -> str:
    """Say GPU-hours in a column."""
    return f"{open_ms / HOUR_MS:,.2f}"


def _finding_lines(told: Told, is_new: bool | None, case: Case) -> Iterator[str]:  # noqa: FBT001  a mark
    one = case.finding
    until = "still open" if one.closed_ms is None else f"to {rfc3339(one.closed_ms)}"
    times = f", {one.times} times" if one.times > 1 else ""
    yield f"{_MARKS[is_new]} {rfc3339(one.opened_ms)} {until}  {one.severity}: {one.rule}"
    yield (
        f"    {tidy(one.node)} {tidy(one.uuid)} for {duration(case.open_ms)}{times}: "
        f"{hours(case.open_ms / HOUR_MS)} GPU-hours{_money(told, case.open_ms)}"
    )
    if one.held_by:
        yield fill(
            f"held then by {tidy(one.held_by)}", WIDTH, initial_indent="    ", subsequent_indent="      "
        )
    yield fill(tidy(one.summary), WIDTH, initial_indent="    ", subsequent_indent="      ")
