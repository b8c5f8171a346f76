"""What several dashboards share: variables, colours of states, thresholds from the devices' own limits."""

from agent.tick import State
from dashboards.outline import Config, Query, Step, Variable
from dashboards.recorded import Recorded

COLOURS: tuple[tuple[str, str], ...] = (
    (State.ACTIVE, "#0072b2"),
    (State.HELD_GAP, "#56b4e9"),
    (State.HELD_IDLE, "#e69f00"),
    (State.FREE, "#009e73"),
    (State.SERVICE, "#cc79a7"),
    (State.DRAINED, "#f0e442"),
    (State.DOWN, "#d55e00"),
    (State.UNKNOWN, "#666666"),
    ("silent", "#aaaaaa"),
)
"""The colours of the weekly report, which people who see few colours can tell apart."""
MARGIN = (Step(None, "red"), Step(5, "orange"), Step(10, "green"))
"""Kelvins to where the device itself lowers its clocks: at 5 alerts begin, whatever the model."""
BAD = (Step(None, "green"), Step(1, "red"))
SHARE = (Step(None, "red"), Step(0.9, "orange"), Step(0.98, "green"))
"""Below 98 % of coverage figures begin to be in doubt, below 90 % weeks are not compared."""
NEUTRAL = (Step(None, "blue"),)


def of_fleet(config: Config) -> tuple[Variable, ...]:
    """Choose a part of a fleet."""
    chosen = "gpu_info"
    within = f'gpu_info{{{config.cluster_label}=~"$cluster"}}'
    return (
        Variable("cluster", "Cluster", f"label_values({chosen}, {config.cluster_label})"),
        Variable("pool", "Pool", f"label_values({within}, {config.pool_label})"),
        Variable("model", "Model", f"label_values({within}, model)"),
    )


def by_state(config: Config, counted: Recorded) -> tuple[Query, ...]:
    """Ask for GPUs by state, each state by itself: so they are stacked in the order of `COLOURS`."""
    return tuple(
        Query(f"sum by (state) ({counted.of(config, _in(config, state))})", "{{state}}")
        for state, _ in COLOURS
        if state != "silent"
    )


def _in(config: Config, state: str) -> str:
    return f'{config.of_group}, state="{state}"'


def state_code(matchers: str, by: str) -> str:
    """Give the state of GPUs as its place in `COLOURS`, one series for each of `by`."""
    told = (
        f'(gpu_state{{{matchers}, state="{state}"}} == 1) * {number}'
        for number, (state, _) in enumerate(COLOURS)
        if state != "silent"
    )
    return f"max by ({by}) ({' or '.join(told)})"
