"""The chapters on who: waste by owner, the accounts of owners, holders that could do with less."""

from collections.abc import Iterator

from agent.states import UNATTRIBUTED
from agent.tick import State, said
from reports.forms.cells import by_waste
from reports.forms.grid import (
    Block,
    Cell,
    Head,
    Note,
    Row,
    Table,
    change_cell,
    energy_cell,
    hours_cell,
    money_cell,
    number_cell,
    percent_cell,
)
from reports.forms.story import MOST_ROWS, Story, index_cell
from reports.outline import GpuLine, OwnerLine, SpellLine
from reports.sections import SizeLine, WasteLine
from reports.sums import HELD_BY_SOMEONE, Amounts, ratio
from reports.wording import NONE

GIB = 2.0**30
MOST_SPELLS = 20
_SPELL_HEADS = (
    *(Head("node", "name"), Head("#"), Head("GPU", "id"), Head("owner", "name"), Head("holder", "name")),
    *(Head("began", "moment"), Head("seen h"), Head("beyond patience h"), Head("", "text")),
)
_OWNER_HEADS = (
    *(Head("owner", "name"), Head("held GPU-h"), Head("of inventory"), Head("active"), Head("gap")),
    *(Head("idle"), Head("service"), Head("idle of held"), Head("busy"), Head("kWh")),
    *(Head("cost", "money"), Head("of it idle", "money")),
)


def _gibibytes(amount: float | None) -> Cell:
    return number_cell(None if amount is None else amount / GIB, 1)


def _waste_heads(last: str) -> tuple[Head, ...]:
    return (
        *(Head("rank"), Head("owner", "name"), Head("idle GPU-h"), Head("of inventory")),
        *(Head("cost", "money"), Head(last), Head("change"), Head("weeks in a row")),
        *(Head("worst holder", "name"), Head("its node", "name"), Head("its GPU", "id")),
        *(Head("idle h"), Head("GiB held")),
    )


def waste(story: Story) -> Iterator[Block]:
    """Rank owners by what they held idle, each with its worst holder."""
    lines = story.sections.waste
    if lines:
        most_ms = max(line.idle_ms for line in lines) or 1
        yield Table(
            caption="Owners by GPU-hours held idle beyond patience",
            heads=_waste_heads(story.names.last),
            rows=[_waste(story, rank, line, most_ms) for rank, line in enumerate(lines[:MOST_ROWS], 1)],
            left_out=max(0, len(lines) - MOST_ROWS),
            what="owners",
        )
    spells = story.report.spells
    if spells:
        yield Table(
            caption="Longest idle spells: their whole life, also outside the window",
            heads=_SPELL_HEADS,
            rows=[_spell(story, line) for line in spells[:MOST_SPELLS]],
            left_out=max(0, len(spells) - MOST_SPELLS),
            what="spells",
        )
    why = story.why_absent("waste")
    if why:
        yield Note(sentences=[f"What owners held idle is told {'in part only' if lines else 'below'}: {why}"])
    if not (lines or spells or why):
        yield Note(sentences=["Nobody held a GPU idle beyond patience."])


def _waste(story: Story, rank: int, line: WasteLine, most_ms: int) -> Row:
    change_ms = None if line.idle_last_ms is None else line.idle_ms - line.idle_last_ms
    return [
        Cell(str(rank), rank),
        story.owner_cell(line.owner),
        hours_cell(line.idle_ms, share=line.idle_ms / most_ms),
        percent_cell(line.share_ratio),
        money_cell(line.cost),
        hours_cell(line.idle_last_ms),
        change_cell(change_ms),
        number_cell(line.weeks),
        Cell(line.holder or NONE),
        story.node_cell(line.node),
        story.gpu_cell(line.uuid),
        hours_cell(line.spell_ms),
        _gibibytes(line.memory_bytes),
    ]


def _spell(story: Story, line: SpellLine) -> Row:
    spell = line.spell
    return [
        story.node_cell(line.node),
        index_cell(line.index),
        story.gpu_cell(spell.uuid),
        story.owner_cell(spell.owner),
        Cell(said(spell.kind, spell.holder)),
        story.moment_cell(spell.start_ms),
        hours_cell(spell.seen_ms),
        hours_cell(spell.beyond_ms),
        Cell("" if spell.ended else "goes on"),
    ]


def owners(story: Story) -> Iterator[Block]:
    """Give each owner's account; with what nobody held they sum to the inventory."""
    report = story.report
    lines = list(report.owners[:MOST_ROWS])
    if all(line.owner != UNATTRIBUTED for line in lines):
        lines += [line for line in report.owners if line.owner == UNATTRIBUTED]
    whole_ms = report.inventory.gpu_ms
    held = sum(line.sums.total.elapsed_ms for line in report.owners)
    rest_ms = report.sums.total.elapsed_ms - held
    yield Table(
        caption="Accounts of the owners, most idle first; amounts of time in GPU-h",
        heads=_OWNER_HEADS,
        rows=[_owner(story, line, whole_ms) for line in lines],
        foot=[
            _owners_sum(story),
            [Cell("held by nobody"), *_of_inventory(rest_ms, whole_ms)],
            [Cell("sum"), *_of_inventory(held + rest_ms, whole_ms)],
        ],
        left_out=len(report.owners) - len(lines),
        what="owners",
    )
    yield Note(
        sentences=[
            f"The owner {UNATTRIBUTED} stands for GPUs that someone held whose name is not known.",
            "Held by nobody: free, drained, down or unknown.",
        ]
    )


