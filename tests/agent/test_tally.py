"""The accounts' arithmetic: entries tile time, splits hand out the whole, energy telescopes."""

from collections.abc import Iterable, Sequence

import pytest

from agent.quantities import Amount
from agent.states import StateSettings
from agent.tally import HOUR_MS, Entry, Tally, Timeline
from agent.tick import Condition, Hold, Reading, State
from tests.agent.histories import MIDNIGHT, NODE, NOTEBOOK, OTHER_NODE, SWEEP, TRAINING, gpu_of, reading

GPU = gpu_of(0)
SECOND = 1_000
START = MIDNIGHT + 600 * SECOND
LIMIT_WATTS = 700.0


class Meter:
    """One GPU whose readings follow one another; its true energy counter runs along."""

    def __init__(self, tally: Tally | None = None, now_ms: int = START, joules: float = 52_000.0) -> None:
        self.tally = tally or Tally(StateSettings(), boot_id="boot-1")
        self.now_ms = now_ms
        self.joules = joules
        self.entries: list[Entry] = []
        if not self.tally.timelines:
            self.tally.enroll(GPU.uuid, NODE, now_ms)

    def run(self, seconds: float, watts: float, *, say_power: bool = True, say_energy: bool = True) -> None:
        """Draw power for some time, and read the GPU over it."""
        start_ms = self.now_ms
        self.skip(seconds, watts)
        self.read(
            start_ms,
            power_watts=watts if say_power else None,
            energy_joules_total=self.joules if say_energy else None,
        )

    def skip(self, seconds: float, watts: float) -> None:
        """Draw power for some time while nobody looks."""
        self.now_ms += round(seconds * SECOND)
        self.joules += watts * seconds

    def read(self, start_ms: int, **values: Amount) -> None:
        """Enter a reading from a moment until now."""
        seen = {"busy_ratio": 0.8, "power_limit_watts": LIMIT_WATTS, **values}
        self.entries += post(self.tally, reading(GPU, start_ms, self.now_ms, Condition.OK, **seen))

    def energy_mj(self, state: State | None = None) -> int:
        """Give the energy entered, in one state or in all."""
        return sum(entry.energy_mj for entry in self.entries if state in (None, entry.state))


def post(tally: Tally, *seen: Reading, holds: Sequence[Hold] = (Hold(TRAINING),)) -> list[Entry]:
    """Enter readings of the GPU with these holders."""
    return tally.post(seen, {GPU.uuid: holds}).entries


def enrolled(at_ms: int = START) -> Tally:
    """Give a tally that owes the GPU's time from a moment on."""
    tally = Tally(StateSettings())
    tally.enroll(GPU.uuid, NODE, at_ms)
    return tally


def told(entries: Iterable[Entry]) -> list[tuple[State, int, int]]:
    """Give state, start and length of entries."""
    return [(entry.state, entry.start_ms, entry.elapsed_ms) for entry in entries]


def test_time_that_no_reading_covers_is_unknown() -> None:
    """A hole before a reading is entered as unknown, to the millisecond."""
    seen = reading(GPU, START + 3_001, START + 10_000, busy_ratio=0.8)
    assert told(post(enrolled(), seen)) == [
        (State.UNKNOWN, START, 3_001),
        (State.ACTIVE, START + 3_001, 6_999),
    ]


def test_entered_time_is_never_entered_again() -> None:
    """A reading that begins in time already entered is cut, and its busy time with it."""
    tally = enrolled()
    post(tally, reading(GPU, START, START + 10_000, busy_ratio=0.8))
    entries = post(tally, reading(GPU, START + 4_000, START + 14_000, busy_ratio=0.5))
    assert told(entries) == [(State.ACTIVE, START + 10_000, 4_000)]
    assert [entry.busy_us for entry in entries] == [2_000_000]


def test_a_reading_of_the_past_is_cut_to_nothing() -> None:
    """After the clock was set back, intervals that are accounted for add nothing."""
    tally = enrolled()
    post(tally, reading(GPU, START, START + 10_000, busy_ratio=0.8))
    assert post(tally, reading(GPU, START - 5_000, START + 5_000, busy_ratio=0.8)) == []
    assert post(tally, reading(GPU, START, START + 10_000, busy_ratio=0.8)) == []


