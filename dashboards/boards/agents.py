"""What agents tell of themselves: how they read the GPUs, and how their journals and stores fare."""

from collections.abc import Mapping

from dashboards.boards.node import lines
from dashboards.outline import Config, Panel, Query
from dashboards.signs import labelled

MOST = 20
PENDING_TICKS = 10
WAITING_TICKS = 60
AGENT = (("instance", "Agent"),)
_TROUBLE = ("trouble", "Trouble")


def of_place(config: Config) -> str:
    """Match what is chosen of a fleet, without models: an agent has none."""
    return f'{config.cluster_label}=~"$cluster", {config.pool_label}=~"$pool"'


def own(config: Config, name: str, length: str = "", more: str = "") -> str:
    """Ask for what agents tell of themselves."""
    return f"gputally_{name}{{{of_place(config)}{more}}}{f'[{length}]' if length else ''}"


def table(
    title: str,
    says: str,
    queries: tuple[Query, ...],
    labels: tuple[tuple[str, str], ...],
    *,
    unit: str = "none",
    value: str = "value",
    smallest: bool = False,
    width: int = 8,
) -> Panel:
    """Make a table that is empty while nothing is wrong."""
    return Panel(
        title=title,
        says=says,
        kind="table",
        unit=unit,
        queries=queries,
        width=width,
        quiet=True,
        decimals=1 if unit in ("percentunit", "s") else 0,
        labels=labels,
        value=value,
        smallest=smallest,
    )


def reading(config: Config) -> tuple[Panel, ...]:
    """Ask what it costs to read the GPUs, and what could not be read."""
    driver = f"rate({own(config, 'driver_seconds_total', '5m')})"
    refused = f"increase({own(config, 'refused_values_total', '1h')})"
    return (
        lines(
            "Time in the driver",
            "Seconds that agents spend in calls of NVML, per second. Near 1: the driver is slow, persistence "
            "mode is off, or a GPU is about to hang.",
            "percentunit",
            Query(f"avg({driver})", "mean"),
            Query(f"max({driver})", "worst"),
            least=0,
            quiet=True,
        ),
        table(
            "Probes in trouble",
            "Intervals without any GPU and probes that ended, in six hours, and probes that hang in the "
            "driver now: only a reboot ends those. Empty is well.",
            _troubles(
                {
                    "blind intervals": _grown(config, "blind_ticks_total"),
                    "probes ended": _grown(config, "probe_restarts_total"),
                    "probes that hang": f"{own(config, 'stuck_probes')} > 0",
                }
            ),
            (*AGENT, _TROUBLE),
            value="How many",
        ),
        table(
            "Values refused",
            "Values of an hour that could not be had, of all agents. `unsupported` is the model, "
            "`no_permission` the settings; `failed` or `impossible` in many agents is a driver.",
            (
                Query(f"topk({MOST}, sum by (quantity, reason) ({refused}) > 0)", "Times", instant=True),
                Query(f"count by (quantity, reason) ({refused} > 0)", "Agents", instant=True),
            ),
            (("quantity", "Quantity"), ("reason", "Reason")),
        ),
    )


def _grown(config: Config, name: str) -> str:
    return f"increase({own(config, name, '6h')}) > 0"


def _troubles(found: Mapping[str, str]) -> tuple[Query, ...]:
    """Ask for the worst of several figures at once, with their names as a label.

    They are one query: of several Grafana names the column otherwise when only one of them finds something.
    """
    worst = {name: f"topk({MOST}, {expr})" for name, expr in found.items()}
    return (Query(labelled(worst, "trouble"), instant=True),)


def stores(config: Config) -> tuple[Panel, ...]:
    """Ask how journals fare, and the stores that are pushed to."""
    return (
        table(
            "Journals in trouble",
            "Commits that failed, readings and ticks dropped in six hours, and ticks that wait to be "
            "written: is the disk full, slow or read-only? Empty is well.",
            _troubles(
                {
                    "commits failed": _grown(config, "journal_failures_total"),
                    "readings dropped": _grown(config, "readings_dropped_total"),
                    "ticks dropped": _grown(config, "journal_ticks_dropped_total"),
                    "ticks that wait": f"{own(config, 'journal_pending_ticks')} > {PENDING_TICKS}",
                }
            ),
            (*AGENT, _TROUBLE),
            value="How many",
            width=12,
        ),
        table(
            "Exporters in trouble",
            "Stores that take nothing, ticks that wait for them, and what was refused or dropped in six "
            "hours: that is lost. `gputally exporters` names the last error. Empty is well.",
            _troubles(
                {
                    "takes nothing": f"1 - ({own(config, 'exporter_up')} == 0)",
                    "ticks that wait": f"{own(config, 'exporter_waiting_ticks')} > {WAITING_TICKS}",
                    "rows refused": _grown(config, "exporter_refused_rows_total"),
                    "ticks dropped": _grown(config, "exporter_dropped_ticks_total"),
                }
            ),
            (*AGENT, ("exporter", "Exporter"), _TROUBLE),
            value="How many",
            width=12,
        ),
    )


def agents(config: Config) -> tuple[Panel, ...]:
    """Ask what agents need, and what they found about their nodes."""
    processor = f"{own(config, 'tick_cpu_seconds')} / {own(config, 'interval_seconds')}"
    size = own(config, "journal_bytes")
    return (
        lines(
            "Processor time of agents",
            "Processors that an agent uses, the mean and the worst. Above 5 %: many processes on the GPUs, "
            "or an interval too short for the node.",
            "percentunit",
            Query(f"avg({processor})", "mean"),
            Query(f"max({processor})", "worst"),
            least=0,
            quiet=True,
        ),
        lines(
            "Size of journals",
            "Bytes in use, the mean and the largest. It grows until `[journal]` bounds it, then stays; the "
            "largest far above the mean: a store that was away for long.",
            "bytes",
            Query(f"avg({size})", "mean"),
            Query(f"max({size})", "largest"),
            least=0,
            quiet=True,
        ),
        table(
            "Findings about nodes",
            "What rules on the nodes found about the node or the agent and has not ended; docs/runbooks.md "
            "says what to do. Empty is well.",
            (Query(f"{own(config, 'finding')} == 1", instant=True),),
            (("severity", "Severity"), ("rule", "Rule"), *AGENT),
            value="",
        ),
        table(
            "Holders not known",
            "Agents that are not told who holds their GPUs, by world: GPUs look free that are held, or have "
            "no owner. `gputally doctor` says which permission is missing. Empty is well.",
            (Query(f"{own(config, 'holders_up')} == 0", instant=True),),
            (*AGENT, ("world", "World")),
            value="",
            width=12,
        ),
        table(
            "Versions",
            "Agents that are scraped, by version. Two during a rollout are usual; few of an old one were "
            "forgotten.",
            (Query(f"count by (version) ({own(config, 'info')})", instant=True),),
            (("version", "Version"),),
            value="Agents",
            width=12,
        ),
    )