def _of_inventory(gpu_ms: int, whole_ms: int) -> Row:
    """Show time and its share, and nothing in the columns that only an owner has."""
    return [hours_cell(gpu_ms), percent_cell(ratio(gpu_ms, whole_ms)), *[Cell("")] * (len(_OWNER_HEADS) - 3)]


def _owner(story: Story, line: OwnerLine, whole_ms: int) -> Row:
    total = line.sums.total
    idle_ms = line.sums.elapsed_ms(State.HELD_IDLE)
    share = ratio(idle_ms, total.elapsed_ms)
    return [
        story.owner_cell(line.owner),
        hours_cell(total.elapsed_ms),
        percent_cell(ratio(total.elapsed_ms, whole_ms)),
        hours_cell(line.sums.elapsed_ms(State.ACTIVE)),
        hours_cell(line.sums.elapsed_ms(State.HELD_GAP)),
        hours_cell(idle_ms),
        hours_cell(line.sums.elapsed_ms(State.SERVICE)),
        percent_cell(share, share=share or 0.0),
        percent_cell(total.busy_ratio_mean),
        energy_cell(total.joules),
        money_cell(line.cost),
        money_cell(line.idle_cost),
    ]


def _owners_sum(story: Story) -> Row:
    report = story.report
    whole = sum((line.sums.total for line in report.owners), Amounts())
    by_state = {
        state: sum(line.sums.elapsed_ms(state) for line in report.owners) for state in HELD_BY_SOMEONE
    }
    costs = [line.cost for line in report.owners if line.cost is not None]
    idle_costs = [line.idle_cost for line in report.owners if line.idle_cost is not None]
    return [
        Cell("all owners"),
        hours_cell(whole.elapsed_ms),
        percent_cell(ratio(whole.elapsed_ms, report.inventory.gpu_ms)),
        hours_cell(by_state[State.ACTIVE]),
        hours_cell(by_state[State.HELD_GAP]),
        hours_cell(by_state[State.HELD_IDLE]),
        hours_cell(by_state[State.SERVICE]),
        percent_cell(ratio(by_state[State.HELD_IDLE], whole.elapsed_ms)),
        percent_cell(whole.busy_ratio_mean),
        energy_cell(whole.joules),
        money_cell(sum(costs) if costs else None),
        money_cell(sum(idle_costs) if idle_costs else None),
    ]


def gpus(story: Story) -> Iterator[Block]:
    """List the GPUs that lost most of their time."""
    lines = by_waste(story.report)
    heads = [Head("node", "name"), Head("#"), Head("GPU", "id"), Head("model", "name"), Head("held_idle")]
    heads += [
        Head("down"),
        Head("unknown"),
        Head("free"),
        Head("active"),
        Head("busy"),
        Head("longest spell h"),
    ]
    yield Table(
        caption="GPUs by time held idle, down or unknown; in h",
        heads=heads,
        rows=[_gpu(story, line) for line in lines[:MOST_ROWS]],
        left_out=max(0, len(lines) - MOST_ROWS),
        what="GPUs",
    )


def _gpu(story: Story, line: GpuLine) -> Row:
    order = (State.HELD_IDLE, State.DOWN, State.UNKNOWN, State.FREE, State.ACTIVE)
    return [
        story.node_cell(line.node),
        index_cell(line.index),
        story.gpu_cell(line.uuid),
        Cell(line.model or NONE),
        *(hours_cell(line.sums.elapsed_ms(state)) for state in order),
        percent_cell(line.sums.total.busy_ratio_mean),
        hours_cell(line.longest_spell_ms),
    ]


def sizes(story: Story) -> Iterator[Block]:
    """List holders that could have done with less."""
    lines = story.sections.sizes
    heads = [Head("owner", "name"), Head("holder", "name"), Head("model", "name"), Head("GPU-h")]
    heads += [
        Head("activity"),
        Head("most GiB"),
        Head("advice", "text"),
        Head("saves GPU-h"),
        Head("saves cost", "money"),
    ]
    yield Table(
        caption="Holders that could have done with less",
        heads=heads,
        rows=[_size(story, line) for line in lines[:MOST_ROWS]],
        left_out=max(0, len(lines) - MOST_ROWS),
        what="holders",
    )


def _size(story: Story, line: SizeLine) -> Row:
    return [
        story.owner_cell(line.owner),
        Cell(line.holder or NONE),
        Cell(line.model or NONE),
        hours_cell(line.gpu_ms),
        percent_cell(line.activity_mean),
        _gibibytes(line.memory_max_bytes),
        Cell(line.advice),
        hours_cell(line.saving_ms),
        money_cell(line.cost),
    ]