def test_no_entry_crosses_an_hour() -> None:
    """An interval over three hours is cut at each full hour, unknown time too."""
    tally = enrolled(MIDNIGHT - 1)
    hour = HOUR_MS
    entries = post(tally, reading(GPU, MIDNIGHT + hour + 5, MIDNIGHT + 2 * hour + 7, busy_ratio=0.8))
    assert told(entries) == [
        (State.UNKNOWN, MIDNIGHT - 1, 1),
        (State.UNKNOWN, MIDNIGHT, hour),
        (State.UNKNOWN, MIDNIGHT + hour, 5),
        (State.ACTIVE, MIDNIGHT + hour + 5, hour - 5),
        (State.ACTIVE, MIDNIGHT + 2 * hour, 7),
    ]


def test_an_interval_that_ends_on_the_hour_stays_in_it() -> None:
    """An interval up to the full hour makes no empty entry in the next."""
    entries = post(enrolled(MIDNIGHT - 10_000), reading(GPU, MIDNIGHT - 10_000, MIDNIGHT, busy_ratio=1.0))
    assert told(entries) == [(State.ACTIVE, MIDNIGHT - 10_000, 10_000)]


@pytest.mark.parametrize(
    ("shares", "parts"),
    [
        ((0.75, 0.25), [7_500, 2_500]),
        ((0.5, 0.25), [6_666, 3_334]),
        ((None, 0.9), [5_000, 5_000]),
        ((0.0, 0.0), [5_000, 5_000]),
        ((1.0, 0.0), [10_000, 0]),
        ((None, None, None), [3_333, 3_333, 3_334]),
    ],
)
def test_holders_share_a_gpu(shares: tuple[float | None, ...], parts: list[int]) -> None:
    """Time is split by share, in equal parts where a share is not known, and the parts sum to the whole."""
    names = (TRAINING, SWEEP, NOTEBOOK)
    holds = [Hold(holder, share) for holder, share in zip(names, shares, strict=False)]
    entries = post(
        enrolled(), reading(GPU, START, START + 10_000, busy_ratio=0.8, power_watts=513.7), holds=holds
    )
    assert [entry.elapsed_ms for entry in entries] == parts
    assert sum(entry.busy_us for entry in entries) == 8_000_000
    assert sum(entry.energy_mj for entry in entries) == 5_137_000
    assert sum(entry.busy_seen_ms for entry in entries) == 10_000
    assert sum(entry.energy_seen_ms for entry in entries) == 10_000


def test_a_cut_interval_keeps_its_busy_time_and_energy() -> None:
    """Over an hour's edge, with three holders, the parts sum to the interval's whole exactly."""
    holds = [Hold(TRAINING, 0.31), Hold(SWEEP, 0.33), Hold(NOTEBOOK, 0.17)]
    start_ms, end_ms = MIDNIGHT - 3_331, MIDNIGHT + 6_677
    seen = reading(GPU, start_ms, end_ms, busy_ratio=1 / 3, power_watts=401.009)
    entries = post(enrolled(start_ms), seen, holds=holds)
    assert len(entries) == 6
    assert sum(entry.elapsed_ms for entry in entries) == 10_008
    assert sum(entry.busy_us for entry in entries) == 3_336_000
    assert sum(entry.energy_mj for entry in entries) == round(401.009 * 10_008)


def test_a_gpu_at_rest_counts_and_a_silent_one_does_not() -> None:
    """A mean of busy is a ratio of sums: 0 % weighs as much as 100 %, and silence weighs nothing."""
    tally = Tally(StateSettings())
    ratios = (1.0, 0.0, None)
    seen = []
    for index, ratio in enumerate(ratios):
        tally.enroll(gpu_of(index).uuid, NODE, START)
        seen.append(
            reading(
                gpu_of(index), START, START + 10_000, busy_ratio=ratio, memory_used_bytes=0, sm_active_ratio=0
            )
        )
    entries = tally.post(seen, {}).entries
    busy_us = sum(entry.busy_us for entry in entries)
    seen_ms = sum(entry.busy_seen_ms for entry in entries)
    assert (busy_us, seen_ms) == (10_000_000, 20_000)
    assert sum(entry.elapsed_ms for entry in entries) == 30_000


