"""Heat and power: how near GPUs are to their own limits, what that costs, where it is worst."""

from agent.tick import State
from dashboards.boards.common import BAD, MARGIN, NEUTRAL, of_fleet
from dashboards.boards.node import lines
from dashboards.outline import Board, Config, Panel, Query, Row, Step
from dashboards.recorded import (
    DRIVER_WATTS,
    IN_BAND,
    MARGIN_SUM,
    TALLY_WATTS,
    THROTTLED,
    WATTS,
    WATTS_LIMIT,
)
from dashboards.recorded import MARGIN as MARGINS
from dashboards.signs import MARGIN_BANDS

MOST = 20
WARM = 25
"""Kelvins of margin from which on fans are expected to turn, as the rule `fan_failed` has it."""
STILL = 0.02
BANDS = ("#d55e00", "#e69f00", "#f0e442", "#56b4e9", "#0072b2")
_HEAT = 'reason=~"sw_thermal|hw_thermal"'
_BRAKE = 'reason="power_brake"'
_GPU = (("node", "Node"), ("gpu", "GPU"), ("model", "Model"), ("uuid", "UUID"))
_LOST = (Step(None, "green"), Step(0.01, "orange"), Step(1, "red"))
"""GPUs' worth of time: from a hundredth on it is more than a moment."""
_SPREAD = (Step(None, "green"), Step(15, "orange"), Step(25, "red"))


def thermals(config: Config) -> Board:
    """Make the dashboard."""
    return Board(
        name="thermals",
        title="gputally / Thermals and power",
        says="How near GPUs are to their own limits, what is lost to heat and power, and where to look.",
        variables=of_fleet(config),
        rows=(
            Row("Now", _now(config)),
            Row("How near to the limits", _margins(config)),
            Row("Which GPUs", _gpus(config)),
            Row("Which nodes", _nodes(config)),
            Row("Clocks, power and energy", _power(config)),
        ),
    )


def in_band(config: Config, band: str) -> str:
    """Count the GPUs of a band; 0 where there are none but others tell their margin."""
    told = IN_BAND.of(config, config.of_group)
    if config.recorded:
        found = f'sum({IN_BAND.name}{{{config.of_group}, band="{band}"}})'
    else:
        found = f"count(gpu_temperature_margin_celsius{{{config.of_group}}} {MARGIN_BANDS[band]})"
    return f"{found} or 0 * sum({told})"


def _throttled(config: Config, matcher: str) -> str:
    return THROTTLED.of(config, f"{config.of_group}, {matcher}")


def _now(config: Config) -> tuple[Panel, ...]:
    limit, near, *_ = MARGIN_BANDS
    watts = WATTS.of(config, config.of_group)
    return (
        _stat(
            "At their limit",
            "GPUs without any margin: they lower their clocks for heat, or are about to. 0 is right. "
            "Some H100 tell 0 while they are cool: look whether time is lost too.",
            "none",
            in_band(config, limit),
            BAD,
        ),
        _stat(
            "Within 5 K",
            "GPUs with a margin of up to 5 K: a warmer afternoon takes their speed. Many at once: the room.",
            "none",
            in_band(config, near),
            (Step(None, "green"), Step(1, "orange")),
        ),
        _stat(
            "Lost to heat",
            "GPUs' worth of time with clocks lowered for heat, over five minutes. Where driver and hardware "
            "do so at once, it counts twice. Above 0: see the hottest GPUs.",
            "none",
            f"sum({_throttled(config, _HEAT)})",
            _LOST,
        ),
        _stat(
            "Power brake",
            "GPUs' worth of time under an outside signal to use less power, over five minutes: the power "
            "supply or the rack is at its end. 0 is right.",
            "none",
            f"sum({_throttled(config, _BRAKE)})",
            _LOST,
        ),
        _stat(
            "Power", "Electric power of all GPUs that tell it, without their hosts.", "watt", f"sum({watts})"
        ),
        _stat(
            "Of the limits",
            "Power as a share of the sum of the limits in force. Low for long: the room has power to spare; "
            "near 100 %: every GPU is held down by its limit.",
            "percentunit",
            f"sum({watts}) / sum({WATTS_LIMIT.of(config, config.of_group)})",
        ),
    )


