"""Fleet, Node and GPU as they are for stores that speak PromQL, with the same panels asked in InfluxQL.

Two differ: states are drawn as shares of time, since InfluxQL cannot turn labels into numbers; and what is
accounted for is told of the GPUs that are heard of.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dashboards.boards.fleet import fleet
from dashboards.boards.gpu import gpu
from dashboards.boards.node import node
from dashboards.influx.asking import of_group, values
from dashboards.influx.of_fleet import panels as of_fleet
from dashboards.influx.of_gpus import CARD, PICKED_GPU, PICKED_NODE, cards, sides
from dashboards.outline import Board, Config, Panel, Row, Variable

Changes = Mapping[str, Mapping[str, Any]]
"""By the title of a panel: what of it is another."""


def boards(config: Config) -> tuple[Board, ...]:
    """Make the three dashboards."""
    cluster, pool = config.cluster_label, config.pool_label
    of_cluster = f'"{cluster}" =~ /^$cluster$/'
    group = (
        Variable("cluster", "Cluster", values(cluster)),
        Variable("pool", "Pool", values(pool, of_cluster)),
        Variable("model", "Model", values("model", of_cluster)),
    )
    one = Variable("node", "Node", values("node", of_group(config)), every=False)
    card = Variable("uuid", "GPU", values("uuid"), every=False)
    return (
        _asked(fleet(config), of_fleet(config), group),
        _asked(node(config), sides(PICKED_NODE), (*group, one)),
        _asked(gpu(config), {**cards(PICKED_GPU), **CARD}, (card,)),
    )


def _asked(board: Board, changes: Changes, variables: tuple[Variable, ...]) -> Board:
    """Put other questions into the panels of a dashboard. Raises KeyError for a panel without one."""

    def asked(panel: Panel) -> Panel:
        return replace(panel, **changes[panel.title])

    return replace(
        board,
        name=f"influx-{board.name}",
        title=f"{board.title} (InfluxDB)",
        variables=variables,
        rows=tuple(Row(row.title, tuple(map(asked, row.panels))) for row in board.rows),
        events=(),
        language="influxql",
    )
