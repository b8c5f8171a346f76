"""Owners and their jobs: what they hold, how much of it works, what it costs, and which GPU lags behind."""

from agent.tick import State
from dashboards.boards.common import COLOURS, NEUTRAL, of_fleet
from dashboards.outline import Board, Config, Panel, Query, Row, Variable
from dashboards.recorded import BUSY, BUSY_HOURS, ENERGY_HOURS, HELD, OWNER_HOURS, OWNER_WATTS

MOST = 100
HELD_STATES = f"{State.ACTIVE}|{State.HELD_GAP}|{State.HELD_IDLE}|{State.SERVICE}"
"""Whatever nobody else could have had."""
UNATTRIBUTED = "unattributed"
"""The report's word for what was held by nobody known."""
JOB = "owner, holder, kind"
LAZY, AT_WORK = 0.05, 0.3
"""A straggler is at most so busy while the median GPU of its job is at least so busy."""


def named(expr: str) -> str:
    """Give a name to time that was held by nobody known.

    By way of another label: VictoriaMetrics 1.79 reads rubbish where a label that is missing replaces itself.
    """
    asked = f'label_join({expr}, "who", "", "owner")'
    return f'label_replace({asked}, "owner", "{UNATTRIBUTED}", "who", "")'


def owners(config: Config) -> Board:
    """Make the dashboard."""
    asked = HELD.name if config.recorded else "gpu_tally_busy_seconds_total"
    return Board(
        name="owners",
        title="gputally / Owners and jobs",
        says="What owners hold and use, what it costs, and which GPUs of their jobs lag behind.",
        variables=(
            *of_fleet(config),
            Variable("owner", "Owner", f"label_values({asked}{{{config.of_group}}}, owner)"),
        ),
        rows=(
            Row("The chosen owners", _now(config)),
            Row("Over time", _over_time(config)),
            Row("All owners", _all(config)),
            Row("Jobs", _jobs(config)),
            Row("Unattributed", _nobody(config)),
        ),
        since="now-24h",
    )


def _of(config: Config, states: str = HELD_STATES) -> str:
    return f'{config.of_group}, owner=~"$owner", state=~"{states}"'


def _chosen(config: Config) -> str:
    return f'{config.of_group}, owner=~"$owner"'


def _now(config: Config) -> tuple[Panel, ...]:
    held = HELD.of(config, _of(config))
    hours = f"sum({HELD.hours('$__range', config, _of(config))})"
    return (
        _stat(
            "GPUs held",
            "GPUs that the chosen owners hold, over the last five minutes. A part of a GPU counts as such.",
            "none",
            f"sum({held})",
        ),
        _stat(
            "Busy",
            "Busy time over the time of what they hold. Low: they hold more than they use; above 90 %: they "
            "may be waiting for more.",
            "percentunit",
            f"sum({BUSY.of(config, _chosen(config))}) / (sum({held}) > 0)",
        ),
        _stat(
            "Idle",
            "Share of what they hold that is held idle, beyond any usual pause. Not 0: see Idle and waste.",
            "percentunit",
            f"(sum({HELD.of(config, _of(config, State.HELD_IDLE))}) or 0 * sum({held})) / (sum({held}) > 0)",
        ),
        _stat(
            "GPU-hours",
            "GPU-hours held in the time chosen at the top, used or not: what an owner answers for.",
            "none",
            hours,
        ),
        _stat(
            "Money",
            f"What these GPU-hours cost, at {config.price:g} each "
            "(`gputally dashboards build --price`). The report knows prices of models and dates.",
            "currencyUSD",
            f"{hours} * {config.price:g}",
        ),
        _stat(
            "Energy",
            "Energy of the GPUs while they were held, in the time chosen, as far as it was seen; without "
            "hosts and cooling. High with few busy hours: GPUs kept awake for nothing.",
            "watth",
            f"sum({OWNER_WATTS.hours('$__range', config, _held_by(config))})",
        ),
    )


def _held_by(config: Config) -> str:
    """Match energy of owners; what nobody held has no owner."""
    return f'{config.of_group}, owner=~"$owner", owner!=""'


def _stat(title: str, says: str, unit: str, expr: str) -> Panel:
    return Panel(
        title=title,
        says=says,
        kind="stat",
        unit=unit,
        queries=(Query(expr, instant=True),),
        width=4,
        height=4,
        steps=NEUTRAL,
        decimals=1,
    )


def _busy_share(config: Config) -> str:
    held = f"sum by (owner) ({HELD.of(config, _of(config))}) > 0"
    return f"sum by (owner) ({BUSY.of(config, _chosen(config))}) / ({held})"


def _over_time(config: Config) -> tuple[Panel, ...]:
    held = f"sum by (owner) ({HELD.of(config, _of(config))})"
    share = _busy_share(config)
    whole = f"sum({BUSY.of(config, _chosen(config))}) / (sum({HELD.of(config, _of(config))}) > 0)"
    return (
        _lines(
            "GPUs held",
            "GPUs by owner, at each moment the ten with most. A step up that never comes down: look whether "
            "it is used.",
            "none",
            Query(named(f"topk(10, {held} > 0)"), "{{owner}}"),
            stacked=True,
        ),
        _lines(
            "Busy by owner",
            "Busy time over held time, of the ten owners with most GPUs. Low for long: slow input, small "
            "batches, or GPUs that are not used.",
            "percentunit",
            Query(named(f"({share}) and on (owner) topk(10, {held})"), "{{owner}}"),
            most=1,
        ),
        _lines(
            "Busy, spread over owners",
            "A fifth, half and four fifths of the owners are at most so busy, each owner counted once; all "
            "is busy time over held time. p50 far below all: a few large owners do the work.",
            "percentunit",
            Query(f"quantile(0.2, {share})", "p20"),
            Query(f"quantile(0.5, {share})", "p50"),
            Query(f"quantile(0.8, {share})", "p80"),
            Query(whole, "all"),
            most=1,
            dashed=("all",),
        ),
    )