def _stat(title: str, says: str, unit: str, expr: str, steps: tuple[Step, ...] = NEUTRAL) -> Panel:
    whole = title in ("At their limit", "Within 5 K")
    return Panel(
        title=title,
        says=says,
        kind="stat",
        unit=unit,
        queries=(Query(expr, instant=True),),
        width=4,
        height=4,
        steps=steps,
        decimals=0 if whole else 1 if unit != "none" else 2,
    )


def _margins(config: Config) -> tuple[Panel, ...]:
    margins = MARGINS.of(config, config.of_group)
    mean = (
        f"sum by (model) ({MARGIN_SUM.of(config, config.of_group)}) "
        f"/ sum by (model) ({IN_BAND.of(config, config.of_group)})"
    )
    return (
        Panel(
            title="GPUs by margin",
            says="All GPUs that tell their margin, by kelvins to where their own model lowers its clocks. "
            "Red and orange that grow in the afternoon are the room; a few that stay are boards.",
            kind="timeseries",
            unit="none",
            queries=tuple(Query(in_band(config, band), band) for band in MARGIN_BANDS),
            stacked=True,
            least=0,
            colours=tuple(zip(MARGIN_BANDS, BANDS, strict=True)),
        ),
        Panel(
            title="Margin by model",
            says="The least margin of any GPU of a model, and the mean of all. Both fall: the room or the "
            "load. Only the least falls: one board, see the hottest GPUs.",
            kind="timeseries",
            unit="celsius",
            queries=(
                Query(f"min by (model) ({margins})", "{{model}}, least"),
                Query(mean, "{{model}}, mean"),
            ),
            steps=MARGIN,
        ),
    )


def _gpus(config: Config) -> tuple[Panel, ...]:
    group = config.of_group
    hottest = f"bottomk({MOST}, gpu_temperature_margin_celsius{{{group}}})"
    fans = f"gpu_fan_speed_least_ratio{{{group}}} <= {STILL}"
    warm = f"gpu_temperature_margin_celsius{{{group}}} <= {WARM}"
    memory = (
        f"gpu_memory_temperature_limit_celsius{{{group}}} - gpu_memory_temperature_max_celsius{{{group}}}"
    )

    def beside(metric: str) -> str:
        return f"{metric}{{{group}}} and on (node, uuid) {hottest}"

    return (
        Panel(
            title="Hottest GPUs",
            says=f"The {MOST} GPUs with the least margin. Much power: the load makes them hot. Little power "
            "and hot: dust, paste, a fan, or warm air from beside.",
            kind="table",
            unit="celsius",
            queries=(
                Query(hottest, "Margin", instant=True),
                Query(beside("gpu_temperature_max_celsius"), "Core", instant=True),
                Query(beside("gpu_memory_temperature_max_celsius"), "Memory", instant=True),
                Query(beside("gpu_power_watts"), "Power", instant=True, unit="watt"),
                Query(beside("gpu_power_limit_watts"), "Limit", instant=True, unit="watt"),
            ),
            width=24,
            decimals=0,
            labels=_GPU,
            smallest=True,
        ),
        Panel(
            title="Memory nearest to its limit",
            says="Kelvins until the device memory lowers its clock: it has a sensor and a limit of its own, "
            "and may be hot while the core is cool. Empty where no model tells the limit.",
            kind="table",
            unit="celsius",
            queries=(Query(f"bottomk({MOST}, {memory})", instant=True),),
            quiet=True,
            decimals=0,
            steps=MARGIN,
            labels=_GPU,
            value="Memory margin",
            smallest=True,
        ),
        Panel(
            title="Fans that stand still",
            says=f"GPUs with less than {WARM} K of margin and a fan that is told to stand still: have it "
            "looked at. Boards that the chassis cools tell no fan. Empty is well.",
            kind="table",
            unit="celsius",
            queries=(
                Query(f"{warm} and on (node, uuid) ({fans})", "Margin", instant=True),
                Query(
                    f"{fans} and on (node, uuid) ({warm})", "Slowest fan", instant=True, unit="percentunit"
                ),
            ),
            quiet=True,
            decimals=0,
            labels=_GPU,
            smallest=True,
        ),
    )


