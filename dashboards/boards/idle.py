"""GPUs that somebody holds and nobody uses: how many, what they cost, which, since when, and whom to ask."""

from agent.tick import State
from dashboards.boards.common import COLOURS, NEUTRAL, of_fleet
from dashboards.boards.owners import HELD_STATES, named
from dashboards.outline import Board, Config, Panel, Query, Row
from dashboards.recorded import GPUS, HELD, IDLE_DAY, IDLE_MEMORY, OWNER_HOURS

MOST = 50
FOR_OWNERS = "held_without_process|held_idle|held_idle_long|held_idle_long_interactive|held_idle_long_serving"
"""The rules about GPUs held for nothing, which the owner is told of."""


def idle(config: Config) -> Board:
    """Make the dashboard."""
    return Board(
        name="idle",
        title="gputally / Idle and waste",
        says="GPUs that are held and not used: how many, for how much money, which, and whom to ask.",
        variables=of_fleet(config),
        rows=(
            Row("Now", _now(config)),
            Row("Who, where and how long", _over_time(config)),
            Row("Which GPUs", _gpus(config)),
            Row("Whom to talk to", _owners(config)),
            Row("Nobody's waste", _others(config)),
        ),
    )


def _of(config: Config, *states: State) -> str:
    return f'{config.of_group}, state=~"{"|".join(states)}"'


def _held_idle(config: Config) -> str:
    return HELD.of(config, _of(config, State.HELD_IDLE))


def _or_none(config: Config, expr: str) -> str:
    """Give 0 where nobody holds a GPU idle and the GPUs tell of themselves."""
    return f"{expr} or 0 * sum({GPUS.of(config, config.of_group)})"


def _now(config: Config) -> tuple[Panel, ...]:
    now = _or_none(config, f"sum({_held_idle(config)})")
    hours = _or_none(config, f"sum({HELD.hours('$__range', config, _of(config, State.HELD_IDLE))})")
    held = HELD.of(config, f'{config.of_group}, state=~"{HELD_STATES}"')
    return (
        _stat(
            "Held idle",
            "GPUs that somebody holds and that have done nothing for longer than their work may pause, over "
            "the last five minutes. Not 0: see which GPUs below, and ask their owners.",
            "none",
            now,
        ),
        _stat(
            "Of those held",
            "Share of all held GPUs that is held idle. High while work waits for GPUs: reclaim them; low: "
            "whoever holds GPUs uses them.",
            "percentunit",
            f"sum({_held_idle(config)}) / (sum({held}) > 0)",
            quiet=True,
        ),
        _stat(
            "Money per hour",
            f"What the GPUs that are held idle cost each hour, at {config.price:g} for a GPU-hour "
            "(`gputally dashboards build --price`). It runs until somebody lets go of them.",
            "currencyUSD",
            f"({now}) * {config.price:g}",
        ),
        _stat(
            "Idle GPU-hours",
            "GPU-hours held idle in the time chosen at the top. What a policy that reclaims GPUs after their "
            "patience could have won back.",
            "none",
            hours,
        ),
        _stat(
            "Idle money",
            f"What these GPU-hours cost, at {config.price:g} each. Compare it with what it costs to ask.",
            "currencyUSD",
            f"({hours}) * {config.price:g}",
        ),
        _stat(
            "Memory held idle",
            "Device memory in use on GPUs that are held idle. High: models that are loaded and not used; "
            "0 with many idle GPUs: they were only reserved.",
            "bytes",
            _or_none(config, f"sum({IDLE_MEMORY.of(config, config.of_group)})"),
        ),
    )


def _stat(title: str, says: str, unit: str, expr: str, *, quiet: bool = False) -> Panel:
    return Panel(
        title=title,
        says=says,
        kind="stat",
        unit=unit,
        queries=(Query(expr, instant=True),),
        width=4,
        height=4,
        steps=NEUTRAL,
        quiet=quiet,
        decimals=1,
    )


def _over_time(config: Config) -> tuple[Panel, ...]:
    by_owner = f"sum by (owner) ({_held_idle(config)})"
    pool = config.pool_label
    pauses = HELD.of(config, _of(config, State.HELD_GAP, State.HELD_IDLE))
    return (
        _lines(
            "By owner",
            "GPUs held idle by owner, at each moment the ten with most. A band that stays for hours is worth "
            "a call. Empty: nothing is held idle.",
            Query(named(f"topk(10, {by_owner} > 0)"), "{{owner}}"),
            width=10,
            quiet=True,
        ),
        _lines(
            "By pool",
            "GPUs held idle by pool. One pool far above the others: its limits or its queue let people sit "
            "on GPUs. Empty: nothing is held idle.",
            Query(f"sum by ({pool}) ({_held_idle(config)}) > 0", f"{{{{{pool}}}}}"),
            width=7,
            quiet=True,
        ),
        _lines(
            "Pauses and idling",
            "held_gap is time between kernels within the patience, held_idle what lies beyond it. Much "
            "held_gap: slow input or small batches, which is for the owner to tune and not to reclaim.",
            Query(f"sum by (state) ({pauses})", "{{state}}"),
            width=7,
        ),
    )