def test_intervals_of_unlike_length_weigh_by_length() -> None:
    """A mean over intervals is not a mean of means."""
    tally = enrolled()
    entries = post(tally, reading(GPU, START, START + 1_000, busy_ratio=1.0))
    entries += post(tally, reading(GPU, START + 1_000, START + 10_000, busy_ratio=0.0))
    assert (
        sum(entry.busy_us for entry in entries) / 1_000 / sum(entry.busy_seen_ms for entry in entries) == 0.1
    )


def test_energy_is_the_difference_of_the_counter() -> None:
    """What the counter says is entered, not mean power, and the intervals telescope."""
    meter = Meter()
    meter.run(10, 300)
    first_joules = meter.joules
    for watts in (412.3, 88.81, 699.9):
        meter.skip(5, watts / 2)
        meter.now_ms -= 5_000
        meter.run(10, watts)
    first_mj = 300 * 10_000
    assert meter.energy_mj() - first_mj == round((meter.joules - first_joules) * 1000)


def test_the_first_interval_takes_power_for_energy() -> None:
    """Before there is a difference, mean power times time is the energy."""
    meter = Meter()
    meter.run(10, 300)
    assert meter.energy_mj() == 3_000_000


def test_energy_of_a_gap_is_entered_as_unknown() -> None:
    """The counter knows what a gap took: it goes under unknown, in the hours of the gap."""
    meter = Meter(now_ms=MIDNIGHT - 20_000)
    meter.run(10, 300)
    meter.skip(40, 150)
    meter.run(10, 500)
    in_gap = [entry for entry in meter.entries if entry.state is State.UNKNOWN]
    assert sum(entry.energy_mj for entry in in_gap) == 150 * 40_000
    assert sum(entry.energy_seen_ms for entry in in_gap) == 40_000
    assert sum(entry.elapsed_ms for entry in in_gap) == 40_000
    by_hour = [(e.start_ms // HOUR_MS * HOUR_MS, e.energy_mj) for e in in_gap if e.energy_mj]
    assert by_hour == [(MIDNIGHT - HOUR_MS, 150 * 10_000), (MIDNIGHT, 150 * 30_000)]


def test_energy_of_a_gap_is_shared_by_time_where_power_is_not_told() -> None:
    """Without a mean power, gap and interval take energy by their lengths; the sum is the counter's."""
    meter = Meter()
    meter.run(10, 300)
    meter.skip(30, 200)
    meter.run(10, 200, say_power=False)
    assert meter.energy_mj(State.UNKNOWN) == 200 * 30_000
    assert meter.energy_mj() == 3_000_000 + 200 * 40_000


def test_mean_power_never_takes_more_than_the_counter_gives() -> None:
    """Where mean power and counter disagree, the total is the counter's and no part is negative."""
    meter = Meter()
    meter.run(10, 300)
    meter.skip(10, 0)
    start_ms = meter.now_ms
    meter.skip(10, 100)
    meter.read(start_ms, power_watts=400.0, energy_joules_total=meter.joules)
    assert meter.energy_mj() == 3_000_000 + 100 * 10_000
    assert min(entry.energy_mj for entry in meter.entries) == 0


@pytest.mark.parametrize("jump_joules", [-1.0, -52_000.0, 1.5 * LIMIT_WATTS * 10 - 3_000 + 1, 1e12])
def test_a_counter_that_cannot_be_right_is_not_believed(jump_joules: float) -> None:
    """A counter that goes back, or grows faster than 1.5 times the limit, gives way to mean power."""
    meter = Meter()
    meter.run(10, 300)
    meter.joules += jump_joules - (3_000 if jump_joules < 0 else 0)
    meter.run(10, 300)
    assert meter.energy_mj() == 6_000_000


def test_energy_just_below_the_bound_is_believed() -> None:
    """Up to 1.5 times the limit a counter is right, since boards do that for moments."""
    meter = Meter()
    meter.run(10, 300)
    meter.run(10, 1.5 * LIMIT_WATTS)
    assert meter.energy_mj() == 3_000_000 + 1_050 * 10_000


def test_a_counter_that_was_not_believed_begins_a_new_chain() -> None:
    """After a reset of the counter, differences count from its new value."""
    meter = Meter()
    meter.run(10, 300)
    meter.joules = 0.0
    meter.run(10, 300)
    meter.skip(10, 250)
    meter.now_ms -= 10_000
    meter.run(10, 0)
    assert meter.energy_mj() == 3_000_000 + 3_000_000 + 250 * 10_000


def test_energy_that_nothing_tells_is_not_known() -> None:
    """Without counter and power the energy is not 0 but not seen."""
    meter = Meter()
    meter.run(10, 300, say_power=False, say_energy=False)
    assert [(entry.energy_mj, entry.energy_seen_ms) for entry in meter.entries] == [(0, 0)]


def test_a_restarted_agent_continues_the_chain() -> None:
    """With the same boot of the host, the counter bridges the time when the agent was dead."""
    meter = Meter()
    meter.run(10, 300)
    line = meter.tally.timelines[GPU.uuid]
    again = Tally(StateSettings(), boot_id="boot-1", timelines={GPU.uuid: line})
    later = Meter(again, meter.now_ms, meter.joules)
    later.skip(60, 120)
    later.entries += again.close(later.now_ms).entries
    later.run(10, 300)
    assert later.energy_mj(State.UNKNOWN) == 120 * 60_000
    assert later.energy_mj() == 120 * 60_000 + 3_000_000


def test_another_boot_breaks_the_chain() -> None:
    """After a reboot the counter began anew, so that its difference says nothing."""
    meter = Meter(joules=10.0)
    meter.run(10, 300)
    line = meter.tally.timelines[GPU.uuid]
    again = Tally(StateSettings(), boot_id="boot-2", timelines={GPU.uuid: line})
    later = Meter(again, meter.now_ms + 60_000, joules=4_000.0)
    later.run(10, 310)
    assert later.energy_mj(State.UNKNOWN) == 0
    assert later.energy_mj() == 3_100_000


def test_energy_telescopes_past_an_interval_that_tells_nothing() -> None:
    """A silent interval between two values of the counter loses none of its energy."""
    meter = Meter()
    meter.run(10, 300)
    meter.run(10, 200, say_power=False, say_energy=False)
    meter.run(10, 400)
    assert meter.energy_mj() == 3_000_000 + 2_000_000 + 4_000_000


def test_a_moved_gpu_is_booked_where_it_sits() -> None:
    """From the move on, time is entered under the other node."""
    tally = enrolled()
    entries = post(tally, reading(GPU, START, START + 10_000, busy_ratio=0.8))
    tally.enroll(GPU.uuid, OTHER_NODE, START + 10_000)
    entries += post(tally, reading(GPU, START + 10_000, START + 20_000, busy_ratio=0.8))
    assert [entry.node for entry in entries] == [NODE, OTHER_NODE]


def test_closing_enters_time_once() -> None:
    """Time is closed as unknown or as told, and closing again adds nothing."""
    tally = enrolled()
    assert told(tally.close(START + 7, [GPU.uuid], State.DOWN).entries) == [(State.DOWN, START, 7)]
    assert told(tally.close(START + 9).entries) == [(State.UNKNOWN, START + 7, 2)]
    assert tally.close(START + 9).entries == []
    assert tally.close(START).entries == []


def test_a_timeline_is_continued() -> None:
    """A tally that is given timelines owes time from where they end."""
    line = Timeline(uuid=GPU.uuid, node=NODE, until_ms=START)
    tally = Tally(StateSettings(), timelines={GPU.uuid: line})
    assert told(tally.close(START + 5).entries) == [(State.UNKNOWN, START, 5)]