def _nodes(config: Config) -> tuple[Panel, ...]:
    group = config.of_group
    worst = f"bottomk({MOST}, min by (node) ({MARGINS.of(config, group)}))"
    margin = f"gpu_temperature_margin_celsius{{{group}}}"
    near = f"(count by (node) ({margin} <= 5) or 0 * count by (node) ({margin}))"
    widest = f"topk({MOST}, {_spread('gpu_temperature_celsius', group)})"
    return (
        Panel(
            title="Nodes nearest to their limits",
            says=f"The {MOST} nodes with the hottest GPU. Several GPUs of one node within 5 K: not a board, "
            "but what they share: fans, pump, rack, inlet.",
            kind="table",
            unit="celsius",
            queries=(
                Query(worst, "Least margin", instant=True),
                Query(f"{near} and on (node) {worst}", "GPUs within 5 K", instant=True, unit="none"),
            ),
            decimals=0,
            labels=(("node", "Node"),),
            smallest=True,
        ),
        Panel(
            title="Spread within nodes",
            says="Hottest less coolest core of a node. Wide at little spread of power: one board's paste or "
            "airflow. Wide at much spread of power: one works and another rests, which is usual.",
            kind="table",
            unit="celsius",
            queries=(
                Query(widest, "Spread", instant=True),
                Query(
                    f"{_spread('gpu_power_watts', group)} and on (node) {widest}",
                    "Spread of power",
                    instant=True,
                    unit="watt",
                ),
            ),
            steps=_SPREAD,
            decimals=0,
            labels=(("node", "Node"),),
        ),
    )


def _spread(metric: str, group: str) -> str:
    return f"(max by (node) ({metric}{{{group}}}) - min by (node) ({metric}{{{group}}}))"


def _power(config: Config) -> tuple[Panel, ...]:
    group = config.of_group
    watts = f"sum({WATTS.of(config, group)})"
    idle = TALLY_WATTS.of(config, f'{group}, state="{State.HELD_IDLE}"')
    reasons = _throttled(config, 'reason!="low_utilization"')
    return (
        lines(
            "Clocks lowered",
            "GPUs' worth of time with clocks lowered, by reason; reasons overlap. power_cap is usual at full "
            "load; thermal ones and power_brake cost work. Too little work is left out.",
            "none",
            Query(f"sum by (reason) ({reasons})", "{{reason}}"),
            least=0,
        ),
        lines(
            "Power and limits",
            "Power of all GPUs, and the sum of the limits in force. Far below: the room could feed more; a "
            "limit that steps down: somebody lowered it.",
            "watt",
            Query(watts, "power"),
            Query(f"sum({WATTS_LIMIT.of(config, group)})", "limits"),
            least=0,
            dashed=("limits",),
        ),
        lines(
            "Energy of an hour",
            "kWh that an hour costs at this rate: by the driver's counters, by the mean of power, and that "
            "of GPUs held idle. The first two apart: some GPUs do not count energy.",
            "kwatth",
            Query(f"sum({DRIVER_WATTS.of(config, group)}) / 1000", "counted"),
            Query(f"{watts} / 1000", "by power"),
            Query(f"sum({idle}) / 1000", "held_idle"),
            least=0,
        ),
    )
