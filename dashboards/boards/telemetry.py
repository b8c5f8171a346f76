"""What the figures rest on: which nodes tell of themselves, how late, and what they could not read.

Nodes are known by the series of their GPUs, whether these are scraped or pushed. What agents tell of
themselves (`gputally_...`) is on their pages: scraped it has the labels `job` and `instance`. Of that only
how late intervals close is pushed too, by `node`.
"""

from dashboards.boards.agents import AGENT, MOST, agents, of_place, own, reading, stores, table
from dashboards.boards.common import BAD, NEUTRAL, of_fleet
from dashboards.boards.node import lines
from dashboards.outline import Board, Config, Panel, Query, Row, Step
from dashboards.recorded import NODE_GPUS

_DELIVERED = (Step(None, "red"), Step(0.9, "orange"), Step(0.99, "green"))
_WEEK = (Step(None, "green"), Step(8 * 86_400, "red"))


def telemetry(config: Config) -> Board:
    """Make the dashboard."""
    return Board(
        name="telemetry",
        title="gputally / Telemetry pipeline",
        says="Whether the other dashboards can be believed: agents, intervals, journals, stores, refusals.",
        variables=of_fleet(config)[:2],
        rows=(
            Row("Now", _now(config)),
            Row("Nodes", _nodes(config)),
            Row("Intervals", _intervals(config)),
            Row("Reading the GPUs", reading(config)),
            Row("Journals and stores", stores(config)),
            Row("Agents", agents(config)),
        ),
    )


def seen(config: Config) -> str:
    """Give by node that it was heard of within a day."""
    return f"max by (node) ({NODE_GPUS.over('max_over_time', '1d', config, of_place(config))})"


def heard(config: Config) -> str:
    """Give by node that it is heard of now."""
    return f"max by (node) ({NODE_GPUS.of(config, of_place(config))})"


def delivered(config: Config) -> str:
    """Give by agent the share of its intervals that it entered; a little over 1 is rounding."""
    return f"rate({own(config, 'ticks_total', '5m')}) * {own(config, 'interval_seconds')}"


def _now(config: Config) -> tuple[Panel, ...]:
    blind = own(config, "probe_up")
    stopped = f"{own(config, 'info')} unless on (job, instance) {own(config, 'tick_end_timestamp_seconds')}"
    down = own(config, "exporter_up")
    report = own(config, "report_last_success_timestamp_seconds")
    return (
        _stat(
            "Nodes", "Nodes that tell of their GPUs, scraped or pushed.", "none", f"count({heard(config)})"
        ),
        _stat(
            "Silent nodes",
            "Nodes that told of themselves within a day and do not now: the node, its agent or the way is "
            "down, or it was taken away. 0 is right; what their GPUs do is not known.",
            "none",
            f"count({seen(config)}) - (count({heard(config)}) or vector(0))",
            BAD,
        ),
        _stat(
            "Delivered",
            "Intervals entered of those that five minutes have, over all agents that are scraped. Below "
            "99 %: some agents are late or blind, and time is unknown.",
            "percentunit",
            f"avg({delivered(config)})",
            _DELIVERED,
            quiet=True,
        ),
        _stat(
            "Without sight",
            "Agents that cannot read GPUs, or that answer and enter no interval. 0 is right; "
            "`gputally doctor` on the node says what is missing.",
            "none",
            f"count({blind} == 0 or ({stopped})) or 0 * count({own(config, 'info')})",
            BAD,
            quiet=True,
        ),
        _stat(
            "Stores that do not take",
            "Exporters whose store takes nothing now. The journal keeps it for days; 0 is right.",
            "none",
            f"count({down} == 0) or 0 * count({down})",
            BAD,
            quiet=True,
        ),
        _stat(
            "Last report",
            "Age of the newest scheduled report. More than a week and a day: it failed, see the log of the "
            "agent that makes it. Empty where no agent that is scraped makes one.",
            "s",
            f"time() - max({report})",
            _WEEK,
            quiet=True,
        ),
    )


def _stat(
    title: str,
    says: str,
    unit: str,
    expr: str,
    steps: tuple[Step, ...] = NEUTRAL,
    *,
    quiet: bool = False,
) -> Panel:
    return Panel(
        title=title,
        says=says,
        kind="stat",
        unit=unit,
        queries=(Query(expr, instant=True),),
        width=4,
        height=4,
        steps=steps,
        quiet=quiet,
        decimals=0 if unit == "none" else 1,
    )


def _nodes(config: Config) -> tuple[Panel, ...]:
    place = of_place(config)
    told = NODE_GPUS.name if config.recorded else "gpu_up"
    last = f"max by (node) (max_over_time(timestamp({told}{{{place}}})[1d:5m]))"
    unknown = f'sum by (node) (rate(gpu_tally_seconds_total{{{place}, state="unknown"}}[10m]))'
    every = f"sum by (node) (rate(gpu_tally_seconds_total{{{place}}}[10m]))"
    return (
        lines(
            "Nodes heard of",
            "Nodes that tell of their GPUs. A step down is a rack, a switch or a rollout; one that comes "
            "back after a day is no longer silent, but was.",
            "none",
            Query(f"count({heard(config)})", "nodes"),
            least=0,
        ),
        table(
            "Silent nodes by name",
            "Nodes that told of themselves within a day and do not now, and when they last did, to five "
            "minutes. Is the node up? then systemctl status gputally. Empty is well.",
            (Query(f"1000 * ({last} unless on (node) {heard(config)})", instant=True),),
            (("node", "Node"),),
            unit="dateTimeFromNow",
            value="Last heard of",
            smallest=True,
        ),
        table(
            "Nodes with unknown time",
            "Nodes of which more than 1 % of the GPUs' time of ten minutes is unknown: agents that were away "
            "or did not get an answer. Their weeks will be in doubt. Empty is well.",
            (Query(f"topk({MOST}, {unknown} / {every} > 0.01)", instant=True),),
            (("node", "Node"),),
            unit="percentunit",
            value="Unknown",
        ),
    )


def _intervals(config: Config) -> tuple[Panel, ...]:
    age = f"time() - max_over_time({own(config, 'tick_end_timestamp_seconds', '1d')})"
    late = own(config, "tick_late_seconds")
    return (
        lines(
            "Intervals delivered",
            "Share of the intervals that agents entered, the mean of all and the worst. The worst low: one "
            "node is overloaded or blind; the mean low: a rollout, or all are.",
            "percentunit",
            Query(f"avg({delivered(config)})", "mean"),
            Query(f"min({delivered(config)})", "worst"),
            steps=_DELIVERED,
            least=0,
            quiet=True,
        ),
        lines(
            "How late intervals close",
            "Time from the end of an interval to its entry in the books, the mean and the worst of all. "
            "Above the interval: the node is too busy, or the driver too slow.",
            "s",
            Query(f"avg({late})", "mean"),
            Query(f"max({late})", "worst"),
            least=0,
            quiet=True,
        ),
        table(
            "Oldest intervals",
            f"The {MOST} agents whose latest interval within a day ended longest ago. More than a few "
            "intervals: the agent hangs, is away, or its clock is behind. Negative: its clock is ahead.",
            (Query(f"topk({MOST}, {age})", instant=True),),
            AGENT,
            unit="s",
            value="Age",
        ),
    )
