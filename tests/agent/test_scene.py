"""What rules judge: read back from the journal it is what it was."""

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from agent.journal_file import connect
from agent.scene import Scene, scenes
from agent.tick import Condition, Finding, Hold, State, Xid
from tests.agent.histories import (
    CHAT,
    INTERVAL_MS,
    MIDNIGHT,
    NODE,
    TRAINING,
    books_at,
    gpu_of,
    reading,
    tick_of,
)

GPUS = (gpu_of(0), gpu_of(1), gpu_of(2))
WANTED = ("busy_ratio", "temperature_margin_celsius", "gone_from_this_version")


def test_a_scene_reads_back_as_it_was(tmp_path: Path) -> None:
    """Readings, states and classes of work, for GPUs that work, idle, are lost, and are not seen."""
    live: list[Scene] = []
    path = tmp_path / "j.db"

    def keep(scene: Scene) -> Iterable[Finding]:
        live.append(scene)
        return ()

    with books_at(path) as books:
        for place in range(250):
            start_ms = MIDNIGHT + place * INTERVAL_MS
            end_ms = start_ms + INTERVAL_MS
            busy = reading(GPUS[0], start_ms, end_ms, busy_ratio=0.5, temperature_margin_celsius=place / 8)
            quiet = reading(GPUS[1], start_ms, end_ms, busy_ratio=0.0)
            lost = reading(GPUS[2], start_ms, end_ms, Condition.LOST)
            seen = (busy, quiet, lost) if place % 7 else (busy,)
            books.xids.take([Xid(end_ms, GPUS[0].uuid, 79)] if place == 5 else [], end_ms)
            holds = {GPUS[0].uuid: (Hold(TRAINING),), GPUS[1].uuid: (Hold(CHAT),)}
            books.post(tick_of(start_ms, end_ms, *seen, gpus=GPUS), holds, judge=keep)
            books.commit(end_ms)
    with closing(connect(path)) as db:
        from_ms, until_ms = MIDNIGHT + 40 * INTERVAL_MS, MIDNIGHT + 240 * INTERVAL_MS
        found = list(scenes(db, from_ms, until_ms, WANTED))
        everything = list(scenes(db, 0, 2 * MIDNIGHT, WANTED))
    assert [one.end_ms for one in found] == [from_ms + (n + 1) * INTERVAL_MS for n in range(200)]
    for was, one in zip(live, everything, strict=True):
        assert one.node == NODE
        assert _told(one) == _told(was)
        assert one.states == was.states
        assert one.xids == {(GPUS[0].uuid, 79): 1} if one.end_ms > MIDNIGHT + 6 * INTERVAL_MS else True
        assert one.workloads == was.workloads
    assert everything[1].states == {
        GPUS[0].uuid: State.ACTIVE,
        GPUS[1].uuid: State.HELD_GAP,
        GPUS[2].uuid: State.DOWN,
    }
    assert everything[1].workloads[GPUS[1].uuid] == {CHAT.workload}


def _told(one: Scene) -> dict[str, tuple[object, ...]]:
    return {
        reading.uuid: (reading.condition, reading.busy_ratio, reading.temperature_margin_celsius)
        for reading in one.readings
    }
