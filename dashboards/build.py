"""All dashboards and the recording rules that they ask for, as files."""

from collections.abc import Mapping

from dashboards.boards.fleet import fleet
from dashboards.boards.gpu import gpu
from dashboards.boards.health import health
from dashboards.boards.idle import idle
from dashboards.boards.node import node
from dashboards.boards.owners import owners
from dashboards.boards.planner import planner
from dashboards.boards.telemetry import telemetry
from dashboards.boards.thermals import thermals
from dashboards.influx.boards import boards as influx_boards
from dashboards.outline import Board, Config
from dashboards.recorded import rules

RULES = "gputally.recording.yaml"


def boards(config: Config) -> tuple[Board, ...]:
    """Make all dashboards, in the order in which they are asked for."""
    if config.language == "influxql":
        return influx_boards(config)
    return (
        fleet(config),
        idle(config),
        thermals(config),
        node(config),
        gpu(config),
        owners(config),
        health(config),
        telemetry(config),
        planner(config),
    )


def files(config: Config) -> Mapping[str, str]:
    """Give the name and the text of each file. Needs grafana-foundation-sdk."""
    from dashboards.sdk import to_json  # noqa: PLC0415  it needs the SDK

    every = boards(config)
    found = {f"{board.name}.json": to_json(board, every) for board in every}
    recorded = config.recorded and config.language == "promql"
    return {**found, RULES: rules(config)} if recorded else found
