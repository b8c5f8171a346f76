"""What a journal tells besides its accounts, and how the journals of several nodes are put together."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.books import Books
from agent.states import StateSettings
from agent.tally import HOUR_MS
from agent.tick import Condition, State, Xid
from reports.facts import Facts, FreeHour, GpuFacts, HourSum, Life, Stay, Tenure
from reports.sections import Group
from reports.sources.journal_facts import facts, merge
from reports.sums import Amounts, Identity
from reports.window import Window
from tests.reports.small import ALICE, BOB, MINUTE_MS, MONDAY_MS, Small, day, gpu, reading

HALF_MS = HOUR_MS // 2
MODEL = "NVIDIA H200"
WORK = (BOB, {"busy_ratio": 0.8, "power_watts": 500.0})
FREE = (None, {"busy_ratio": 0.0, "memory_used_bytes": 0.0})
LOST = (None, Condition.LOST)
SW, HW = "throttle_sw_thermal_seconds_total", "throttle_hw_thermal_seconds_total"


def hours(first: int, last: int) -> Window:
    """Give the window of some hours of Monday."""
    return Window(from_ms=MONDAY_MS + first * HOUR_MS, to_ms=MONDAY_MS + last * HOUR_MS)


def facts_of(path: Path, window: Window | None = None, **options: str) -> Facts:
    """Read the facts of a journal, by default of a whole day."""
    with reading(path) as db:
        return facts(db, window or hours(0, 24), **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a journal's file."""
    return tmp_path / "journal.db"


# Hours


