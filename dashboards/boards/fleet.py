"""The whole fleet: is it there, does it work, what does it waste, what is hot, what is wrong."""

from agent.tick import State
from dashboards.boards.common import BAD, COLOURS, MARGIN, NEUTRAL, SHARE, by_state, of_fleet
from dashboards.outline import Board, Config, Panel, Query, Row, Step
from dashboards.recorded import BUSY, GPUS, HELD, MEMORY, MEMORY_USED, WATTS
from dashboards.recorded import MARGIN as MARGINS

MOST = 20


def fleet(config: Config) -> Board:
    """Make the dashboard."""
    return Board(
        name="fleet",
        title="gputally / Fleet",
        says="Where the GPUs of a fleet are, what they do, what that wastes, and what is wrong with them.",
        variables=of_fleet(config),
        rows=(
            Row("Now", _now(config)),
            Row("Where the GPUs are", _states(config)),
            Row("Waste", _waste(config)),
            Row("Wrong", _wrong(config)),
        ),
    )


def _in(config: Config, *states: State) -> str:
    return HELD.of(config, f'{config.of_group}, state=~"{"|".join(states)}"')


def _silent(config: Config) -> str:
    """Count GPUs that told of themselves within a day and do no more: nobody knows what they do."""
    most = GPUS.over("max_over_time", "1d", config, config.of_group)
    return f"clamp_min({most} - ({GPUS.of(config, config.of_group)} or 0 * {most}), 0)"


def _now(config: Config) -> tuple[Panel, ...]:
    gpus = GPUS.of(config, config.of_group)
    seen = HELD.of(config, f'{config.of_group}, state!~"{State.UNKNOWN}|{State.DOWN}"')
    idle = f"sum({_in(config, State.HELD_IDLE)}) or vector(0)"
    whole = f"(sum({HELD.of(config, config.of_group)}) + sum({_silent(config)}))"
    return (
        _stat(
            "GPUs", "GPUs that tell of themselves. Fewer than you own: see Silent.", "none", f"sum({gpus})"
        ),
        _stat(
            "Silent",
            "GPUs that were there within a day and are not heard of now: their agent, their node or the "
            "way to it is down, or they left. What they do is not known. 0 is right.",
            "none",
            f"sum({_silent(config)})",
            BAD,
        ),
        _stat(
            "Accounted for",
            "Share of the GPUs of which it is known what they do. Below 98 % the figures here are in doubt.",
            "percentunit",
            f"sum({seen}) / {whole}",
            SHARE,
        ),
        _stat(
            "Busy",
            "Share of all GPUs on which a kernel ran, as an integral over five minutes. Low with many GPUs "
            "held means waste; low with many free means spare.",
            "percentunit",
            f"sum({BUSY.of(config, config.of_group)}) / {whole}",
        ),
        _stat(
            "Held idle",
            "GPUs that somebody holds and that have done nothing for longer than their work may pause.",
            "none",
            idle,
        ),
        _stat(
            "Idle money per hour",
            f"What the GPUs that are held idle cost each hour, at {config.price:g} for a GPU-hour "
            "(`gputally dashboards build --price`).",
            "currencyUSD",
            f"({idle}) * {config.price:g}",
        ),
        _stat(
            "Down",
            "GPUs that do not answer or must be reset. 0 is right.",
            "none",
            f"sum({_in(config, State.DOWN)}) or vector(0)",
            BAD,
        ),
        _stat(
            "Least margin",
            "Kelvins that the hottest GPU is away from lowering its clocks, by the limit of its own model.",
            "celsius",
            f"min({MARGINS.of(config, config.of_group)})",
            MARGIN,
        ),
    )


def _stat(title: str, says: str, unit: str, expr: str, steps: tuple[Step, ...] = NEUTRAL) -> Panel:
    return Panel(
        title=title,
        says=says,
        kind="stat",
        unit=unit,
        queries=(Query(expr, instant=True),),
        width=3,
        height=4,
        steps=steps,
        decimals=1 if unit in ("percentunit", "celsius") else 0,
    )


