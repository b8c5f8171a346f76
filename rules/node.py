"""Judges a whole node: its GPUs, and what the agent knows of itself.

Rules about the node see figures that no GPU has. Prometheus has rules of the same names in rules/fleet.toml,
made for the metrics of the agent: these here are for nodes that tell of themselves.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from agent.scene import Scene
from agent.tick import Finding, reading_of
from rules.definition import Rule
from rules.engine import Engine


class NodeJudge:
    """The rules about GPUs and those about the node, at work."""

    def __init__(self, rules: Mapping[str, Rule], interval_ms: int, opened: Iterable[Finding] = ()) -> None:
        opened = tuple(opened)
        self.gpus = Engine(rules, interval_ms, [one for one in opened if one.uuid])
        self._node = Engine(rules, interval_ms, [one for one in opened if not one.uuid], about="node")

    def judge(self, scene: Scene) -> list[Finding]:
        """Give all findings that are open after an interval; those about the node have no UUID."""
        found = self.gpus.judge(scene)
        if scene.figures:
            found += self._node.judge(_of_node(scene))
        return found


def _of_node(scene: Scene) -> Scene:
    """Show a node as if it were a GPU without a UUID, whose quantities are its figures."""
    reading = reading_of("", scene.end_ms, scene.end_ms, {})
    reading.__dict__.update(scene.figures)
    return replace(scene, readings=[reading], states={}, models={}, workloads={}, xids={})
