"""What the journal keeps of a GPU's counters, XIDs, parts and slices: it comes back, whatever happened."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.books import Books
from agent.lifelong import Chain, Row
from agent.pieces import SLICE_QUANTITIES
from agent.tally import DAY_MS
from agent.tick import Gpu, Part, Slice, Tick, Xid, reading_of, slice_of
from tests.agent.histories import INTERVAL_MS, MIDNIGHT, NODE, books_at, dice, gpu_of, rows, single

PAIR = (gpu_of(0), gpu_of(1))
UUID = PAIR[0].uuid
FANS = (Part("fan_speed_ratio", ("0",), 0.4), Part("fan_speed_ratio", ("1",), 0.5))
LINKS = (Part("nvlink_link_errors_total", ("3", "replay"), 7.0),)
PIECES = (
    slice_of("MIG-a", "3g.71gb", 3 / 7, {"sm_active_ratio": 0.61, "memory_used_bytes": 2.0**35}),
    slice_of("MIG-b", "1g.18gb", 1 / 7, {}),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name the journal's file."""
    return tmp_path / "journal.db"


def seen(
    number: int,
    joules: float | None = None,
    *,
    parts: Sequence[Part] | None = None,
    slices: Sequence[Slice] | None = None,
    gpus: Sequence[Gpu] = PAIR,
    since_ms: int = MIDNIGHT,
) -> Tick:
    """Make the tick of an interval; the first GPU tells its energy, parts and slices."""
    start_ms = MIDNIGHT + number * INTERVAL_MS
    told = reading_of(
        UUID,
        start_ms,
        start_ms + INTERVAL_MS,
        {"energy_joules_total": joules, "pcie_tx_bytes_total": joules},
        parts=None if parts is None else tuple(parts),
        slices=None if slices is None else tuple(slices),
    )
    end_ms = start_ms + INTERVAL_MS
    return Tick(
        node=NODE, start_ms=start_ms, end_ms=end_ms, readings=(told,), gpus=tuple(gpus), since_ms=since_ms
    )


def enter(books: Books, tick: Tick, *xids: Xid) -> Tick:
    """Post a tick and the XIDs of it, commit, and give the tick as it is published."""
    books.post(tick, {}, events=books.xids.take(xids, tick.end_ms))
    books.commit(tick.end_ms)
    assert books.latest is not None
    return books.latest


def joules(tick: Tick) -> float | None:
    """Give the energy that a tick tells of the first GPU."""
    return tick.readings[0].energy_joules_total


def go_bad(path: Path, books: Books) -> None:
    """Spoil a file under a running writer."""
    books.journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    books.journal._db.execute("PRAGMA shrink_memory")
    size = path.stat().st_size
    path.write_bytes(dice(size).randbytes(size))


def test_what_counters_go_on_with_comes_back(path: Path) -> None:
    """After a restart a counter goes on from its last number, and one that began anew on top of it."""
    with books_at(path) as books:
        enter(books, seen(0, 1_000.0))
        enter(books, seen(1, 1_600.0))
        kept = sorted(books.lifelong.all())
    with books_at(path) as books:
        assert sorted(books.lifelong.all()) == kept
        assert Row(UUID, "energy_joules_total", Chain(0.0, 1_600.0, "boot-1 570.86.15")) in kept
        assert joules(enter(books, seen(2, 40.0))) == 1_640.0
    assert rows(path, "SELECT base, raw FROM counter WHERE name = 'energy_joules_total'") == [(1_600.0, 40.0)]


def test_an_uncommitted_counter_is_written_with_the_next_commit(path: Path) -> None:
    """When a commit fails, what counters go on with waits as everything else does."""
    with books_at(path) as books:
        enter(books, seen(0, 1_000.0))
        db = books.journal._db
        db.execute("PRAGMA query_only = 1")
        with pytest.raises(Exception, match="journal"):
            enter(books, seen(1, 1_700.0))
        db.execute("PRAGMA query_only = 0")
        books.commit(MIDNIGHT + 2 * INTERVAL_MS)
    assert rows(path, "SELECT raw FROM counter WHERE name = 'energy_joules_total'") == [(1_700.0,)]


def test_another_boot_counts_on(path: Path) -> None:
    """Of a host that was booted the driver's counters begin anew, and may have overtaken their old number."""
    with books_at(path) as books:
        enter(books, seen(0, 1_000.0))
    with books_at(path, boot_id="boot-2") as books:
        assert joules(enter(books, seen(1, 5_000.0))) == 6_000.0


def test_a_new_file_begins_with_all_counters_and_xids(path: Path) -> None:
    """When a broken file is moved aside, nothing that was counted begins at 0 again."""
    with books_at(path) as books:
        enter(books, seen(0, 1_000.0), Xid(MIDNIGHT + 1, UUID, 79))
        enter(books, seen(1, 300.0, parts=LINKS, slices=PIECES))
        go_bad(path, books)
        books.post(seen(2, 350.0, parts=LINKS), {})
        assert books.commit(MIDNIGHT + 3 * INTERVAL_MS) is not None
        counts = dict(books.xids.counts)
        kept = sorted(books.lifelong.all())
    assert single(path, "SELECT count(*) FROM part") == 1
    with books_at(path) as books:
        assert books.journal.moved_aside is None
        assert sorted(books.lifelong.all()) == kept
        assert {key: count.count for key, count in books.xids.counts.items()} == {(UUID, 79): 1}
        assert books.xids.counts[UUID, 79].last_ms == counts[UUID, 79].last_ms
        assert joules(enter(books, seen(3, 10.0))) == 1_360.0


