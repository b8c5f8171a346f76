"""A node whose worlds hang, drain it, fail or name too many: ticks go on, and time is told as what it is."""

import threading
import time
from pathlib import Path

import pytest

from agent.holders.claims import Holders
from agent.holders.contract import Answer, Claimant, Question
from agent.holders.lookout import STUCK_SECONDS, Lookout
from agent.holders.owners import Owners
from agent.holders.processes import People, Seen
from agent.tick import Process, State, Tick, Workload, reading_of
from tests.agent.holders.worlds import Canned, Host, seen
from tests.command.journals import rows
from tests.command.test_node import GPUS, INTERVAL_MS, MIDNIGHT, NODE, playing, tick

JOB = Claimant(kind="slurm", name="4711", user="ada", account="vision")
TICKS = 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a journal."""
    return tmp_path / "j.db"


def named(*sources: Canned | Lookout, people: Host | People | None = None, most_owners: int = 100) -> Holders:
    """Put worlds and a host together."""
    return Holders(people or Host(), sources, Owners((), Workload.BATCH, most_owners))


def rest(start_ms: int) -> Tick:
    """Make a tick in which no GPU worked and none had a process."""
    end_ms = start_ms + INTERVAL_MS
    idle = {"busy_ratio": 0.0, "memory_used_bytes": 0.0, "power_watts": 77.0}
    readings = tuple(reading_of(gpu.uuid, start_ms, end_ms, idle, processes=()) for gpu in GPUS)
    return Tick(node=NODE, start_ms=start_ms, end_ms=end_ms, gpus=GPUS, readings=readings)


def test_worlds_and_processes_that_never_answer_cost_a_tick_nothing(path: Path) -> None:
    """A kubelet that hangs and a /proc that blocks: every interval is entered, its holders are nobody's."""
    release, now = threading.Event(), [0.0]

    class Hung:
        name = "kubernetes"

        def look(self, _: Question) -> Answer:
            release.wait(120)
            return Answer()

        def close(self) -> None:
            pass

    def blocks(_: int) -> Seen | None:
        release.wait(120)
        return None

    holders = named(Lookout(Hung(), monotonic=lambda: now[0]), people=People(blocks))
    try:
        with playing(path, holders=holders) as played:
            played.works(1)  # the first waits, for at most 1.25 s
            began = time.monotonic()
            played.works(TICKS, MIDNIGHT + INTERVAL_MS)
            assert time.monotonic() - began < TICKS * 0.2  # waiting for either would take longer
            now[0] = STUCK_SECONDS + 1
            played.works(1, MIDNIGHT + (TICKS + 1) * INTERVAL_MS)
            assert len(played.views) == TICKS + 2
            assert [one.owner for one, _ in played.view.holders[GPUS[0].uuid]] == ["unattributed"]
            assert played.view.health.worlds == {"kubernetes": "kubernetes has not answered for 21 s"}
            assert played.view.states == dict.fromkeys((gpu.uuid for gpu in GPUS), State.ACTIVE)
    finally:
        release.set()
        holders.close()


def test_a_job_that_runs_nothing_holds_its_gpu(path: Path) -> None:
    """The GPU that was given is held without activity, the other is free."""
    world = Canned(Answer(given={GPUS[1].uuid: (JOB,)}))
    with playing(path, holders=named(world)) as played:
        played.play(rest(MIDNIGHT))
        assert played.view.states == {GPUS[0].uuid: State.FREE, GPUS[1].uuid: State.HELD_GAP}
        ((holder, piece),) = played.view.holders[GPUS[1].uuid]
        assert (holder.name, holder.owner, piece) == ("4711", "vision", "")


def test_a_draining_node_still_does_its_work(path: Path) -> None:
    """What is held stays what it is; what nobody holds is drained."""
    world = Canned(Answer(given={GPUS[1].uuid: (JOB,)}, drained="new fans"))
    with playing(path, holders=named(world)) as played:
        played.play(rest(MIDNIGHT))
        assert played.view.states == {GPUS[0].uuid: State.DRAINED, GPUS[1].uuid: State.HELD_GAP}
        world.told = Answer(drained="new fans")
        played.play(rest(MIDNIGHT + INTERVAL_MS))
        assert set(played.view.states.values()) == {State.DRAINED}
        world.told = Answer()
        played.play(rest(MIDNIGHT + 2 * INTERVAL_MS))
        assert set(played.view.states.values()) == {State.FREE}
    ((text,),) = rows(path, "SELECT text FROM event WHERE kind = 'holder_ended'")
    assert text.startswith("job 4711 of vision held 1 GPU: 0.00 GPU-hours (0.00 held_gap)")


def test_trouble_of_a_world_is_an_event_when_it_begins_and_when_it_ends(path: Path) -> None:
    """Not in between, however its sentence changes."""
    world = Canned()
    with playing(path, holders=named(world)) as played:
        for number, trouble in enumerate(("", "no answer", "no answer for 20 s", "", "")):
            world.told = Answer(trouble=trouble)
            played.play(rest(MIDNIGHT + number * INTERVAL_MS))
    assert rows(path, "SELECT kind, text FROM event WHERE kind LIKE 'holders%' ORDER BY id") == [
        ("holders_unknown", "slurm: no answer"),
        ("holders_known", "slurm names holders again"),
    ]


def test_holders_beyond_the_bound_are_counted_and_left_out(path: Path) -> None:
    """The page stays small, the accounts stay whole."""
    crowd = Host({pid: seen(f"user{pid}", f"train{pid}.py") for pid in range(50)})
    processes = tuple(Process(pid=pid) for pid in range(50))
    held = rest(MIDNIGHT)
    readings = tuple(
        reading_of(one.uuid, one.start_ms, one.end_ms, {"busy_ratio": 0.0}, processes=processes)
        for one in held.readings
    )
    with playing(path, holders=named(people=crowd, most_owners=10), most_holders=20) as played:
        played.play(Tick(node=NODE, start_ms=held.start_ms, end_ms=held.end_ms, gpus=GPUS, readings=readings))
        assert [len(seats) for seats in played.view.holders.values()] == [10, 10]
        assert played.view.health.holders_dropped == 80
        assert played.view.health.owners_folded == 10
    assert rows(
        path,
        "SELECT count(DISTINCT name), sum(elapsed_ms) FROM owner JOIN account ON owner_id = owner.id "
        "WHERE owner_id > 0",
    ) == [(11, 2 * INTERVAL_MS)]


def test_a_working_gpu_is_not_touched_by_worlds_that_know_nothing(path: Path) -> None:
    """Plain processes are named as ever."""
    with playing(
        path, holders=named(Canned(), people=Host({4000: seen("ada"), 4001: seen("bob")}))
    ) as played:
        played.play(tick(MIDNIGHT))
        assert [one.owner for gpu in GPUS for one, _ in played.view.holders[gpu.uuid]] == ["ada", "bob"]
