"""Which GPUs are out of service: by the drain file, or by a scheduler that lets its work end."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agent.holders.claims import Holders
from agent.tick import Hold


def drained(
    drain_file: Path | None, holders: Holders, holds: Mapping[str, Sequence[Hold]]
) -> Callable[[str], bool]:
    """Make what tells for a UUID whether it is drained."""
    by_file = _by_file(drain_file)
    if not holders.drained:
        return by_file
    return lambda uuid: by_file(uuid) or uuid not in holds


def _by_file(drain_file: Path | None) -> Callable[[str], bool]:
    """Read the drain file: it drains the GPUs it lists by UUID, or all when it lists none."""
    if drain_file is None:
        return lambda _: False
    try:
        listed = set(drain_file.read_text(encoding="utf-8", errors="replace").split())
    except PermissionError:
        listed = set()  # it is there, though what it lists cannot be read
    except OSError:
        return lambda _: False
    return lambda uuid: not listed or uuid in listed
