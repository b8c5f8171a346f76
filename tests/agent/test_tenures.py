"""Tenures: what each holder had, from when it took hold until it let go."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.books import Books
from agent.journal import Journal
from agent.tenures import Tenure, figures_of, summary_of, with_figures
from agent.tick import Condition, Event, Hold, Reading, Tick, Xid, reading_of, slice_of
from tests.agent.histories import (
    CHAT,
    IMPATIENT,
    INTERVAL_MS,
    MIDNIGHT,
    NODE,
    QUICK,
    SWEEP,
    TRAINING,
    gpu_of,
    rows,
)

GPUS = (gpu_of(0), gpu_of(1))
HOUR = 3_600_000
SOMEBODY = replace(TRAINING, kind="process", name="python train.py", user="ada")


class Desk:
    """Real books of a node of two GPUs, and the events that they made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_ms = MIDNIGHT
        self._open()

    def _open(self) -> None:
        self.journal = Journal(self.path, QUICK, self.now_ms)
        self.books = Books(self.journal, IMPATIENT, boot_id="boot-1", node=NODE, follow_holders=True)
        self.books.resume(NODE, self.now_ms, MIDNIGHT - HOUR)

    def again(self, after_ms: int = 0) -> None:
        """Let the agent die and start again."""
        self.journal.close()
        self.now_ms += after_ms
        self._open()

    def passes(
        self,
        holds: Mapping[int, Sequence[Hold]],
        times: int = 1,
        *,
        length_ms: int = INTERVAL_MS,
        lost: int | None = None,
        xids: Sequence[tuple[int, int]] = (),
        **values: float,
    ) -> "Desk":
        """Let intervals pass in which these hold the GPUs at those indices."""
        for _ in range(times):
            end_ms = self.now_ms + length_ms
            readings = tuple(
                self._reading(index, end_ms, values, lost=index == lost) for index in range(len(GPUS))
            )
            self.books.xids.take(
                [Xid(end_ms - 1, GPUS[index].uuid, number) for index, number in xids], end_ms
            )
            tick = Tick(node=NODE, start_ms=self.now_ms, end_ms=end_ms, readings=readings, gpus=GPUS)
            self.books.post(tick, {GPUS[index].uuid: several for index, several in holds.items()})
            assert self.books.commit(end_ms) is None
            self.now_ms = end_ms
        return self

    def _reading(self, index: int, end_ms: int, values: dict[str, float], *, lost: bool) -> Reading:
        if lost:
            return reading_of(GPUS[index].uuid, self.now_ms, end_ms, {}, condition=Condition.LOST)
        told = {"busy_ratio": 0.0, "memory_used_bytes": 0.0, **values}
        return reading_of(GPUS[index].uuid, self.now_ms, end_ms, told)

    @property
    def open(self) -> dict[str, Tenure]:
        """The tenures that are open, by name."""
        assert self.books.tenures is not None
        return {one.holder.name: one for one in self.books.tenures.open}

    def ended(self) -> list[str]:
        """Give the summaries of those that let go."""
        return [text for (text,) in rows(self.path, "SELECT text FROM event WHERE kind = 'holder_ended'")]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Open books."""
    made = Desk(tmp_path / "journal.db")
    yield made
    made.journal.close()


def test_a_tenure_sums_what_a_holder_had(desk: Desk) -> None:
    """GPU-hours by state over all its GPUs, energy, activity, memory; nobody else's."""
    both = {0: [Hold(TRAINING)], 1: [Hold(TRAINING)]}
    desk.passes(both, 3, busy_ratio=0.5, power_watts=360.0, memory_used_bytes=4.0 * 2**30)
    desk.passes({0: [Hold(TRAINING)], 1: [Hold(SWEEP)]}, 1, busy_ratio=0.0, power_watts=360.0)
    one = desk.open["4711"]
    assert one.elapsed_ms == {"active": 60_000, "held_gap": 10_000}
    assert one.energy_mj == 7 * 3_600_000
    assert one.activity_mean == pytest.approx(3 * 2 * 0.5 / 7)
    assert one.activity_max == 0.5
    assert one.memory_max_bytes == 2 * 4 * 2**30
    assert one.gpus == {gpu.uuid for gpu in GPUS}
    assert desk.open["4712"].elapsed_ms == {"held_gap": 10_000}