def _states(config: Config) -> tuple[Panel, ...]:
    busy = f"sum({BUSY.of(config, config.of_group)})"
    return (
        Panel(
            title="GPUs by state",
            says="All GPUs, stacked: what is not seen is unknown, what is not heard of is silent. The height "
            "is the inventory, but that GPUs which fall silent count twice for five minutes; much held_idle "
            "is waste, much free is spare.",
            kind="timeseries",
            unit="none",
            queries=(*by_state(config, HELD), Query(f"sum({_silent(config)}) > 0", "silent")),
            width=16,
            height=10,
            stacked=True,
            least=0,
            colours=COLOURS,
        ),
        Panel(
            title="Held, busy, and memory",
            says="GPUs that are held, GPUs' worth of busy time, and the share of memory in use. Far apart: "
            "held GPUs do little. Memory high and busy low: models that are loaded and not used.",
            kind="timeseries",
            unit="percentunit",
            queries=(
                Query(f"sum({_in(config, *_HELD)}) / sum({HELD.of(config, config.of_group)})", "held"),
                Query(f"{busy} / sum({HELD.of(config, config.of_group)})", "busy"),
                Query(
                    f"sum({MEMORY_USED.of(config, config.of_group)}) "
                    f"/ sum({MEMORY.of(config, config.of_group)})",
                    "memory in use",
                ),
            ),
            width=8,
            height=10,
            least=0,
            most=1,
        ),
        Panel(
            title="Power",
            says="Electric power of all GPUs by model. High while busy is low: GPUs kept awake for nothing.",
            kind="timeseries",
            unit="watt",
            queries=(Query(f"sum by (model) ({WATTS.of(config, config.of_group)})", "{{model}}"),),
            width=8,
            stacked=True,
            least=0,
        ),
        Panel(
            title="Busy by model",
            says="Busy time over all time of a model's GPUs. Models that stay low are bought too many.",
            kind="timeseries",
            unit="percentunit",
            queries=(
                Query(
                    f"sum by (model) ({BUSY.of(config, config.of_group)}) / "
                    f"sum by (model) ({HELD.of(config, config.of_group)})",
                    "{{model}}",
                ),
            ),
            width=8,
            least=0,
            most=1,
        ),
        Panel(
            title="Free by pool",
            says="GPUs that nobody holds. None for long: work waits. Many for long: give them back or lend.",
            kind="timeseries",
            unit="none",
            queries=(
                Query(
                    f"sum by ({config.pool_label}) ({_in(config, State.FREE)})",
                    f"{{{{{config.pool_label}}}}}",
                ),
            ),
            width=8,
            least=0,
        ),
    )


_HELD = (State.ACTIVE, State.HELD_GAP, State.HELD_IDLE, State.SERVICE)


def _waste(config: Config) -> tuple[Panel, ...]:
    idle = f"sum by (owner) ({_in(config, State.HELD_IDLE)})"
    return (
        Panel(
            title="Who holds GPUs idle",
            says="GPUs held idle by owner, the ten with most. A line that stays for hours is worth a call.",
            kind="timeseries",
            unit="none",
            queries=(Query(f"topk(10, {idle} > 0)", "{{owner}}"),),
            width=12,
            quiet=True,
            stacked=True,
            least=0,
        ),
        Panel(
            title="Idle GPUs by owner now",
            says="GPUs held idle over the last five minutes, by owner.",
            kind="table",
            unit="none",
            queries=(Query(f"topk({MOST}, {idle} > 0)", instant=True),),
            width=12,
            quiet=True,
            labels=(("owner", "Owner"),),
            value="GPUs idle",
        ),
    )


def _wrong(config: Config) -> tuple[Panel, ...]:
    of_gpu = config.of_group
    gpu = (("node", "Node"), ("gpu", "GPU"), ("model", "Model"), ("uuid", "UUID"))
    return (
        Panel(
            title="Findings that are open",
            says="What the rules on the nodes found and has not ended. Empty is well.",
            kind="table",
            unit="none",
            queries=(Query(f"gpu_finding{{{of_gpu}}} == 1", instant=True),),
            width=12,
            quiet=True,
            labels=(("severity", "Severity"), ("rule", "Rule"), *gpu),
            value="",
        ),
        Panel(
            title="Nearest to their limits",
            says="GPUs with the least margin to where their own model lowers its clocks; at 0 it does.",
            kind="table",
            unit="celsius",
            queries=(Query(f"bottomk({MOST}, gpu_temperature_margin_celsius{{{of_gpu}}})", instant=True),),
            width=12,
            steps=MARGIN,
            labels=gpu,
            value="Margin",
            smallest=True,
        ),
    )
