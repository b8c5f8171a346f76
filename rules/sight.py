"""What a condition is about, and what that is compared with, in one interval of one GPU."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import median
from typing import NamedTuple

from agent.scene import Scene
from agent.tick import Condition as Health
from agent.tick import Reading, State
from rules.definition import FAULTS, JOB, PEERS, STATE, UP, XIDS, Condition

FEWEST_PEERS = 3
Peers = tuple[str, str, str, str]
"""Which peers, their model, their job, and a quantity."""


class Sight(NamedTuple):
    """What is judged of a GPU in an interval, which has this number."""

    scene: Scene
    reading: Reading
    values: Mapping[str, float | None]
    peers: Mapping[Peers, float]
    xids: Mapping[int, int]
    slot: int


def medians(scene: Scene, wanted: Iterable[tuple[str, str]]) -> dict[Peers, float]:
    """Give the medians that are wanted, of peers or jobs and a quantity, where there are enough of them."""
    found: dict[Peers, float] = {}
    for of, quantity in wanted:
        by_group: dict[tuple[str, str], list[float]] = defaultdict(list)
        for reading in scene.readings:
            group, value = _group_of(of, scene, reading.uuid), getattr(reading, quantity)
            if value is not None and group is not None:
                by_group[group].append(value)
        for group, several in by_group.items():
            if len(several) >= FEWEST_PEERS:
                found[of, *group, quantity] = median(several)
    return found


def other_of(condition: Condition, sight: Sight) -> float | None:
    """Give what a value is compared with, times its factor."""
    if condition.of in (PEERS, JOB):
        group = _group_of(condition.of, sight.scene, sight.reading.uuid)
        other = sight.peers.get((condition.of, *group, condition.quantity)) if group else None
    else:
        other = sight.values.get(condition.of)
    return None if other is None else other * condition.times


def _group_of(of: str, scene: Scene, uuid: str) -> tuple[str, str] | None:
    """Tell with whom a GPU is compared: those of its model, and of its job if it has one."""
    model = scene.models.get(uuid, "")
    if of == PEERS:
        return model, ""
    return (model, scene.jobs[uuid]) if uuid in scene.jobs else None


def value_of(condition: Condition, sight: Sight) -> float | None:
    """Give what a condition is about."""
    scene, reading = sight.scene, sight.reading
    if condition.quantity == STATE:
        state = scene.states.get(reading.uuid)
        return None if state is None or state is State.UNKNOWN else float(state.value == condition.is_state)
    if condition.quantity == UP:
        return float(reading.condition is Health.OK)
    if condition.quantity in FAULTS:
        return float(reading.condition.value == condition.quantity)
    if condition.quantity == XIDS:
        if not sight.xids:
            return 0.0
        return float(sum(count for number, count in sight.xids.items() if number in condition.xids))
    return sight.values.get(condition.quantity)
