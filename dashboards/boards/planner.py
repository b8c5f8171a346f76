"""What a capacity planner decides by: the weekly report's figures, from the same accounts, at any time."""

from collections.abc import Mapping

from agent.tick import State
from dashboards.boards.capacity import capacity
from dashboards.boards.common import COLOURS, NEUTRAL, SHARE, by_state, of_fleet
from dashboards.boards.owners import HELD_STATES, named
from dashboards.boards.spans import CHOSEN, OUT, TAKEN, Span
from dashboards.outline import Board, Config, Panel, Query, Row, Shortcut, Step
from dashboards.recorded import BUSY_HOURS, OWNER_HOURS, STATE_HOURS, THROTTLED

MOST = 20
FOUR_WEEKS = "4w"


def planner(config: Config) -> Board:
    """Make the dashboard."""
    return Board(
        name="planner",
        title="gputally / Planner",
        says="Where the GPU-hours went, what was wasted, by whom, and when more GPUs are needed. "
        "'The report's week' is that of the last weekly report, in the time zone of the dashboard. It "
        "sums up whole hours, so up to an hour may fall to either side; the report itself is exact.",
        variables=of_fleet(config),
        rows=(
            Row("The time chosen at the top", _now(config)),
            Row("Better or worse", _ladder(config)),
            Row("Where the hours went", _states(config)),
            Row("Room for more", capacity(config)),
            Row("Who could give hours back", _owners(config)),
            Row("What heat, faults and energy took", _taken(config)),
        ),
        since="now-7d",
        shortcuts=(Shortcut("The report's week", "now-1w/w", "now-1w/w"),),
    )


def _now(config: Config) -> tuple[Panel, ...]:
    span = Span(config)
    idle = span.hours(State.HELD_IDLE)
    return (
        _stat(
            "GPU-hours owed",
            "GPU-hours that the GPUs owe: each counts for a day after it was last heard of.",
            "none",
            span.owed,
        ),
        _stat(
            "Effective utilisation",
            "Busy time over all time of all GPUs; what was not seen counts as not busy. The ladder below "
            "says where the rest was lost.",
            "percentunit",
            span.effective,
        ),
        _stat(
            "Coverage",
            "Share of the time of GPUs that were not down of which it is known what they did. Below 98 % all "
            "other figures are in doubt, below 90 % do not compare them.",
            "percentunit",
            span.coverage,
            SHARE,
        ),
        _stat(
            "Idle GPU-hours",
            "GPU-hours that somebody held beyond any usual pause and did not use. High: talk to the owners "
            "below before you buy.",
            "none",
            idle,
        ),
        _stat(
            "Idle money",
            f"What these cost, at {config.price:g} for a GPU-hour (`gputally dashboards build --price`). The "
            "report knows prices of models and dates.",
            "currencyUSD",
            f"{idle} * {config.price:g}",
        ),
        _stat(
            "Energy",
            "Energy of the GPUs as far as it was seen, without hosts and cooling. High at a low effective "
            "utilisation: GPUs kept awake for nothing.",
            "watth",
            span.watt_hours,
        ),
    )


def _stat(title: str, says: str, unit: str, expr: str, steps: tuple[Step, ...] = NEUTRAL) -> Panel:
    return Panel(
        title=title,
        says=says,
        kind="stat",
        unit=unit,
        queries=(Query(expr, instant=True),),
        width=4,
        height=4,
        steps=steps,
        decimals=1,
    )


def _ladder(config: Config) -> tuple[Panel, ...]:
    now = Span(config)
    before = Span(config, ago=CHOSEN)
    mean = Span(config, length=FOUR_WEEKS, ago=CHOSEN)
    hourly = STATE_HOURS.of(config, config.of_group)
    return (
        Panel(
            title="Ladder",
            says="Each step is a share of the one before: of the inventory available, of that seen, of that "
            "held, of that active, and how busy while active. Look where it is lowest, or fell most. Before "
            "is as long a time before this; the last column is of the four weeks before.",
            kind="table",
            unit="percentunit",
            queries=tuple(
                Query(_rows(span.ladder), title, instant=True)
                for title, span in (("Now", now), ("Before", before), ("Four weeks", mean))
            ),
            width=10,
            height=10,
            decimals=1,
            labels=(("figure", "Figure"),),
            by_name=True,
        ),
        Panel(
            title="GPUs by state, by the hour",
            says="Shares of the GPUs that tell of themselves, hour by hour. Much held_idle at night: kept "
            "for the day; much free at the weekend: room for batch work.",
            kind="timeseries",
            unit="percentunit",
            queries=tuple(
                one._replace(expr=f"{one.expr} / on () group_left () sum({hourly})")
                for one in by_state(config, STATE_HOURS)
            ),
            width=14,
            height=10,
            stacked=True,
            least=0,
            most=1,
            colours=COLOURS,
        ),
    )


def _rows(figures: Mapping[str, str]) -> str:
    """Put figures under each other, each with its name."""
    return " or ".join(f'label_replace({expr}, "figure", "{name}", "", "")' for name, expr in figures.items())


def _by_state(span: Span) -> str:
    """Give GPU-hours by state; what nobody told of is unknown as well."""
    config = span.config
    told = f"sum by (state) ({STATE_HOURS.hours(span.length, config, config.of_group, span.ago)})"
    known = f'{told} unless on (state) label_replace(vector(0), "state", "{State.UNKNOWN}", "", "")'
    unknown = f'label_replace({span.unknown}, "state", "{State.UNKNOWN}", "", "")'
    return f"(({known}) or {unknown})"


