"""What planners and owners are told of a week: the answers of the report, or an owner's own lines alone."""

from collections.abc import Iterator

from agent.tally import HOUR_MS
from agent.tick import State, said
from gputally.letter import Answer, Block, Head, Letter
from reports.forms.headline import headline
from reports.forms.links import Unlinked
from reports.forms.story import Story, local
from reports.outline import OwnerLine, Report, SpellLine
from reports.prices import NOT_YOURS
from reports.sections import Sections, SizeLine, WasteLine
from reports.window import at, zone
from reports.wording import NONE, cut, hours, money, percent, printable

MOST_OWNERS = 15
MOST_SPELLS = 10
MOST_SIZES = 5
MOST_STILL = 5
LONGEST_NAME = 60
"""Cells of a name in a subject."""
IDLE = (
    "Idle is what was held without activity for longer than the patience of its class of work; normal pauses "
    "are not in it, nor is time that nobody saw."
)
ADVICE = (
    "Let work give its GPUs back as it ends, and sessions when nobody sits at them; if something must wait "
    "for requests, ask for the class serving, whose patience is longer."
)


def to_planners(report: Report, week: str, left_out: tuple[str, ...] = ()) -> Letter:
    """Tell the answers of a report; `left_out` says what is not attached, and why."""
    found = report.sections
    story = Story(
        report=report,
        sections=found or Sections(),
        has_sections=found is not None,
        links=Unlinked(),
    )
    head = headline(story)
    return Letter(
        subject=_subject(report, week),
        title=f"GPU time, {head.title}",
        below=f"{local(report.window)}; {report.inventory.gpus:,} GPUs",
        alerts=head.alerts,
        answers=tuple(Answer(big.question, big.figure, big.below, big.tone == "bad") for big in head.bigs),
        deeds=tuple(
            f"{deed.text}. [{', '.join(filter(None, (deed.gpu_hours, deed.cost and f'cost {deed.cost}')))}]"
            for deed in head.deeds
        ),
        blocks=(_states(report), *_owners(report)),
        notes=(*(f"Not attached: {text}." for text in left_out), *_trust(report)),
    )


def to_owner(report: Report, week: str, line: OwnerLine, why: str) -> Letter:
    """Tell an owner what it held, and nothing of others; `why` says why it gets this."""
    owner = line.owner
    found = report.sections or Sections()
    waste = next((one for one in found.waste if one.owner == owner), None)
    spells = [one for one in report.spells if one.spell.owner == owner]
    sizes = [one for one in found.sizes if one.owner == owner]
    idle_ms = line.sums.elapsed_ms(State.HELD_IDLE)
    name = cut(printable(owner), LONGEST_NAME)
    return Letter(
        subject=f"GPUs held idle by {name}, week {week}: {idle_ms / HOUR_MS:,.0f} GPU-hours"
        f"{_in_brackets(report, line.idle_cost)}",
        title=f"GPUs held idle by {owner}, week {week}",
        below=local(report.window),
        alerts=tuple(f"{text[:1].upper()}{text[1:]}." for text in report.remarks),
        answers=(
            Answer(
                "Held without using them:",
                f"{hours(idle_ms)} GPU-h",
                _meaning(report, line, idle_ms),
                bad=True,
            ),
        ),
        deeds=tuple(_deeds(report, spells, sizes)),
        blocks=(_account(report, line, waste), *_spells(report, spells), *_sizes(sizes)),
        notes=(
            IDLE,
            *((f"Costs are at a {NOT_YOURS}.",) if report.prices.is_default else ()),
            why,
        ),
    )


def _subject(report: Report, week: str) -> str:
    costs = [line.idle_cost for line in report.owners if line.idle_cost is not None]
    owed_ms, active_ms = report.inventory.gpu_ms, report.sums.elapsed_ms(State.ACTIVE)
    share = f"{active_ms / owed_ms * 100:.0f} %" if owed_ms else "an unknown part"
    return (
        f"GPU week {week}: {'' if report.identity_ok else 'accounts do not add up; '}"
        f"{share} of {owed_ms / HOUR_MS:,.0f} GPU-hours worked, "
        f"{report.sums.elapsed_ms(State.HELD_IDLE) / HOUR_MS:,.0f} held idle"
        f"{_in_brackets(report, sum(costs) if costs else None)}"
    )


def _in_brackets(report: Report, cost: float | None) -> str:
    """Say a cost in a subject: whole, in its currency where that is known."""
    if cost is None:
        return ""
    default = ", default prices" if report.prices.is_default else ""
    return f" ({report.prices.currency or 'cost'} {cost:,.0f}{default})"


def _cost(report: Report, cost: float | None) -> str:
    return f"{money(cost)} {report.prices.currency}".strip()


def _states(report: Report) -> Block:
    return Block(
        title="Hours by state",
        heads=(
            Head("state", "text"),
            Head("GPU-h", "amount"),
            Head("share", "amount"),
            *((Head(report.prices.title, "amount"),) if report.priced else ()),
        ),
        rows=tuple(
            (
                line.state.value,
                hours(line.amounts.elapsed_ms),
                percent(line.share_ratio),
                *((money(line.cost),) if report.priced else ()),
            )
            for line in report.states
        ),
    )