def _lines(title: str, says: str, query: Query, *, width: int, quiet: bool = False) -> Panel:
    return Panel(
        title=title,
        says=says,
        kind="timeseries",
        unit="none",
        queries=(query,),
        width=width,
        quiet=quiet,
        stacked=True,
        least=0,
        colours=COLOURS,
    )


def _idle_now(config: Config) -> str:
    """Give the GPUs that are held idle now, with owner and holder; their value is idle time of a day."""
    found = IDLE_DAY.of(config, config.of_group)
    holder = (
        f"gpu_holder_info{{{config.of_group}}} * on (node, uuid, owner) group_left () "
        f"max by (node, uuid, owner) ({found})"
    )
    return f"topk({MOST}, ({holder}) or on (node, uuid, owner) {found})"


def _gpus(config: Config) -> tuple[Panel, ...]:
    found = _idle_now(config)
    memory = f"max by (node, uuid) (gpu_memory_used_bytes{{{config.of_group}}})"
    return (
        Panel(
            title="GPUs that are held idle now",
            says="The longest first, by how much of the last 24 h their owner held them idle; what that "
            "cost, and how much memory is in use. Without an owner: memory or a process of nobody known. "
            "Empty: nothing is held idle.",
            kind="table",
            unit="s",
            queries=(
                Query(found, "Idle in 24 h", instant=True),
                Query(
                    f"({found}) * {config.price / 3600:g}",
                    "Cost",
                    instant=True,
                    unit="currencyUSD",
                ),
                Query(
                    f"0 * ({found}) + on (node, uuid) group_left () {memory}",
                    "Memory",
                    instant=True,
                    unit="bytes",
                ),
            ),
            width=24,
            height=10,
            quiet=True,
            labels=(
                ("owner", "Owner"),
                ("holder", "Holder"),
                ("kind", "Kind"),
                ("node", "Node"),
                ("gpu", "GPU"),
                ("model", "Model"),
                ("uuid", "UUID"),
            ),
        ),
    )


def _owners(config: Config) -> tuple[Panel, ...]:
    week = f"sum by (owner) ({OWNER_HOURS.hours('7d', config, _of(config, State.HELD_IDLE))}) > 0"
    held = OWNER_HOURS.hours("7d", config, f'{config.of_group}, state=~"{HELD_STATES}"')
    return (
        Panel(
            title="Idle GPU-hours of 7 days",
            says="The ten owners with most GPU-hours held idle in the last 7 days. The first two or three "
            "are often most of it: talk to them first. Empty: there were none.",
            kind="bars",
            unit="none",
            queries=(Query(named(f"topk(10, {week})"), "{{owner}}", instant=True),),
            width=7,
            height=10,
            quiet=True,
            steps=NEUTRAL,
            decimals=1,
        ),
        Panel(
            title="Owners, 7 days",
            says="All owners that held GPUs idle in the last 7 days, what that cost, and the share of what "
            "they held. A high share is a habit; many hours at a low share are a large user.",
            kind="table",
            unit="none",
            queries=(
                Query(named(week), "Idle GPU-hours", instant=True),
                Query(f"{named(f'({week})')} * {config.price:g}", "Cost", instant=True, unit="currencyUSD"),
                Query(
                    named(f"({week}) / (sum by (owner) ({held}) > 0)"),
                    "Of held",
                    instant=True,
                    unit="percentunit",
                ),
            ),
            width=8,
            height=10,
            quiet=True,
            decimals=1,
            labels=(("owner", "Owner"),),
        ),
        Panel(
            title="Findings for owners",
            says="What the rules on the nodes found held and not used and has not ended; it is for the "
            "owners, whom `gputally rules list` calls their audience. Empty is well.",
            kind="table",
            unit="none",
            queries=(Query(f'gpu_finding{{{config.of_group}, rule=~"{FOR_OWNERS}"}} == 1', instant=True),),
            width=9,
            height=10,
            quiet=True,
            labels=(
                ("severity", "Severity"),
                ("rule", "Rule"),
                ("node", "Node"),
                ("gpu", "GPU"),
                ("uuid", "UUID"),
            ),
            value="",
        ),
    )


def _others(config: Config) -> tuple[Panel, ...]:
    no_use = (State.SERVICE, State.DRAINED, State.DOWN, State.FREE)
    return (
        _lines(
            "Not used, and no owner's fault",
            "service is burn-in and health checks, drained was taken out on purpose, down does not answer, "
            "free is held by nobody. Much of the first three is work for operators, much free is spare.",
            Query(f"sum by (state) ({HELD.of(config, _of(config, *no_use))})", "{{state}}"),
            width=24,
        ),
    )