def _lines(
    title: str,
    says: str,
    unit: str,
    *queries: Query,
    stacked: bool = False,
    most: float | None = None,
    dashed: tuple[str, ...] = (),
) -> Panel:
    return Panel(
        title=title,
        says=says,
        kind="timeseries",
        unit=unit,
        queries=queries,
        width=8,
        stacked=stacked,
        least=0,
        most=most,
        dashed=dashed,
    )


def _all(config: Config) -> tuple[Panel, ...]:
    idle = HELD.of(config, _of(config, State.HELD_IDLE))
    week = f"sum by (owner) ({OWNER_HOURS.hours('7d', config, _of(config))}) > 0"
    busy = f"sum by (owner) ({BUSY_HOURS.hours('7d', config, _chosen(config))})"
    joules = ENERGY_HOURS.hours("7d", config, _held_by(config))
    columns = (
        ("GPU-hours, 7 d", week, ""),
        ("Cost, 7 d", f"({week}) * {config.price:g}", "currencyUSD"),
        ("Busy, 7 d", f"{busy} / ({week})", "percentunit"),
        ("Energy, 7 d", f"sum by (owner) ({joules}) > 0", "watth"),
        ("GPUs held now", f"sum by (owner) ({HELD.of(config, _of(config))}) > 0", ""),
        ("Busy now", _busy_share(config), "percentunit"),
        ("Idle GPUs now", f"sum by (owner) ({idle}) > 0", ""),
    )
    return (
        Panel(
            title="All owners",
            says="Those with most GPU-hours first. Many hours and a low busy share: a talk pays most here. "
            f"`{UNATTRIBUTED}` was held by nobody known: see below.",
            kind="table",
            unit="none",
            queries=tuple(
                Query(named(expr), title, instant=True, unit=unit) for title, expr, unit in columns
            ),
            width=24,
            height=10,
            decimals=1,
            labels=(("owner", "Owner"),),
        ),
    )


def _of_jobs(config: Config, figure: str) -> str:
    """Give a figure of GPUs to each of their holders; `figure` has one series for a node and UUID."""
    return f"gpu_holder_info{{{_chosen(config)}}} * on (node, uuid) group_left () {figure}"


def _busy_of_gpus(config: Config) -> str:
    return f"max by (node, uuid) (avg_over_time(gpu_busy_ratio{{{config.of_group}}}[15m]))"


def _jobs(config: Config) -> tuple[Panel, ...]:
    gpus = f"topk({MOST}, count by ({JOB}) (gpu_holder_info{{{_chosen(config)}}}))"
    busy = _of_jobs(config, _busy_of_gpus(config))
    used = (
        f"max by (node, uuid) (gpu_memory_used_max_bytes{{{config.of_group}}} "
        f"/ gpu_memory_total_bytes{{{config.of_group}}})"
    )
    columns = (
        ("GPUs", gpus, ""),
        ("Busy", f"avg by ({JOB}) ({busy})", "percentunit"),
        ("Least busy GPU", f"min by ({JOB}) ({busy})", "percentunit"),
        ("Memory in use", f"max by ({JOB}) ({_of_jobs(config, used)})", "percentunit"),
    )
    at_work = f"quantile by ({JOB}) (0.5, {busy}) >= {AT_WORK}"
    return (
        Panel(
            title="Jobs now",
            says="Who holds GPUs now: their number, the mean busy share of a quarter of an hour, that of the "
            "least busy GPU, and the memory of the fullest. Least far below the mean: a straggler; memory "
            "below a half: a smaller model or a slice would do.",
            kind="table",
            unit="none",
            queries=tuple(
                Query(
                    expr if expr is gpus else f"({expr}) and on ({JOB}) {gpus}",
                    title,
                    instant=True,
                    unit=unit,
                )
                for title, expr, unit in columns
            ),
            width=14,
            height=10,
            labels=(("owner", "Owner"), ("holder", "Holder"), ("kind", "Kind")),
        ),
        Panel(
            title="Stragglers",
            says=f"GPUs that are at most {LAZY:.0%} busy while half of the GPUs of their job are at least "
            f"{AT_WORK:.0%} busy, over a quarter of an hour: a rank that hangs, or one GPU too many. "
            "Empty is well.",
            kind="table",
            unit="percentunit",
            queries=(
                Query(
                    f"bottomk({MOST}, ({busy}) <= {LAZY} and on ({JOB}) {at_work})",
                    instant=True,
                ),
            ),
            width=10,
            height=10,
            quiet=True,
            labels=(
                ("owner", "Owner"),
                ("holder", "Holder"),
                ("node", "Node"),
                ("gpu", "GPU"),
                ("uuid", "UUID"),
            ),
            value="Busy",
            smallest=True,
        ),
    )


def _nobody(config: Config) -> tuple[Panel, ...]:
    nobody = HELD.of(config, f'{config.of_group}, owner="", state=~"{HELD_STATES}"')
    return (
        Panel(
            title="Held by nobody known",
            says="GPUs with a process or memory in use whose owner the agent cannot tell, by state. 0 is "
            "right. Else the scheduler or the kubelet does not answer (gputally_holders_up), the agent may "
            "not see processes of others, or memory is left behind.",
            kind="timeseries",
            unit="none",
            queries=(Query(f"sum by (state) ({nobody})", "{{state}}"),),
            width=24,
            height=6,
            stacked=True,
            least=0,
            colours=COLOURS,
        ),
    )