def elapsed(told: Facts) -> dict[tuple[int, Group, State], float]:
    """Give GPU-hours by hour of the day, group and state."""
    return {
        ((row.hour_ms - MONDAY_MS) // HOUR_MS, row.group, row.state): row.amounts.elapsed_ms / HOUR_MS
        for row in told.hours
        if row.amounts.elapsed_ms
    }


def test_hours_are_summed_by_state(path: Path) -> None:
    """Half an hour unseen, then one works, one is idle after its patience, one is free, one is lost."""
    told, group = facts_of(day(path, 3)), Group("", MODEL)
    assert elapsed(told) == {
        (0, group, State.UNKNOWN): 2.0,
        (0, group, State.ACTIVE): 0.5,
        (0, group, State.HELD_GAP): 0.5,
        (0, group, State.FREE): 1.0,
        **{
            (hour, group, state): 1.0
            for hour in (1, 2)
            for state in (State.ACTIVE, State.HELD_IDLE, State.FREE, State.DOWN)
        },
    }
    assert [row[:3] for row in told.hours] == sorted(row[:3] for row in told.hours)
    first = next(row for row in told.hours if row.state is State.ACTIVE)
    assert first.amounts == Amounts(
        elapsed_ms=HALF_MS,
        busy_us=HALF_MS * 800,
        busy_seen_ms=HALF_MS,
        energy_mj=HALF_MS * 500,
        energy_seen_ms=HALF_MS,
    )


def test_gpus_that_were_free_throughout_an_hour_are_counted(path: Path) -> None:
    """The one that is free was so for a part of the first hour only."""
    told, group = facts_of(day(path, 3)), Group("", MODEL)
    assert told.free == tuple(FreeHour(MONDAY_MS + number * HOUR_MS, group, 1, 1) for number in (1, 2))
    assert merge([told, told]).free == tuple(sorted(told.free * 2))


def test_only_the_hours_of_the_window_count(path: Path) -> None:
    """One hour of three, and none of a window beyond them."""
    day(path, 3)
    assert {hour for hour, _, _ in elapsed(facts_of(path, hours(1, 2)))} == {1}
    assert facts_of(path, hours(3, 9)).hours == ()


def test_nodes_are_grouped_by_a_label(path: Path) -> None:
    """GPUs of nodes without that label are in no pool; the label's name is for the user to choose."""
    small = Small(path)
    for node, number in (("n1", 1), ("n2", 2), ("n3", 3)):
        small.now_ms = MONDAY_MS
        small.pass_by(HOUR_MS, {gpu(number): WORK if number == 1 else FREE}, node)
    small.journal.label("n1", {"pool": "train", "rack": "r1"})
    small.journal.label("n2", {"rack": "r1", "pool": ""})
    small.save()
    told = facts_of(path)
    assert told.pools == {"n1": "train"}
    assert elapsed(told) == {
        (0, Group("train", MODEL), State.ACTIVE): 1.0,
        (0, Group("", MODEL), State.FREE): 2.0,
    }
    racks = facts_of(path, pool_label="rack")
    assert racks.pools == {"n1": "r1", "n2": "r1"}
    assert elapsed(racks) == {
        (0, Group("r1", MODEL), State.ACTIVE): 1.0,
        (0, Group("r1", MODEL), State.FREE): 1.0,
        (0, Group("", MODEL), State.FREE): 1.0,
    }
    assert facts_of(path, pool_label="'; DROP TABLE node; --").pools == {}


# GPUs


def hot(place: int, celsius: float, **more: float) -> dict[str, float]:
    """Show so many tens of seconds of lowered clocks, and a temperature."""
    clocks = {"sm_clock_hertz": 0.5e9, "sm_clock_max_hertz": 1e9}
    seen = {"temperature_celsius": celsius, "temperature_margin_celsius": 87 - celsius}
    return {"busy_ratio": 1.0, SW: 600.0 * place, HW: 0.0, **seen, **clocks, **more}


def test_figures_of_a_gpu_are_those_of_its_hours_in_the_window(path: Path) -> None:
    """Extremes are of the window alone, lowered clocks are summed over it; the first hour tells no growth."""
    small = Small(path)
    for place, celsius in enumerate([85.0, 70.0, 80.0, 60.0]):
        peak = {"power_max_watts": 700.0 - 10 * place, "memory_used_bytes": 1e9 * place}
        small.pass_by(HOUR_MS, {gpu(1): (BOB, hot(place, celsius, **peak))})
    small.save()
    told = facts_of(path, hours(1, 3))
    assert told.gpus == {
        (gpu(1).uuid, "n1"): GpuFacts(
            throttle_ms={"sw_thermal": 1_200_000, "hw_thermal": 0},
            heat_lost_ms=600_000,
            temperature_max_celsius=80.0,
            margin_least_celsius=7.0,
            memory_max_bytes=2e9,
            power_max_watts=690.0,
        )
    }
    assert told.missing == {}
    first = facts_of(path, hours(0, 1)).gpus[gpu(1).uuid, "n1"]
    assert (first.throttle_ms, first.heat_lost_ms, first.temperature_max_celsius) == ({}, None, 85.0)


def test_a_journal_without_hourly_figures_says_so(path: Path) -> None:
    """Nothing is known of GPUs that said nothing."""
    small = Small(path)
    small.pass_by(HOUR_MS, {gpu(1): LOST})
    small.save()
    told = facts_of(path)
    assert told.gpus == {}
    assert told.missing["gpus"].startswith("the journal has neither temperatures nor lowered clocks")


def test_xids_are_those_of_the_window(path: Path) -> None:
    """By GPU and number; those of a GPU that nobody knows are there as well, without a UUID."""
    small = Small(path)
    small.pass_by(HOUR_MS, {gpu(1): LOST})
    for hour, uuid, number in [(0, 1, 79), (1, 1, 79), (1, 1, 31), (2, 1, 31), (1, None, 79)]:
        at_ms = MONDAY_MS + hour * HOUR_MS + MINUTE_MS + number
        xid = Xid(at_ms, gpu(uuid).uuid if uuid else "", number, "kernel", "", "0000:ff:00")
        small.books.xids.take([xid, xid], at_ms + 1)
    small.pass_by(2 * HOUR_MS, {gpu(1): LOST})
    small.save()
    told = facts_of(path, hours(1, 2)).gpus
    assert {seat: one.xids for seat, one in told.items()} == {
        (gpu(1).uuid, "n1"): {31: 2, 79: 2},
        ("", "n1"): {79: 2},
    }


# Where GPUs were, and what was seen of them


def test_stays_and_lives_are_not_only_of_the_window(path: Path) -> None:
    """A GPU is carried over: both stays are told; its time unseen and down is not in its life."""
    small = Small(path)
    small.pass_by(HOUR_MS, {gpu(1): WORK})
    small.pass_by(HOUR_MS, {gpu(1): LOST})
    small.pass_by(HOUR_MS, {gpu(1): (None, None)})
    small.pass_by(HOUR_MS, {gpu(1): FREE}, "n2")
    small.save()
    told = facts_of(path, hours(3, 4))
    moved_ms = MONDAY_MS + 3 * HOUR_MS
    assert told.stays == (
        Stay(gpu(1).uuid, "n1", 1, MONDAY_MS, moved_ms),
        Stay(gpu(1).uuid, "n2", 1, moved_ms, None),
    )
    assert told.lives == {gpu(1).uuid: Life(moved_ms + HOUR_MS, 2 * HOUR_MS, HOUR_MS)}
    assert told.identities == {gpu(1).uuid: Identity(MODEL, "165001")}


def test_the_life_of_a_gpu_that_left_ends_where_it_was_accounted_for(path: Path) -> None:
    """It was missing for longer than GPUs are waited for."""
    small = Small(path, settings=StateSettings(missing_days=0.1))
    small.pass_by(HOUR_MS, {gpu(1): WORK, gpu(2): WORK})
    small.pass_by(3 * HOUR_MS, {gpu(2): WORK})
    small.pass_by(HOUR_MS, {gpu(2): WORK})
    small.save()
    told = facts_of(path)
    assert told.lives[gpu(1).uuid] == Life(MONDAY_MS + 4 * HOUR_MS, HOUR_MS, HOUR_MS)
    assert told.lives[gpu(2).uuid] == Life(MONDAY_MS + 5 * HOUR_MS, 5 * HOUR_MS, 5 * HOUR_MS)
    assert told.latest == {gpu(2).uuid: State.ACTIVE}


def test_the_latest_state_is_that_at_the_end_of_the_window(path: Path) -> None:
    """Not what came after it; a GPU that joined later has none."""
    small = Small(path)
    small.pass_by(HALF_MS, {gpu(1): WORK, gpu(2): FREE})
    small.pass_by(HALF_MS, {gpu(1): LOST, gpu(2): WORK})
    small.pass_by(HALF_MS, {gpu(1): WORK, gpu(2): FREE, gpu(3): FREE})
    small.save()
    assert facts_of(path, hours(0, 1)).latest == {gpu(1).uuid: State.DOWN, gpu(2).uuid: State.ACTIVE}
    assert facts_of(path, hours(0, 2)).latest == {
        gpu(1).uuid: State.ACTIVE,
        gpu(2).uuid: State.FREE,
        gpu(3).uuid: State.FREE,
    }
    assert facts_of(path, hours(7, 9)).latest == {}


def test_the_memory_of_a_model_is_what_its_latest_reading_says(path: Path) -> None:
    """One that says nothing takes nothing away."""
    small = Small(path)
    for size in (1e9, 2e9, None):
        small.pass_by(HALF_MS, {gpu(1): (BOB, {"busy_ratio": 1.0, "memory_total_bytes": size})})
    small.save()
    assert facts_of(path).memory_bytes == {MODEL: 2e9}


def test_tenures_are_those_that_overlap_the_window(path: Path) -> None:
    """One lets go at the window's start and is not told; one that began before it is, with all it had."""
    small = Small(path)
    small.books = Books(small.journal, StateSettings(), boot_id="boot", node="n1", follow_holders=True)
    small.pass_by(HOUR_MS, {gpu(1): (ALICE, WORK[1]), gpu(2): (BOB, {**WORK[1], "memory_used_bytes": 3e9})})
    small.pass_by(HOUR_MS, {gpu(1): FREE, gpu(2): (BOB, {"busy_ratio": 0.0, "memory_used_bytes": 1e9})})
    small.save()
    assert facts_of(path, hours(1, 2)).tenures == (
        Tenure(
            kind="pod",
            name="train-7",
            owner="bob",
            user="",
            node="n1",
            start_ms=MONDAY_MS,
            end_ms=MONDAY_MS + 2 * HOUR_MS,
            gpus=(gpu(2).uuid,),
            elapsed_ms={State.ACTIVE: HOUR_MS, State.HELD_GAP: HALF_MS, State.HELD_IDLE: HALF_MS},
            activity_mean=0.4,
            activity_max=0.8,
            memory_max_bytes=3e9,
        ),
    )
    assert [one.name for one in facts_of(path, hours(0, 1)).tenures] == ["4711", "train-7"]


# Several journals


def test_journals_of_nodes_are_put_together(tmp_path: Path) -> None:
    """Hours are added up by group, the rest stands side by side."""
    for node, number in (("n1", 1), ("n2", 2)):
        small = Small(tmp_path / node)
        small.pass_by(HOUR_MS, {gpu(number): WORK}, node)
        small.journal.label(node, {"pool": "train"})
        small.save()
    one, other = (facts_of(tmp_path / node) for node in ("n1", "n2"))
    both = merge([one, other])
    assert elapsed(both) == {(0, Group("train", MODEL), State.ACTIVE): 2.0}
    assert both.pools == {"n1": "train", "n2": "train"}
    assert both.stays == one.stays + other.stays
    assert both.lives == {**one.lives, **other.lives}
    assert both.gpus == {**one.gpus, **other.gpus}
    assert both.latest == {gpu(1).uuid: State.ACTIVE, gpu(2).uuid: State.ACTIVE}
    assert both.identities.keys() == {gpu(1).uuid, gpu(2).uuid}
    assert merge([one]) == one


def test_a_gpu_of_two_journals_has_one_life() -> None:
    """What each saw is added up; the one that accounts for it longer says what it is."""
    one = Facts(
        lives={"a": Life(100, 50, 20)}, latest={"a": State.DOWN}, stays=(Stay("a", "n1", 0, 10, None),)
    )
    other = Facts(
        lives={"a": Life(300, 7, 1)}, latest={"a": State.FREE}, stays=(Stay("a", "n2", 0, 5, None),)
    )
    for both in (merge([one, other]), merge([other, one])):
        assert both.lives == {"a": Life(300, 57, 21)}
        assert both.latest == {"a": State.FREE}
        assert [stay.node for stay in both.stays] == ["n2", "n1"]


def test_parts_of_a_gpu_are_merged_without_inventing() -> None:
    """None is as the other knows it, 0 stays 0, and what neither knows stays unknown."""
    seat = ("a", "n1")
    one = GpuFacts(
        throttle_ms={"sw_thermal": 0, "power_cap": 5},
        heat_lost_ms=0,
        temperature_max_celsius=70.0,
        margin_least_celsius=5.0,
        xids={79: 1},
    )
    other = GpuFacts(
        throttle_ms={"sw_thermal": 0}, margin_least_celsius=3.0, power_max_watts=9.0, xids={79: 1, 31: 2}
    )
    assert merge([Facts(gpus={seat: one}), Facts(gpus={seat: other})]).gpus[seat] == GpuFacts(
        throttle_ms={"sw_thermal": 0, "power_cap": 5},
        heat_lost_ms=0,
        temperature_max_celsius=70.0,
        margin_least_celsius=3.0,
        power_max_watts=9.0,
        xids={79: 2, 31: 2},
    )


def test_what_some_journal_has_is_not_missing() -> None:
    """Only what all of them lack is."""
    one, other = Facts(missing={"gpus": "not kept", "stays": "lost"}), Facts(missing={"gpus": "older"})
    assert merge([one, other]).missing == {"gpus": "older"}
    assert merge([one, Facts()]).missing == {}


_rows = st.builds(
    HourSum,
    st.integers(0, 2).map(lambda hour: MONDAY_MS + hour * HOUR_MS),
    st.builds(Group, st.sampled_from(["", "a"]), st.just(MODEL)),
    st.sampled_from([State.ACTIVE, State.FREE]),
    st.builds(Amounts, elapsed_ms=st.integers(0, 10**6), busy_us=st.integers(0, 10**9)),
)


@given(st.lists(st.lists(_rows, max_size=6), max_size=4))
def test_putting_together_loses_no_millisecond(several: Sequence[Sequence[HourSum]]) -> None:
    """Each hour, group and state comes once, in order, and has the sum of all."""
    both = merge([Facts(hours=tuple(rows)) for rows in several]).hours
    sums: Counter[tuple[int, Group, State, str]] = Counter()
    for row in (row for rows in several for row in rows):
        sums[(*row[:3], "ms")] += row.amounts.elapsed_ms
        sums[(*row[:3], "us")] += row.amounts.busy_us
    assert [row[:3] for row in both] == sorted({key[:3] for key in sums})
    assert {(*row[:3], "ms"): row.amounts.elapsed_ms for row in both} == {
        key: total for key, total in sums.items() if key[3] == "ms"
    }
    assert {(*row[:3], "us"): row.amounts.busy_us for row in both} == {
        key: total for key, total in sums.items() if key[3] == "us"
    }
