"""Groups: GPUs of one pool and model, and where their hours went."""

from agent.tally import HOUR_MS
from agent.tick import State
from reports.content.groups import group_of, groups
from reports.facts import Facts
from reports.sections import Group
from tests.reports.made import H200, Did, made

POOLS = {"n1": "train", "n2": "serve"}


def test_a_group_is_the_pool_of_the_node_and_the_model() -> None:
    """A node without a pool is in the one without a name."""
    report = made(*(Did(node, {State.FREE: 1.0}, node=node) for node in ("n1", "n2", "n3")))
    found = [group_of(Facts(pools=POOLS), line) for line in report.gpus]
    assert found == [Group("train", H200.model), Group("serve", H200.model), H200]


def test_hours_are_summed_by_group_the_largest_first() -> None:
    """A GPU that moved from one pool to another is one GPU in each."""
    report = made(
        Did("A", {State.ACTIVE: 2.0}, owner="a", busy=0.5),
        Did("A", {State.FREE: 1.0}, node="n2"),
        Did("B", {State.ACTIVE: 1.0, State.DOWN: 3.0}, owner="a", busy=1.0),
        price=2.0,
    )
    first, second = groups(report, Facts(pools=POOLS))
    assert (first.group.pool, first.gpus, first.inventory_ms) == ("train", 2, 6 * HOUR_MS)
    assert (first.elapsed_ms[State.ACTIVE], first.elapsed_ms[State.DOWN]) == (3 * HOUR_MS, 3 * HOUR_MS)
    assert first.busy_ratio_mean == 5 / 6
    assert first.cost == 12.0
    assert (second.group.pool, second.gpus, second.busy_ratio_mean) == ("serve", 1, None)
    assert sum(line.inventory_ms for line in (first, second)) == report.inventory.gpu_ms
