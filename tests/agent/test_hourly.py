"""What GPUs did within an hour: extremes, lowered clocks, what heat cost, XIDs; and the labels of nodes."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.books import Books
from agent.hourly import FIGURES, THROTTLE_COLUMNS, Hours
from agent.journal import Journal
from agent.quantities import QUANTITIES, Amount
from agent.recording import Recording
from agent.replay import replay, survey
from agent.states import StateSettings
from agent.tally import DAY_MS, HOUR_MS
from agent.tick import Condition, Reading, Tick, Workload, Xid, reading_of
from tests.agent.histories import (
    IMPATIENT,
    INTERVAL_MS,
    MIDNIGHT,
    NODE,
    OTHER_NODE,
    QUICK,
    gpu_of,
    reading,
    rows,
    tick_of,
)

GPU, OTHER = gpu_of(0), gpu_of(1)
SW, HW = "throttle_sw_thermal_seconds_total", "throttle_hw_thermal_seconds_total"
CAP = "throttle_power_cap_seconds_total"
HALF = {"sm_clock_hertz": 0.5e9, "sm_clock_max_hertz": 1e9}
LAST_MS = MIDNIGHT + HOUR_MS - INTERVAL_MS
"""The start of the last interval of the first hour."""


def _seen(start_ms: int, values: Mapping[str, Amount]) -> Reading:
    return reading_of(GPU.uuid, start_ms, start_ms + INTERVAL_MS, values)


class Desk:
    """Real books on a file, to which readings of one GPU come."""

    def __init__(self, path: Path, boot_id: str = "boot-1", now_ms: int = MIDNIGHT) -> None:
        self.path = path
        self.journal = Journal(path, QUICK, now_ms)
        self.books = Books(self.journal, IMPATIENT, boot_id=boot_id, node=NODE)

    def shows(self, start_ms: int, /, **values: Amount) -> "Desk":
        """Let an interval pass in which the GPU shows these values, and commit it."""
        self.takes(_seen(start_ms, values))
        return self

    def takes(self, one: Reading, node: str = NODE, *, commit: bool = True) -> None:
        """Enter a reading as the tick of its interval."""
        self.books.post(tick_of(one.start_ms, one.end_ms, one, gpus=[GPU], node=node), {})
        if commit:
            assert self.books.commit(one.end_ms) is None

    def hears(self, at_ms: int, *xids: Xid) -> None:
        """Let XIDs come in the interval that ends at a moment."""
        self.books.xids.take(xids, at_ms)
        self.takes(reading(GPU, at_ms - INTERVAL_MS, at_ms))

    def again(self, boot_id: str = "boot-1") -> "Desk":
        """Let the agent die and start again."""
        self.journal.close()
        return Desk(self.path, boot_id)

    def hours(self, *names: str) -> list[tuple[Any, ...]]:
        """Give the hours of the GPU, each with the figures that are named."""
        told = ", ".join(("hour_ms", *names))
        return rows(self.path, f"SELECT {told} FROM gpu_hour ORDER BY hour_ms, node_id")  # noqa: S608

    def xids(self) -> list[tuple[Any, ...]]:
        """Give XIDs by hour."""
        return rows(self.path, "SELECT hour_ms, uuid, number, count FROM xid_hour ORDER BY 1, 2, 3")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Open books."""
    made = Desk(tmp_path / "journal.db")
    yield made
    made.journal.close()


# Extremes


def test_an_hour_keeps_the_extremes_of_its_intervals(desk: Desk) -> None:
    """The largest temperature, memory and power, the least margin, in whatever order they come."""
    names = ("temperature_max_celsius", "margin_least_celsius", "memory_max_bytes", "power_max_watts")
    for place, told in enumerate([(70.0, 17.0, 3e9, 500.0), (81.0, 6.0, 1e9, 690.0), (60.0, 9.0, 2e9, 80.0)]):
        hot, margin, used, watts = told
        desk.shows(
            MIDNIGHT + place * INTERVAL_MS,
            temperature_max_celsius=hot,
            temperature_margin_celsius=margin,
            memory_used_max_bytes=used,
            power_max_watts=watts,
        )
    assert desk.hours(*names) == [(MIDNIGHT, 81.0, 6.0, 3e9, 690.0)]


def test_a_mean_stands_for_an_extreme_that_is_not_told(desk: Desk) -> None:
    """Snapshots tell no peak; where there is one it counts, however low."""
    desk.shows(
        MIDNIGHT,
        temperature_celsius=64.0,
        memory_used_bytes=5e9,
        power_watts=300.0,
        temperature_max_celsius=66.0,
    )
    names = ("temperature_max_celsius", "memory_max_bytes", "power_max_watts")
    assert desk.hours(*names) == [(MIDNIGHT, 66.0, 5e9, 300.0)]


