"""Counts nodes by how many of their GPUs were free throughout an hour."""

from collections import Counter
from collections.abc import Iterable

from reports.facts import FreeHour
from reports.sections import Group


def counted(rows: Iterable[tuple[int, Group, int]]) -> tuple[FreeHour, ...]:
    """Count rows, each of one node: the hour, the group, and how many of its GPUs were free throughout."""
    nodes = Counter(rows)
    return tuple(FreeHour(*key, nodes[key]) for key in sorted(nodes))