def test_xids_come_back_with_their_count(path: Path) -> None:
    """How often and when an XID came survives a restart, and another boot."""
    with books_at(path) as books:
        enter(books, seen(0), Xid(MIDNIGHT + 5, UUID, 48), Xid(MIDNIGHT + 9, UUID, 48))
    for boot_id in ("boot-1", "boot-2"):
        with books_at(path, boot_id=boot_id) as books:
            found = books.xids.counts[UUID, 48]
            assert (found.count, found.last_ms) == (2, MIDNIGHT + 9)
    assert rows(path, "SELECT kind, count(*) FROM event GROUP BY kind") == [("xid", 1)]


def test_a_part_is_written_when_its_value_changes(path: Path) -> None:
    """Of parts that stay as they are there is one row; each change adds one."""
    with books_at(path) as books:
        enter(books, seen(0, parts=FANS))
        enter(books, seen(1, parts=FANS))
        enter(books, seen(2))
        enter(books, seen(3, parts=(FANS[0]._replace(value=0.9), FANS[1])))
    found = rows(path, "SELECT labels, at_ms, value FROM part ORDER BY labels, at_ms")
    assert [
        (json.loads(labels), (at_ms - MIDNIGHT) // INTERVAL_MS, value) for labels, at_ms, value in found
    ] == [
        (["0"], 1, 0.4),
        (["0"], 4, 0.9),
        (["1"], 1, 0.5),
    ]


def test_a_part_that_was_rolled_back_is_written_again(path: Path) -> None:
    """What a failed commit wrote of parts is not believed to be in the file."""
    with books_at(path) as books:
        enter(books, seen(0))
        books.journal._db.execute(
            "CREATE TRIGGER no BEFORE INSERT ON account_hour BEGIN SELECT raise(FAIL, 'no'); END"
        )
        with pytest.raises(Exception, match="no"):
            enter(books, seen(1, parts=FANS))
        books.journal._db.execute("DROP TRIGGER no")
        enter(books, seen(2, parts=FANS))
    assert single(path, "SELECT count(*) FROM part") == 2


def test_the_latest_value_of_a_part_outlives_its_age(path: Path) -> None:
    """Pruning drops what changed since, and keeps what still holds."""
    with books_at(path) as books:
        enter(books, seen(0, parts=FANS))
        enter(books, seen(1, parts=(FANS[0]._replace(value=0.9), FANS[1])))
        books.prune(MIDNIGHT + 40 * DAY_MS)
    assert rows(path, "SELECT labels, value FROM part ORDER BY labels") == [('["0"]', 0.9), ('["1"]', 0.5)]


def test_slices_come_with_their_tick_and_go_with_it(path: Path) -> None:
    """Each slice's figures are in the file, NULL where unknown, and are dropped with the old ticks."""
    with books_at(path) as books:
        enter(books, seen(0, slices=PIECES))
        enter(books, seen(1))
        columns = ", ".join(SLICE_QUANTITIES)
        found = rows(path, f"SELECT uuid, profile, weight_ratio, {columns} FROM slice_reading ORDER BY uuid")  # noqa: S608
        assert [row[:3] for row in found] == [("MIG-a", "3g.71gb", 3 / 7), ("MIG-b", "1g.18gb", 1 / 7)]
        told = [
            {name: value for name, value in zip(SLICE_QUANTITIES, row[3:], strict=True) if value is not None}
            for row in found
        ]
        assert told == [{"sm_active_ratio": 0.61, "memory_used_bytes": 2.0**35}, {}]
        books.prune(MIDNIGHT + 40 * DAY_MS)
    assert single(path, "SELECT count(*) FROM slice_reading") == 0


def test_parts_of_a_counter_go_on_after_a_reset(path: Path) -> None:
    """Errors of one link that begin at 0 again are added to those before, also over a restart."""
    with books_at(path) as books:
        enter(books, seen(0, 900.0, parts=LINKS))
    with books_at(path) as books:
        tick = enter(books, seen(1, 10.0, parts=(LINKS[0]._replace(value=2.0),)))
        assert tick.readings[0].parts == (LINKS[0]._replace(value=9.0),)
        assert books.parts[UUID] == tick.readings[0].parts


def test_what_the_probe_counts_goes_on_with_the_next_probe(path: Path) -> None:
    """Bytes that the probe itself adds up begin at 0 with it; a reset of the GPU does not touch them."""
    with books_at(path) as books:
        enter(books, seen(0, 500.0))
        tick = enter(books, seen(1, 800.0, since_ms=MIDNIGHT + INTERVAL_MS))
        assert tick.readings[0].pcie_tx_bytes_total == 1_300.0
        assert tick.readings[0].energy_joules_total == 800.0


@pytest.mark.parametrize(
    ("table", "column"), [("counter", "base"), ("counter", "raw"), ("xid", "count"), ("xid", "last_ms")]
)
def test_a_count_that_is_no_number_is_noticed_on_opening(path: Path, table: str, column: str) -> None:
    """Damage within a row is found before anything is added to it."""
    with books_at(path) as books:
        enter(books, seen(0, 500.0), Xid(MIDNIGHT + 1, UUID, 79))
        books.journal._db.execute(f"UPDATE {table} SET {column} = 'x'")  # noqa: S608
    with books_at(path) as books:
        assert books.journal.moved_aside is not None