def test_what_was_never_told_stays_unknown(desk: Desk) -> None:
    """An interval that does not say takes nothing away, and nothing becomes 0."""
    desk.shows(MIDNIGHT, power_watts=None)
    assert desk.hours() == []
    desk.shows(MIDNIGHT + INTERVAL_MS, power_watts=90.0).shows(MIDNIGHT + 2 * INTERVAL_MS, busy_ratio=0.5)
    (row,) = desk.hours(*FIGURES)
    known = {name for name, value in zip(FIGURES, row[1:], strict=True) if value is not None}
    assert known == {"power_max_watts"}


def test_an_interval_belongs_to_the_hour_of_its_start(desk: Desk) -> None:
    """One that crosses the hour counts in the first."""
    start_ms = MIDNIGHT + HOUR_MS - INTERVAL_MS // 2
    desk.shows(start_ms, power_watts=700.0).shows(start_ms + INTERVAL_MS, power_watts=100.0)
    assert desk.hours("power_max_watts") == [(MIDNIGHT, 700.0), (MIDNIGHT + HOUR_MS, 100.0)]


def test_a_gpu_that_does_not_answer_tells_nothing(desk: Desk) -> None:
    """What stands in the reading of a lost GPU is not believed."""
    desk.takes(reading(GPU, MIDNIGHT, MIDNIGHT + INTERVAL_MS, Condition.LOST, power_watts=1.0))
    assert desk.hours() == []


def test_each_node_has_its_own_hours_of_a_gpu(desk: Desk) -> None:
    """A GPU that was carried over within an hour has one for each node."""
    desk.shows(MIDNIGHT, power_watts=500.0)
    seen = reading(GPU, MIDNIGHT + INTERVAL_MS, MIDNIGHT + 2 * INTERVAL_MS, power_watts=100.0)
    desk.takes(seen, OTHER_NODE)
    assert desk.hours("power_max_watts") == [(MIDNIGHT, 500.0), (MIDNIGHT, 100.0)]


# Lowered clocks


def test_lowered_clocks_are_the_growth_of_counters(desk: Desk) -> None:
    """The first value of a counter tells nothing; one that stands still tells 0; reasons overlap."""
    desk.shows(MIDNIGHT, **{SW: 100.0, CAP: 7.0})
    assert desk.hours() == []
    desk.shows(MIDNIGHT + INTERVAL_MS, **{SW: 104.0, CAP: 7.0})
    desk.shows(MIDNIGHT + 2 * INTERVAL_MS, **{SW: 104.0015, CAP: 7.0})
    columns = ("throttle_sw_thermal_ms", "throttle_power_cap_ms", "throttle_hw_thermal_ms")
    assert desk.hours(*columns) == [(MIDNIGHT, 4_002, 0, None)]


def test_a_counter_that_is_silent_for_a_while_goes_on(desk: Desk) -> None:
    """What it grew by meanwhile is told when it speaks again."""
    desk.shows(MIDNIGHT, **{SW: 1.0, CAP: 1.0}).shows(MIDNIGHT + INTERVAL_MS, **{CAP: 2.0})
    desk.shows(MIDNIGHT + 2 * INTERVAL_MS, **{SW: 5.0, CAP: 2.0})
    assert desk.hours("throttle_sw_thermal_ms", "throttle_power_cap_ms") == [(MIDNIGHT, 4_000, 1_000)]


def test_heat_costs_what_lowered_clocks_did_not_do(desk: Desk) -> None:
    """The longer of both reasons, at most the interval, times how far the clock was below its highest."""
    desk.shows(MIDNIGHT, **{SW: 0.0, HW: 0.0}, **HALF)
    desk.shows(MIDNIGHT + INTERVAL_MS, **{SW: 4.0, HW: 6.0}, **HALF)
    assert desk.hours("heat_lost_ms") == [(MIDNIGHT, 3_000)]
    desk.shows(MIDNIGHT + 2 * INTERVAL_MS, **{SW: 14.4, HW: 6.0}, **HALF)
    assert desk.hours("heat_lost_ms") == [(MIDNIGHT, 8_000)]