def test_whoever_lets_go_leaves_one_summary(desk: Desk) -> None:
    """The event says all of it in a line; the row stays with its figures."""
    desk.passes({0: [Hold(TRAINING)]}, 2, busy_ratio=1.0, power_watts=600.0)
    desk.passes({0: [Hold(SWEEP)]}, 2)
    (text,) = desk.ended()
    assert text == (
        "job 4711 of vision held 1 GPU: 0.01 GPU-hours (0.01 active); 0.003 kWh; "
        "activity 100.0% in the mean, 100.0% at most"
    )
    ((start_ms, end_ms, ended, figures),) = rows(
        desk.path, "SELECT start_ms, end_ms, ended, figures FROM tenure WHERE name = '4711'"
    )
    assert (start_ms, end_ms, ended) == (MIDNIGHT, MIDNIGHT + 20_000, 1)
    assert json.loads(figures)["elapsed_ms"] == {"active": 20_000}


def test_a_tenure_outlives_the_agent(desk: Desk) -> None:
    """After a restart it goes on; the time between is nobody's."""
    desk.passes({0: [Hold(TRAINING)]}, 2).again(after_ms=30_000)
    desk.passes({0: [Hold(TRAINING)]}, 2)
    one = desk.open["4711"]
    assert one.start_ms == MIDNIGHT
    assert one.elapsed_ms == {"held_gap": 40_000}
    desk.again()
    desk.passes({})
    assert len(desk.ended()) == 1


def test_a_gpu_that_is_not_seen_ends_no_tenure_for_a_while(desk: Desk) -> None:
    """A lost GPU's job goes on for as long as a spell does (90 s here), then it has let go."""
    desk.passes({0: [Hold(TRAINING)]}, 2)
    desk.passes({0: [Hold(TRAINING)]}, 8, lost=0)
    assert set(desk.open) == {"4711"}
    desk.passes({}, 2, lost=0)
    assert desk.open == {}
    assert len(desk.ended()) == 1


def test_throttle_time_is_told_by_reason(desk: Desk) -> None:
    """What the counters of its GPUs gained while it held them."""
    desk.passes({1: [Hold(SWEEP)]}, 1, throttle_hw_thermal_seconds_total=5.0)
    desk.passes({0: [Hold(TRAINING)]}, 1, throttle_hw_thermal_seconds_total=7.5)
    desk.passes({0: [Hold(TRAINING)]}, 1, throttle_hw_thermal_seconds_total=8.0)
    assert desk.open["4711"].throttle_seconds == {"hw_thermal": 3.0}


def test_xids_go_to_whoever_held_the_gpu(desk: Desk) -> None:
    """Each is counted once, by number; those of before are nobody's of now."""
    desk.passes({0: [Hold(SWEEP)]}, 1, xids=[(0, 31)])
    desk.passes({0: [Hold(TRAINING)], 1: [Hold(CHAT)]}, 1, xids=[(0, 13), (0, 43)])
    assert desk.open["4711"].xids == {"13": 1, "43": 1}
    assert desk.open[CHAT.name].xids == {}


def test_a_shared_gpu_is_told_in_parts(desk: Desk) -> None:
    """Activity and memory are those of the holder's own processes where the driver tells them."""
    holds = [Hold(TRAINING, 0.6, "", 5 * 2**30), Hold(SWEEP, 0.2, "", 2**30)]
    desk.passes({0: holds}, 4, busy_ratio=0.9, memory_used_bytes=7.0 * 2**30)
    one, other = desk.open["4711"], desk.open["4712"]
    assert (one.elapsed_ms, other.elapsed_ms) == ({"active": 30_000}, {"active": 10_000})
    assert (one.activity_mean, other.activity_mean) == pytest.approx((0.6, 0.2))
    assert (one.memory_max_bytes, other.memory_max_bytes) == (5 * 2**30, 2**30)