def _owners(report: Report) -> Iterator[Block]:
    lines = [line for line in report.owners if line.sums.elapsed_ms(State.HELD_IDLE)]
    if not lines:
        return
    more = len(lines) - MOST_OWNERS
    yield Block(
        title="Who held GPUs idle",
        heads=(
            Head("owner"),
            Head("idle GPU-h", "amount"),
            Head("active GPU-h", "amount"),
            *((Head(f"{report.prices.title} of idle", "amount"),) if report.priced else ()),
        ),
        rows=tuple(
            (
                line.owner,
                hours(line.sums.elapsed_ms(State.HELD_IDLE)),
                hours(line.sums.elapsed_ms(State.ACTIVE)),
                *((money(line.idle_cost),) if report.priced else ()),
            )
            for line in lines[:MOST_OWNERS]
        ),
        note=f"{more:,} more are in the report." if more > 0 else "",
    )


def _trust(report: Report) -> Iterator[str]:
    identity = "PASS" if report.identity_ok else "FAIL"
    yield (
        f"Identity {identity}: the states of each GPU sum to its time in each hour. "
        f"Coverage {percent(report.coverage_ratio)}. Wasted is what was held idle or down."
    )
    if report.prices.note:
        yield report.prices.note


def _meaning(report: Report, line: OwnerLine, idle_ms: int) -> str:
    held_ms = line.sums.elapsed_ms(State.ACTIVE, State.HELD_GAP, State.HELD_IDLE, State.SERVICE)
    share = f"{percent(idle_ms / held_ms)} of {hours(held_ms)} GPU-hours held" if held_ms else ""
    return share if line.idle_cost is None else f"cost {_cost(report, line.idle_cost)}; {share}"


def _account(report: Report, line: OwnerLine, waste: WasteLine | None) -> Block:
    rows = [
        ("active", f"{hours(line.sums.elapsed_ms(State.ACTIVE))} GPU-h"),
        ("normal pauses", f"{hours(line.sums.elapsed_ms(State.HELD_GAP))} GPU-h"),
        ("idle", f"{hours(line.sums.elapsed_ms(State.HELD_IDLE))} GPU-h"),
        ("busy", f"{percent(line.sums.total.busy_ratio_mean)} of the time that was seen"),
    ]
    if line.cost is not None:
        rows.append(("cost", f"{_cost(report, line.cost)}, of it for idle time {money(line.idle_cost)}"))
    if waste and waste.idle_last_ms is not None:
        rows.append(("idle the week before", f"{hours(waste.idle_last_ms)} GPU-h"))
    if waste and waste.weeks > 1:
        rows.append(("stands out", f"{waste.weeks} weeks in a row"))
    return Block(title="Your hours", rows=tuple(rows))


def _where(line: SpellLine) -> str:
    return f"{line.node} GPU {line.spell.uuid if line.index is None else line.index}".strip()


def _deeds(report: Report, spells: list[SpellLine], sizes: list[SizeLine]) -> Iterator[str]:
    still = [one for one in spells if not one.spell.ended]
    for one in still[:MOST_STILL]:
        spell = one.spell
        yield (
            f"{said(spell.kind, spell.holder) or 'somebody'} on {_where(one)}: without activity for "
            f"{hours(spell.seen_ms)} h, and it had not ended when this was written. Use it or end it."
        )
    if len(still) > MOST_STILL:
        yield f"{len(still) - MOST_STILL:,} more had not ended either: look at the longest of them below."
    for size in sizes[:MOST_SIZES]:
        yield (
            f"{size.holder}: {size.advice}; {hours(size.saving_ms)} GPU-h could have been spared"
            f"{'' if size.cost is None else f', cost {_cost(report, size.cost)}'}."
        )
    yield ADVICE


def _spells(report: Report, spells: list[SpellLine]) -> Iterator[Block]:
    if not spells:
        return
    where = zone(report.window.timezone)
    yield Block(
        title="Your longest spells without activity",
        heads=(
            Head("GPU"),
            Head("holder"),
            Head("user"),
            Head("began", "text"),
            Head("hours", "amount"),
            Head("beyond patience", "amount"),
        ),
        rows=tuple(
            (
                _where(one),
                said(one.spell.kind, one.spell.holder),
                one.spell.user or NONE,
                f"{at(one.spell.start_ms, where):%a %d %b %H:%M}",
                hours(one.spell.seen_ms),
                hours(one.spell.beyond_ms) + ("" if one.spell.ended else " so far"),
            )
            for one in spells[:MOST_SPELLS]
        ),
        note=f"Times are of {report.window.timezone}; whole spells, also outside the week.",
    )


def _sizes(sizes: list[SizeLine]) -> Iterator[Block]:
    if not sizes:
        return
    yield Block(
        title="What could do with less",
        heads=(
            Head("holder"),
            Head("model"),
            Head("GPU-h", "amount"),
            Head("activity", "amount"),
            Head("advice", "text"),
        ),
        rows=tuple(
            (one.holder, one.model, hours(one.gpu_ms), percent(one.activity_mean), one.advice)
            for one in sizes[:MOST_SIZES]
        ),
    )