def _states(config: Config) -> tuple[Panel, ...]:
    now, before = Span(config), Span(config, ago=CHOSEN)
    hours = _by_state(now)
    group = (config.pool_label, "model")
    of_group, was = Span(config, by=group), Span(config, by=group, ago=CHOSEN)
    columns = (
        ("GPU-hours", of_group.owed, "none"),
        ("Effective", of_group.effective, ""),
        ("Before", was.effective, ""),
        ("Held", of_group.share(*TAKEN), ""),
        ("Held idle", of_group.share(State.HELD_IDLE), ""),
        ("Free", of_group.share(State.FREE), ""),
        ("Out", of_group.share(*OUT), ""),
        ("Unknown", of_group.ratio(of_group.unknown, of_group.owed), ""),
    )
    return (
        Panel(
            title="All GPU-hours",
            says="Each hour of each GPU is in exactly one row, so that shares sum to the whole. Unknown is "
            "what nobody saw. Free is spare, held_idle is waste, down is lost.",
            kind="table",
            unit="percentunit",
            queries=(
                Query(hours, "GPU-hours", instant=True, unit="none"),
                Query(f"{hours} / on () group_left () ({now.owed} > 0)", "Share", instant=True),
                Query(
                    f"{_by_state(before)} / on () group_left () ({before.owed} > 0)", "Before", instant=True
                ),
                Query(f"{hours} * {config.price:g}", "Cost", instant=True, unit="currencyUSD"),
            ),
            width=10,
            height=11,
            decimals=1,
            labels=(("state", "State"),),
        ),
        Panel(
            title="By pool and model",
            says="The largest first: what of their time GPUs were busy, now and before, held, idle, free, "
            "out (down or drained) and not seen. Much free in one pool while another is full: lend; a model "
            "that stays low was bought too often.",
            kind="table",
            unit="percentunit",
            queries=tuple(Query(expr, title, instant=True, unit=unit) for title, expr, unit in columns),
            width=14,
            height=11,
            decimals=1,
            labels=((config.pool_label, "Pool"), ("model", "Model")),
        ),
    )


def _owners(config: Config) -> tuple[Panel, ...]:
    def idle(ago: str = "") -> str:
        chosen = f'{config.of_group}, state="{State.HELD_IDLE}"'
        return f"(sum by (owner) ({OWNER_HOURS.hours(CHOSEN, config, chosen, ago)}) > 0)"

    of_held = OWNER_HOURS.hours(CHOSEN, config, f'{config.of_group}, state=~"{HELD_STATES}"')
    held = f"(sum by (owner) ({of_held}) > 0)"
    busy = f"sum by (owner) ({BUSY_HOURS.hours(CHOSEN, config, config.of_group)})"
    most = f"topk({MOST}, {idle()})"
    columns = (
        ("Idle GPU-hours", most, "none"),
        ("Cost", f"{most} * {config.price:g}", "currencyUSD"),
        ("Idle before", f"{idle(CHOSEN)} and on (owner) {most}", "none"),
        ("Of what they held", f"{most} / {held}", ""),
        ("Busy", f"({busy} or 0 * {held}) / {held} and on (owner) {most}", ""),
    )
    return (
        Panel(
            title="Owners by idle hours",
            says=f"The {MOST} owners with most GPU-hours held idle, what these cost, how many there were in "
            "as long a time before, and how busy all that they held was. The first rows are often most of "
            "it. Empty: nothing was held idle.",
            kind="table",
            unit="percentunit",
            queries=tuple(
                Query(named(expr), title, instant=True, unit=unit) for title, expr, unit in columns
            ),
            width=24,
            height=10,
            quiet=True,
            decimals=1,
            labels=(("owner", "Owner"),),
        ),
    )


def _taken(config: Config) -> tuple[Panel, ...]:
    pool = config.pool_label
    by_pool = Span(config, by=(pool,))
    throttled = THROTTLED.hours(CHOSEN, config, f'{config.of_group}, reason!="low_utilization"')
    return (
        _bars(
            "GPU-hours with lowered clocks",
            "GPU-hours in which the driver lowered clocks, by reason; an hour may have several. power_cap at "
            "full load is usual; heat or power_brake means cooling or supply take work away. Empty is well.",
            "none",
            Query(f"sum by (reason) ({throttled}) > 0", "{{reason}}", instant=True),
            quiet=True,
        ),
        _bars(
            "GPU-hours down or drained",
            "GPU-hours lost to faults, or taken out on purpose, by pool. High: look at Health and RMA before "
            "you buy more of the same. Empty is well.",
            "none",
            Query(f"{by_pool.hours(*OUT)} > 0", f"{{{{{pool}}}}}", instant=True),
            quiet=True,
        ),
        _bars(
            "Energy by pool",
            "Energy of the GPUs as far as it was seen. High beside few busy hours: GPUs kept awake.",
            "watth",
            Query(by_pool.watt_hours, f"{{{{{pool}}}}}", instant=True),
        ),
    )


def _bars(title: str, says: str, unit: str, query: Query, *, quiet: bool = False) -> Panel:
    return Panel(
        title=title,
        says=says,
        kind="bars",
        unit=unit,
        queries=(query,),
        width=8,
        quiet=quiet,
        steps=NEUTRAL,
        decimals=1,
    )
