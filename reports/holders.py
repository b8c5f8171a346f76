"""Who holds what now, and what one holder had: from the tenures of a journal."""

import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from agent.restore import tenures_of
from agent.tally import HOUR_MS
from agent.tenures import Tenure, key_of
from agent.tick import State

JOULES_PER_KWH = 3.6e6
_NOW = """
    SELECT holder.kind, holder.name, CASE holder.kind WHEN 'process' THEN user ELSE '' END, uuid, position,
           state, max(posting.start_ms) FROM posting
    JOIN holder ON holder.id = holder_id JOIN gpu ON gpu.id = posting.gpu_id
    JOIN place ON place.gpu_id = gpu.id AND to_ms IS NULL
    WHERE tick_id > (SELECT max(id) FROM tick) - 3 GROUP BY 1, 2, 3, 4"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A holder's time on a node, with the GPUs that it holds now and the state of each."""

    kind: str
    name: str
    owner: str
    user: str
    title: str
    account: str
    partition: str
    qos: str
    namespace: str
    container: str
    workload: str
    cost_centre: str
    node: str
    start_ms: int
    end_ms: int
    ended: bool
    gpus: tuple[str, ...]
    gpu_hours: float
    state_hours: Mapping[str, float]
    energy_kwh: float
    activity_mean_ratio: float | None
    activity_max_ratio: float
    memory_max_bytes: float
    throttle_seconds: Mapping[str, float]
    xids: Mapping[str, int]
    now: Mapping[str, str] = field(default_factory=dict)

    @property
    def inactive_hours(self) -> float:
        """GPU-hours held without activity."""
        return sum(self.state_hours.get(state.value, 0.0) for state in (State.HELD_GAP, State.HELD_IDLE))


def holders_now(db: sqlite3.Connection) -> list[Held]:
    """Read who holds GPUs now, those with most time without activity first."""
    places: dict[tuple[str, str, str], dict[str, str]] = {}
    for kind, name, user, _, position, state, _ in db.execute(_NOW):
        places.setdefault((kind, name, user), {})[str(position)] = state
    found = [_held(one, places.get(key_of(one.holder), {})) for one in tenures_of(db, "ended = 0")]
    return sorted(found, key=lambda one: (-one.inactive_hours, one.start_ms, one.name))


def tenures_named(db: sqlite3.Connection, name: str) -> list[Held]:
    """Read all that a holder of this name had, the tasks of an array included; oldest first."""
    if not (name.isascii() and name.isdecimal()):
        return [_held(one, {}) for one in tenures_of(db, "tenure.name = ?", name)]
    condition = "(tenure.name = ? OR (tenure.kind = 'slurm' AND tenure.name LIKE ? ESCAPE '!'))"
    return [_held(one, {}) for one in tenures_of(db, condition, name, f"{name}!_%")]


def _held(one: Tenure, now: Mapping[str, str]) -> Held:
    holder: dict[str, Any] = asdict(one.holder)
    return Held(
        **{**holder, "workload": one.holder.workload.value},
        node=one.node,
        start_ms=one.start_ms,
        end_ms=one.end_ms,
        ended=one.ended,
        gpus=tuple(sorted(one.gpus)),
        gpu_hours=one.gpu_hours,
        state_hours={state: ms / HOUR_MS for state, ms in one.elapsed_ms.items() if ms},
        energy_kwh=one.energy_mj / 1000 / JOULES_PER_KWH,
        activity_mean_ratio=one.activity_mean,
        activity_max_ratio=one.activity_max,
        memory_max_bytes=one.memory_max_bytes,
        throttle_seconds=one.throttle_seconds,
        xids=one.xids,
        now=now,
    )