def test_a_slice_is_told_by_itself(desk: Desk) -> None:
    """Activity and memory are the slice's, and hours count with its weight."""
    slices = (
        slice_of("MIG-a", "3g", 3 / 7, {"sm_active_ratio": 0.8, "memory_used_bytes": 2.0**30}),
        slice_of("MIG-b", "4g", 4 / 7, {"sm_active_ratio": 0.0, "memory_used_bytes": 2.0**34}),
    )
    end_ms = MIDNIGHT + 42_000
    reading = reading_of(GPUS[0].uuid, MIDNIGHT, end_ms, {"power_watts": 100.0}, slices=slices)
    tick = Tick(node=NODE, start_ms=MIDNIGHT, end_ms=end_ms, readings=(reading,), gpus=GPUS)
    holds = [Hold(TRAINING, None, "MIG-a"), Hold(SWEEP, None, "MIG-b")]
    desk.books.post(tick, {GPUS[0].uuid: holds})
    one, other = desk.open["4711"], desk.open["4712"]
    assert one.elapsed_ms == {"active": 18_000}
    assert other.elapsed_ms == {"held_gap": 24_000}
    assert (one.activity_mean, one.memory_max_bytes) == (0.8, 2**30)
    assert (other.activity_mean, other.memory_max_bytes) == (0.0, 2**34)


def test_details_that_come_later_belong_to_the_same_tenure(desk: Desk) -> None:
    """A job that is first known by its number is the same when its account is known."""
    bare = replace(TRAINING, owner="unattributed:slurm", user="")
    desk.passes({0: [Hold(bare)]}).passes({0: [Hold(TRAINING)]})
    one = desk.open["4711"]
    assert (one.holder.owner, one.elapsed_ms) == ("vision", {"held_gap": 20_000})
    assert desk.ended() == []


@pytest.mark.parametrize(("times", "told"), [(5, 0), (6, 1)])
def test_short_processes_leave_no_event(desk: Desk, times: int, told: int) -> None:
    """A process that held a GPU for less than a minute is in the table, but makes no noise."""
    desk.passes({0: [Hold(SOMEBODY)]}, times).passes({}, 1)
    assert len(desk.ended()) == told
    assert rows(desk.path, "SELECT count(*) FROM tenure WHERE ended = 1") == [(1,)]


def test_time_that_nobody_can_be_named_for_makes_no_tenure(desk: Desk) -> None:
    """A GPU that is held by memory alone has no holder with a name."""
    desk.passes({}, 2, memory_used_bytes=8.0 * 2**30)
    assert desk.open == {}
    assert rows(desk.path, "SELECT count(*) FROM tenure") == [(0,)]


def test_figures_come_back_as_they_were() -> None:
    """What was written is read, and other text is refused."""
    one = Tenure(TRAINING, NODE, 1, 2, gpus={"GPU-1"}, elapsed_ms={"active": 5}, activity_max=0.25)
    one.throttle_seconds, one.xids = {"sw_thermal": 1.5}, {"79": 2}
    assert with_figures(Tenure(TRAINING, NODE, 1, 2), figures_of(one)) == one
    for text in ("", "[]", "{}", '{"gpus": 5}'):
        with pytest.raises((ValueError, TypeError, KeyError)):
            with_figures(Tenure(TRAINING, NODE, 1, 2), text)


def test_a_summary_says_everything_that_happened() -> None:
    """States, energy, activity, memory, lowered clocks and errors, each only where there was some."""
    one = Tenure(TRAINING, NODE, 0, HOUR, gpus={"a", "b"}, elapsed_ms={"active": HOUR, "held_idle": HOUR})
    assert summary_of(one) == (
        "job 4711 of vision held 2 GPUs: 2.00 GPU-hours (1.00 active, 1.00 held_idle); 0.000 kWh"
    )
    one.activity_ms, one.activity_seen_ms, one.activity_max = HOUR / 2, HOUR, 0.9
    one.memory_max_bytes = 80.0 * 2**30
    one.throttle_seconds, one.xids = {"hw_thermal": 61.0}, {"13": 2}
    assert summary_of(one).split("; ")[2:] == [
        "activity 50.0% in the mean, 90.0% at most",
        "memory up to 80.0 GiB",
        "lowered clocks: hw_thermal 61 s",
        "XIDs: 13 (2x)",
    ]


def test_events_carry_node_and_moment(desk: Desk) -> None:
    """The event stands where the holder was last seen."""
    desk.passes({0: [Hold(CHAT)]}, 7).passes({})
    ((at_ms, uuid),) = rows(desk.path, "SELECT at_ms, gpu_id FROM event WHERE kind = 'holder_ended'")
    assert (at_ms, uuid) == (MIDNIGHT + 70_000, None)
    assert Event(at_ms=at_ms, node=NODE, kind="holder_ended", text="").uuid == ""