@pytest.mark.parametrize(
    ("values", "lost_ms"),
    [
        ({SW: 9.0, "sm_clock_hertz": 0.75e9, "sm_clock_max_hertz": 1e9}, 2_000),
        ({SW: 1.0, **HALF}, 0),
        ({SW: 9.0, "sm_clock_hertz": 1.01e9, "sm_clock_max_hertz": 1e9}, 0),
        ({SW: 9.0, "sm_clock_hertz": 0.5e9}, None),
        ({SW: 9.0, "sm_clock_max_hertz": 1e9}, None),
        ({SW: 9.0, "sm_clock_hertz": 0.5e9, "sm_clock_max_hertz": 0.0}, None),
        ({CAP: 9.0, **HALF}, None),
    ],
)
def test_what_heat_cost_is_known_by_clocks_and_counters(
    desk: Desk, values: dict[str, float], lost_ms: int | None
) -> None:
    """Without either it is unknown; a clock above its highest gives nothing back."""
    desk.shows(MIDNIGHT, **{SW: 1.0, CAP: 1.0}).shows(MIDNIGHT + INTERVAL_MS, **values)
    assert desk.hours("heat_lost_ms") == [(MIDNIGHT, lost_ms)]


def test_growth_over_a_gap_is_shared_out_among_its_hours(desk: Desk) -> None:
    """Half an hour, an hour and ten seconds; what heat cost then is unknown."""
    desk.shows(MIDNIGHT + HOUR_MS // 2 - INTERVAL_MS, **{SW: 0.0}, **HALF)
    desk.shows(MIDNIGHT + 2 * HOUR_MS, **{SW: 541.0}, **HALF)
    assert desk.hours("throttle_sw_thermal_ms", "heat_lost_ms") == [
        (MIDNIGHT, 180_000, None),
        (MIDNIGHT + HOUR_MS, 360_000, None),
        (MIDNIGHT + 2 * HOUR_MS, 1_000, None),
    ]


def test_a_gap_without_growth_leaves_no_hours(desk: Desk) -> None:
    """Nothing is said of hours in which nobody looked."""
    desk.shows(MIDNIGHT, **{SW: 1.0}).shows(MIDNIGHT + 5 * HOUR_MS, **{SW: 1.0}, **HALF)
    assert desk.hours("throttle_sw_thermal_ms", "heat_lost_ms") == [(MIDNIGHT + 5 * HOUR_MS, 0, 0)]


def test_counters_go_on_over_a_restart(desk: Desk) -> None:
    """The first interval after it tells what grew since the last one before it."""
    desk.shows(MIDNIGHT, **{SW: 1.0}).shows(MIDNIGHT + INTERVAL_MS, **{SW: 2.0})
    with closing((later := desk.again()).journal):
        later.shows(MIDNIGHT + 4 * INTERVAL_MS, **{SW: 5.5})
        assert later.hours("throttle_sw_thermal_ms") == [(MIDNIGHT, 4_500)]


def test_a_driver_that_counts_anew_takes_nothing_back(desk: Desk) -> None:
    """After a boot its count is what was added."""
    desk.shows(MIDNIGHT, **{SW: 1_000.0})
    with closing((later := desk.again("boot-2")).journal):
        later.shows(MIDNIGHT + INTERVAL_MS, **{SW: 3.0})
        assert later.hours("throttle_sw_thermal_ms") == [(MIDNIGHT, 3_000)]


@given(
    st.lists(
        st.tuples(
            st.integers(1, 3 * HOUR_MS),
            st.integers(0, 2 * HOUR_MS),
            st.none() | st.floats(0, 5e3),
            st.booleans(),
        ),
        max_size=20,
    )
)
def test_hours_sum_to_the_growth_of_the_counter(steps: Sequence[tuple[int, int, float | None, bool]]) -> None:
    """However long the intervals and gaps are, no millisecond is lost or counted twice."""
    hours, seconds, now_ms, told = Hours(), 0.0, MIDNIGHT, []
    place = tuple(FIGURES).index("throttle_sw_thermal_ms")
    total = 0
    for length_ms, gap_ms, more, lost in steps:
        start_ms, now_ms = now_ms + gap_ms, now_ms + gap_ms + length_ms
        seconds += more or 0.0
        told += [] if more is None or lost else [seconds]
        one = reading(
            GPU,
            start_ms,
            now_ms,
            Condition.LOST if lost else Condition.OK,
            **{SW: None if more is None else seconds},
        )
        added = hours.take(Tick(node=NODE, start_ms=start_ms, end_ms=now_ms, readings=(one,)))
        assert {hour.hour_ms % HOUR_MS for hour in added} <= {0}
        total += sum(int(hour.figures[place] or 0) for hour in added)
    assert total == (round(told[-1] * 1000) - round(told[0] * 1000) if told else 0)


def test_every_reason_has_a_column() -> None:
    """A reason that is added to the quantities gets one of its own."""
    reasons = {
        dict(one.labels)["reason"] for one in QUANTITIES.values() if one.family == "throttle_seconds_total"
    }
    assert THROTTLE_COLUMNS.keys() == reasons
    assert set(THROTTLE_COLUMNS.values()) < set(FIGURES)


# XIDs


def test_xids_are_counted_by_the_hour_in_which_they_came(desk: Desk) -> None:
    """Also those that are heard of late, as from the kernel's log after a restart."""
    old = [Xid(MIDNIGHT + minutes * 60_000, GPU.uuid, 31, "kernel") for minutes in (5, 50, 70)]
    desk.hears(MIDNIGHT + 3 * HOUR_MS + INTERVAL_MS, *old, Xid(MIDNIGHT + 3 * HOUR_MS + 1, GPU.uuid, 79))
    assert desk.xids() == [
        (MIDNIGHT, GPU.uuid, 31, 2),
        (MIDNIGHT + HOUR_MS, GPU.uuid, 31, 1),
        (MIDNIGHT + 3 * HOUR_MS, GPU.uuid, 79, 1),
    ]


def test_an_xid_of_both_sources_counts_once(desk: Desk) -> None:
    """As in the count over all time, whether it is told at once or an interval later."""
    desk.hears(MIDNIGHT + INTERVAL_MS, Xid(MIDNIGHT + 5, GPU.uuid, 79))
    desk.hears(MIDNIGHT + 2 * INTERVAL_MS, Xid(MIDNIGHT + 6, "", 79, "kernel", "", GPU.pci_bus))
    assert desk.xids() == [(MIDNIGHT, GPU.uuid, 79, 1)]
    assert rows(desk.path, "SELECT number, count FROM xid") == [(79, 1)]


def test_xids_of_a_gpu_that_nobody_knows_are_kept_apart(desk: Desk) -> None:
    """They have no UUID, as in the count over all time."""
    desk.hears(MIDNIGHT + INTERVAL_MS, Xid(MIDNIGHT + 5, "", 79, "kernel", "", "0000:ff:00"))
    assert desk.xids() == [(MIDNIGHT, "", 79, 1)]
    assert rows(desk.path, "SELECT uuid FROM gpu") == [(GPU.uuid,)]


def test_xids_by_hour_sum_to_the_count_over_all_boots(desk: Desk) -> None:
    """After a restart of agent and host the hour goes on."""
    desk.hears(MIDNIGHT + INTERVAL_MS, Xid(MIDNIGHT + 5, GPU.uuid, 94), Xid(MIDNIGHT + 6, GPU.uuid, 94))
    with closing((later := desk.again("boot-2")).journal):
        later.hears(MIDNIGHT + 2 * INTERVAL_MS, Xid(MIDNIGHT + INTERVAL_MS + 5, GPU.uuid, 94))
        assert later.xids() == [(MIDNIGHT, GPU.uuid, 94, 3)]
        assert rows(desk.path, "SELECT sum(count) FROM xid") == [(3,)]


# The journal


def test_what_waits_for_the_journal_counts_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that fails writes nothing; the next one writes all, also of readings that were let go."""
    desk.shows(MIDNIGHT, **{SW: 1.0})
    desk.takes(_seen(MIDNIGHT + INTERVAL_MS, {"power_watts": 650.0, SW: 3.0}), commit=False)
    desk.books.xids.take([Xid(MIDNIGHT + INTERVAL_MS, GPU.uuid, 31)], MIDNIGHT + INTERVAL_MS)
    desk.takes(_seen(MIDNIGHT + 2 * INTERVAL_MS, {SW: 4.0}), commit=False)
    with monkeypatch.context() as broken:
        broken.setattr(desk.journal._scribe, "timelines", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            desk.books.commit(MIDNIGHT)
    assert (desk.hours(), desk.xids()) == ([], [])
    assert desk.journal.thin(1) == 1
    assert desk.books.commit(MIDNIGHT) is None
    assert desk.hours("throttle_sw_thermal_ms", "power_max_watts") == [(MIDNIGHT, 3_000, 650.0)]
    assert desk.xids() == [(MIDNIGHT, GPU.uuid, 31, 1)]


def test_hours_are_dropped_with_the_hourly_accounts(desk: Desk) -> None:
    """As old as `accounts_age_days`, not as ticks."""
    for start_ms in (MIDNIGHT, MIDNIGHT + DAY_MS):
        desk.shows(start_ms, power_watts=100.0)
        desk.hears(start_ms + 2 * INTERVAL_MS, Xid(start_ms, GPU.uuid, 31))
    desk.journal.settings = replace(QUICK, tick_age_days=1.0, accounts_age_days=10.0)
    desk.journal.prune(MIDNIGHT + 5 * DAY_MS)
    assert [len(told) for told in (desk.hours(), desk.xids())] == [2, 2]
    desk.journal.prune(MIDNIGHT + 10 * DAY_MS + 1)
    assert [hour for hour, *_ in (*desk.hours(), *desk.xids())] == [MIDNIGHT + DAY_MS] * 2
    assert rows(desk.path, "SELECT min(hour_ms) FROM account_hour") == [(MIDNIGHT + HOUR_MS,)]


def test_a_file_that_lacks_a_reason_gets_its_column(desk: Desk) -> None:
    """Its past hours do not know the reason."""
    desk.shows(MIDNIGHT, power_watts=100.0)
    desk.journal.close()
    with closing(sqlite3.connect(desk.path)) as db:
        db.execute("ALTER TABLE gpu_hour DROP COLUMN throttle_sw_thermal_ms")
    later = Desk(desk.path)
    with closing(later.journal):
        later.shows(MIDNIGHT + HOUR_MS, **{SW: 1.0}).shows(MIDNIGHT + HOUR_MS + INTERVAL_MS, **{SW: 2.0})
        told = later.hours("power_max_watts", "throttle_sw_thermal_ms")
    assert told == [(MIDNIGHT, 100.0, None), (MIDNIGHT + HOUR_MS, None, 1_000)]


def labels(path: Path) -> dict[str, dict[str, str]]:
    """Give the labels in a journal by node."""
    return {name: json.loads(text) for name, text in rows(path, "SELECT name, labels FROM node")}


def test_the_labels_of_a_node_are_those_of_its_settings(desk: Desk) -> None:
    """Written with the next commit, in place of those before; also into a file that is begun anew."""
    desk.shows(MIDNIGHT)
    assert labels(desk.path) == {NODE: {}}
    desk.journal.label(NODE, {"pool": "train \u00e4", "rack": "r1"})
    desk.shows(MIDNIGHT + INTERVAL_MS)
    assert labels(desk.path) == {NODE: {"pool": "train \u00e4", "rack": "r1"}}
    desk.journal.label(NODE, {"pool": "test"})
    desk.shows(MIDNIGHT + 2 * INTERVAL_MS)
    assert labels(desk.path) == {NODE: {"pool": "test"}}
    desk.journal.begin_anew(MIDNIGHT, desk.books.accounts, [])
    desk.shows(MIDNIGHT + 3 * INTERVAL_MS)
    assert labels(desk.path) == {NODE: {"pool": "test"}}


def test_labels_that_could_not_be_written_are_written_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was rolled back counts as not said."""
    desk.journal.label(NODE, {"pool": "train"})
    desk.takes(_seen(MIDNIGHT, {}), commit=False)
    with monkeypatch.context() as broken:
        broken.setattr(desk.journal._scribe, "timelines", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            desk.books.commit(MIDNIGHT)
    assert labels(desk.path) == {}
    assert desk.books.commit(MIDNIGHT) is None
    assert labels(desk.path) == {NODE: {"pool": "train"}}


def test_a_recording_fills_hours_and_has_no_labels(tmp_path: Path) -> None:
    """Replay goes the same way: two rows an hour, of which the counter's growth is told."""
    file, path = tmp_path / "log.csv", tmp_path / "journal.db"
    lines = [f"{MIDNIGHT // 1000 + 1800 * n},GPU-a,{300 + n},{n * 10}" for n in range(1, 5)]
    file.write_text("\n".join([f"time,gpu,power_watts,{SW}", *lines]))
    recording = Recording(file)
    with closing(Journal(path, QUICK, MIDNIGHT)) as journal:
        books = Books(journal, StateSettings())
        replay(recording, survey(recording, NODE), books, node=NODE, workload=Workload.BATCH)
    told = rows(path, "SELECT hour_ms, power_max_watts, throttle_sw_thermal_ms FROM gpu_hour")
    assert told == [(MIDNIGHT, 302.0, 10_000), (MIDNIGHT + HOUR_MS, 304.0, 20_000)]
    assert labels(path) == {NODE: {}}
