"""The journal: complete intervals, one writer, broken files moved aside, full disks survived, bounds kept."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.books import Books
from agent.errors import JournalBroken, JournalError, SettingsError
from agent.hourly import FIGURES
from agent.journal import Journal, JournalSettings
from agent.journal_file import connect
from agent.pieces import SLICE_QUANTITIES
from agent.quantities import QUANTITIES
from agent.schema import MIGRATIONS
from agent.tally import DAY_MS, HOUR_MS
from agent.tick import Event, Hold, Reading, Tick
from tests.agent.histories import (
    INTERVAL_MS,
    MIDNIGHT,
    NODE,
    OTHER_NODE,
    QUICK,
    TRAINING,
    Published,
    books_at,
    check_hours,
    check_sums,
    dice,
    gpu_of,
    grew,
    published,
    reading,
    rows,
    single,
    steady_tick,
    tick_of,
    work,
)

PAGE = 4096
TICKS = "SELECT count(*) FROM tick"
HELD = {gpu_of(0).uuid: (Hold(TRAINING),)}
MUCH = 300
"""Ticks that fill a few dozen pages."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name the journal's file."""
    return tmp_path / "state" / "journal.db"


def fill(path: Path, ticks: int = MUCH) -> int:
    """Write a journal of steady work and close it; give the time at which it ends."""
    with books_at(path) as books:
        end_ms = work(books, MIDNIGHT, ticks, commit=False)
        books.commit(end_ms)
    return end_ms


def owed(until_ms: int, from_ms: int = MIDNIGHT, gpus: int = 2) -> dict[str, tuple[int, int]]:
    """Say what time the GPUs are owed."""
    return {gpu_of(index).uuid: (from_ms, until_ms) for index in range(gpus)}


def asides(path: Path) -> list[Path]:
    """List the files that were moved aside, without those of SQLite's log."""
    found = path.parent.glob("*.broken-*")
    return sorted(aside for aside in found if not aside.name.endswith(("-wal", "-shm")))


def goes_on(path: Path, now_ms: int) -> Path | None:
    """Open a journal that may be broken, write an interval, close it; give where it was moved."""
    with books_at(path, now_ms=now_ms) as books:
        moved = books.journal.moved_aside
        books.post(steady_tick(now_ms), {})
        books.commit(now_ms + INTERVAL_MS)
    assert single(path, "SELECT max(end_ms) FROM tick") == now_ms + INTERVAL_MS
    return moved


def quiet(start_ms: int, length_ms: int = 1) -> Reading:
    """Make a reading of the first GPU in which its holder pauses."""
    return reading(
        gpu_of(0), start_ms, start_ms + length_ms, busy_ratio=0.0, memory_used_bytes=61.5 * 1024**3
    )


def ask(books: Books, pragma: str) -> int:
    """Ask the journal's own connection."""
    return int(books.journal._db.execute(pragma).fetchone()[0])


def go_bad(path: Path, books: Books) -> None:
    """Spoil a file under a running writer, on disk alone, and let the writer forget what it has cached."""
    ask(books, "PRAGMA wal_checkpoint(TRUNCATE)")
    books.journal._db.execute("PRAGMA shrink_memory")
    size = path.stat().st_size
    overwrite(path, 0, dice(size).randbytes(size))


def assert_grew(before: Published, after: Published) -> None:
    """Assert that no counter is gone or lower than before."""
    assert all(grew(old, after.get(key)) for key, old in before.items())


def overwrite(path: Path, offset: int, content: bytes) -> None:
    """Overwrite a part of a file in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


# What is committed


def test_a_committed_interval_is_there_completely(path: Path) -> None:
    """Tick, readings, ledger, hours, accounts and timelines of an interval are in the file together."""
    end_ms = fill(path, 1)
    for table, count in {"tick": 1, "reading": 2, "posting": 2, "account_hour": 2, "timeline": 2}.items():
        assert len(rows(path, f"SELECT * FROM {table}")) == count, table  # noqa: S608  our own names
    check_hours(path, owed(end_ms))
    check_sums(path)


def test_what_is_not_committed_is_not_there(path: Path) -> None:
    """An interval that was posted and not committed leaves no trace."""
    with books_at(path) as books:
        end_ms = work(books, MIDNIGHT, 3)
        work(books, end_ms, 1, commit=False)
        assert books.journal.pending == 1
    assert single(path, TICKS) == 3
    check_hours(path, owed(end_ms))
    check_sums(path)


def test_one_commit_writes_all_that_is_queued(path: Path) -> None:
    """Queued intervals over an hour's edge are summed as if each had been committed alone."""
    for name, commit in (("one.db", True), ("many.db", False)):
        with books_at(path.with_name(name)) as books:
            end_ms = work(books, MIDNIGHT + HOUR_MS - 35_000, 7, commit=commit)
            books.commit(end_ms)
    query = "SELECT * FROM account_hour ORDER BY 1, 2, 3, 4, 5"
    assert rows(path.with_name("one.db"), query) == rows(path.with_name("many.db"), query)
    check_hours(path.with_name("one.db"), owed(end_ms, MIDNIGHT + HOUR_MS - 35_000))


def test_a_reader_needs_no_writer_and_changes_nothing(path: Path) -> None:
    """A journal opened for reading refuses writes."""
    fill(path, 1)
    with closing(connect(path)) as db, pytest.raises(sqlite3.OperationalError, match="readonly"):
        db.execute("DELETE FROM tick")


def test_a_reader_of_a_missing_journal_is_told_what_to_do(path: Path) -> None:
    """Reading does not create a journal, it says how to get one."""
    with pytest.raises(JournalError, match=r"no journal at .*--journal"):
        connect(path)
    assert not path.exists()


def test_values_are_read_back_as_they_were(path: Path) -> None:
    """A quantity that the device would not say is NULL in the file, never 0."""
    fill(path, 1)
    columns = ", ".join(QUANTITIES)
    found = dict(zip(QUANTITIES, rows(path, f"SELECT {columns} FROM reading")[0], strict=True))  # noqa: S608
    told = {name: value for name, value in found.items() if value is not None}
    assert told == {"busy_ratio": 0.8, "power_watts": 420.0, "memory_used_bytes": 61.5 * 1024**3}


def test_events_are_kept(path: Path) -> None:
    """What happened to a GPU or to the agent is in the file with its moment."""
    happened = (
        Event(at_ms=MIDNIGHT + 4, node=NODE, kind="xid", text="Xid 79", uuid=gpu_of(0).uuid),
        Event(at_ms=MIDNIGHT + 5, node=NODE, kind="started", text="gputally 0.1.0"),
    )
    with books_at(path) as books:
        books.post(steady_tick(MIDNIGHT), {}, events=happened)
        books.commit(MIDNIGHT + INTERVAL_MS)
    found = rows(path, "SELECT at_ms, kind, text, gpu_id IS NULL FROM event ORDER BY at_ms")
    assert found == [(MIDNIGHT + 4, "xid", "Xid 79", 0), (MIDNIGHT + 5, "started", "gputally 0.1.0", 1)]


def test_a_changed_seat_closes_the_one_before(path: Path) -> None:
    """Where a GPU sat, and from when to when, can be told afterwards."""
    with books_at(path) as books:
        for number, node in enumerate((NODE, NODE, OTHER_NODE)):
            start_ms = MIDNIGHT + number * INTERVAL_MS
            books.post(tick_of(start_ms, start_ms + INTERVAL_MS, gpus=[gpu_of(0)], node=node), {})
            books.commit(start_ms + INTERVAL_MS)
    moved_ms = MIDNIGHT + 2 * INTERVAL_MS
    assert rows(
        path, "SELECT name, from_ms, to_ms FROM place JOIN node ON node.id = node_id ORDER BY from_ms"
    ) == [(NODE, MIDNIGHT, moved_ms), (OTHER_NODE, moved_ms, None)]


# Broken files


def test_a_file_of_garbage_is_moved_aside(path: Path) -> None:
    """A file that is no journal at all is kept under a name that says when, and a new one is begun."""
    path.parent.mkdir()
    garbage = dice(7).randbytes(50_000)
    path.write_bytes(garbage)
    moved = goes_on(path, MIDNIGHT)
    assert moved == path.with_name(f"journal.db.broken-{MIDNIGHT}")
    assert moved.read_bytes() == garbage
    check_hours(path, owed(MIDNIGHT + INTERVAL_MS))


@pytest.mark.parametrize("kept", [50, 100, 1_000, PAGE - 1, PAGE, 5 * PAGE, 0.5, -PAGE])
def test_a_truncated_file_is_moved_aside(path: Path, kept: float) -> None:
    """A file that lost its end is kept as it is, and a new one is begun."""
    end_ms = fill(path)
    whole = path.read_bytes()
    rest = whole[: round(kept * len(whole)) if isinstance(kept, float) else int(kept)]
    path.write_bytes(rest)
    moved = goes_on(path, end_ms)
    assert moved is not None
    assert moved.read_bytes() == rest


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    """A file without a byte holds nothing that could be lost."""
    path.parent.mkdir()
    path.touch()
    assert goes_on(path, MIDNIGHT) is None


@pytest.mark.parametrize("seed", range(24))
def test_overwritten_pages_do_not_stop_the_agent(path: Path, seed: int) -> None:
    """Whatever page is overwritten with noise, the journal opens and goes on, and no byte is lost."""
    end_ms = fill(path)
    chance = dice(seed)
    length = chance.choice([64, 512, PAGE])
    offset = chance.randrange(path.stat().st_size // length) * length
    overwrite(path, offset, chance.randbytes(length))
    damaged = path.read_bytes()
    moved = goes_on(path, end_ms)
    assert moved is None or moved.read_bytes() == damaged
    assert single(path, TICKS) in (1, MUCH + 1)


@pytest.mark.parametrize(
    "table",
    ["account", "counter", "finding", "gpu", "meta", "node", "owner", "place", "timeline", "xid"],
)
def test_a_damaged_table_of_the_memory_is_noticed_on_opening(path: Path, table: str) -> None:
    """What a restart must remember is read whole on opening: damage is found before it is built on."""
    end_ms = fill(path)
    page = single(path, "SELECT rootpage FROM sqlite_master WHERE name = ?", table)
    overwrite(path, (page - 1) * PAGE, dice(page).randbytes(PAGE))
    damaged = path.read_bytes()
    moved = goes_on(path, end_ms)
    assert moved is not None
    assert moved.read_bytes() == damaged


@pytest.mark.parametrize(
    "word",
    ["service", "batch", NODE, TRAINING.owner, gpu_of(1).uuid, "elapsed_ms", "driver_calls", "WITHOUT ROWID"],
)
@pytest.mark.parametrize("noise", [b"\xff\xfe\xfd", b"xyz"])
def test_noise_in_a_name_does_not_stop_the_agent(path: Path, word: str, noise: bytes) -> None:
    """A text that is no longer UTF-8, or no longer a known word or column, does not end in a crash."""
    with books_at(path) as books:
        start_ms = work(books, MIDNIGHT, 1)
        end_ms = start_ms + 1
        books.post(tick_of(start_ms, end_ms, quiet(start_ms), gpus=[gpu_of(0), gpu_of(1)]), HELD)
        books.commit(end_ms)
    whole = path.read_bytes()
    damaged = whole.replace(word.encode(), (noise * len(word))[: len(word)])
    assert damaged != whole
    path.write_bytes(damaged)
    moved = goes_on(path, end_ms)
    assert moved is None or moved.read_bytes() == damaged


def test_a_second_broken_file_does_not_replace_the_first(path: Path) -> None:
    """Two files that break in the same millisecond are both kept."""
    path.parent.mkdir()
    contents = {b"not a journal " * 300, b"nor is this one " * 300}
    for content in contents:
        path.write_bytes(content)
        assert goes_on(path, MIDNIGHT) is not None
    assert {aside.read_bytes() for aside in asides(path)} == contents


def test_a_folder_in_place_of_the_file_is_one_clear_error(path: Path) -> None:
    """A folder is not moved; the error names it, and the lock is given back."""
    path.mkdir(parents=True)
    (path / "keep").write_text("something", encoding="ascii")
    for _ in range(2):
        with pytest.raises(JournalError, match=r"^cannot write the journal .*journal\.db") as caught:
            Journal(path, QUICK, MIDNIGHT)
        assert not isinstance(caught.value, JournalBroken)
    assert (path / "keep").read_text(encoding="ascii") == "something"


def test_a_file_that_goes_bad_while_running_is_moved_aside(path: Path) -> None:
    """The commit that finds it gives an event, and what is published goes on growing from where it was."""
    with books_at(path) as books:
        end_ms = work(books, MIDNIGHT, MUCH, commit=False)
        books.commit(end_ms)
        before = published(books, end_ms)
        go_bad(path, books)
        books.post(steady_tick(end_ms), {})
        event = books.commit(end_ms + INTERVAL_MS)
        assert event is not None
        assert (event.kind, event.node, event.at_ms) == ("journal_broken", NODE, end_ms + INTERVAL_MS)
        aside = asides(path)[0]
        assert str(aside) in event.text
        end_ms = work(books, end_ms + INTERVAL_MS, 3)
        assert_grew(before, published(books, end_ms))
    with books_at(path) as again:
        assert again.journal.moved_aside is None
        assert_grew(before, published(again, end_ms))
    assert [aside] == asides(path)
    check_hours(path, owed(end_ms, end_ms - 4 * INTERVAL_MS))


def test_a_new_journal_remembers_the_open_spells(path: Path) -> None:
    """A spell that was open when the file went bad goes on in the new file."""
    with books_at(path) as books:
        end_ms = work(books, MIDNIGHT, MUCH)
        books.post(tick_of(end_ms, end_ms + 9_000, quiet(end_ms, 9_000), gpus=[gpu_of(0), gpu_of(1)]), HELD)
        books.commit(end_ms + 9_000)
        go_bad(path, books)
        start_ms = end_ms + 9_000
        books.post(tick_of(start_ms, start_ms + 1, gpus=[gpu_of(0), gpu_of(1)]), {})
        assert books.commit(start_ms + 1) is not None
    with books_at(path) as again:
        spells = again.tally.timelines[gpu_of(0).uuid].spells
        assert [spell.seen_ms for spell in spells.values()] == [9_000]


def test_pruning_a_file_that_went_bad_says_so(path: Path) -> None:
    """Pruning meets damage as a broken journal, which the next commit can move aside."""
    with books_at(path) as books:
        end_ms = work(books, MIDNIGHT, MUCH)
        go_bad(path, books)
        with pytest.raises(JournalBroken):
            books.journal.prune(end_ms + 31 * DAY_MS)


# Files of others


def test_a_foreign_database_is_refused_and_untouched(path: Path) -> None:
    """A sound SQLite file that is no journal is neither written nor moved."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE invoices (id INTEGER PRIMARY KEY, euros REAL)")
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(JournalError, match="no gputally journal: name another with --journal"):
            Journal(path, QUICK, MIDNIGHT)
    assert path.read_bytes() == before
    assert {"journal.db", "journal.db.lock"} == {found.name for found in path.parent.iterdir()}


def test_a_journal_of_a_newer_gputally_is_refused(path: Path) -> None:
    """A newer schema is named with what to do, and the file stays."""
    fill(path, 1)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(JournalError, match=rf"schema {len(MIGRATIONS) + 1}, .*: install the newer gputally"):
        Journal(path, QUICK, MIDNIGHT)
    assert single(path, TICKS) == 1
    assert asides(path) == []


# Who may write


def test_a_second_writer_is_refused_with_the_pid_of_the_first(path: Path) -> None:
    """While one writes, another is told who does; afterwards it may."""
    with books_at(path) as books:
        work(books, MIDNIGHT, 1)
        for _ in range(2):
            with pytest.raises(JournalError, match=rf"another gputally \(pid {os.getpid()}\) writes"):
                Journal(path, QUICK, MIDNIGHT)
        work(books, MIDNIGHT + INTERVAL_MS, 1)
    with books_at(path) as books:
        work(books, MIDNIGHT + 2 * INTERVAL_MS, 1)
    assert single(path, TICKS) == 3


@pytest.mark.parametrize("folder", ["a file", "/proc"])
def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path, folder: str) -> None:
    """The error names the folder and the way out."""
    parent = tmp_path / "file" if folder == "a file" else Path(folder)
    if folder == "a file":
        parent.touch()
    with pytest.raises(JournalError, match=rf"^cannot write in {parent} .*name another --journal"):
        Journal(parent / "journal.db", QUICK, MIDNIGHT)


def test_the_folder_of_a_journal_is_made(tmp_path: Path) -> None:
    """A new node needs no folder beforehand."""
    fill(tmp_path / "var" / "lib" / "gputally" / "journal.db", 1)


# A full disk


def test_a_full_disk_loses_nothing(path: Path) -> None:
    """Without space a commit says so and all stays queued; with space again, one commit writes it all."""
    with books_at(path) as books:
        end_ms = work(books, MIDNIGHT, MUCH)
        ask(books, f"PRAGMA max_page_count = {ask(books, 'PRAGMA page_count')}")
        with pytest.raises(JournalError, match="no space left for the journal"):
            work(books, end_ms, 100)
        end_ms = books.tally.timelines[gpu_of(0).uuid].until_ms
        committed = single(path, TICKS)
        for queued in range(2, 7):
            books.post(steady_tick(end_ms), {})
            end_ms += INTERVAL_MS
            with pytest.raises(JournalError, match="no space left for the journal") as caught:
                books.commit(end_ms)
            assert not isinstance(caught.value, JournalBroken)
            assert (books.journal.pending, single(path, TICKS)) == (queued, committed)
        ask(books, "PRAGMA max_page_count = 1000000")
        books.commit(end_ms)
        assert books.journal.pending == 0
    assert single(path, TICKS) == committed + 6 == (end_ms - MIDNIGHT) // INTERVAL_MS
    check_hours(path, owed(end_ms))
    check_sums(path)


def test_a_gpu_first_seen_on_a_full_disk_is_written_later(path: Path) -> None:
    """Names that got a number in a commit that failed get one again."""
    with books_at(path) as books:
        end_ms = work(books, MIDNIGHT, MUCH)
        ask(books, f"PRAGMA max_page_count = {ask(books, 'PRAGMA page_count')}")
        with pytest.raises(JournalError, match="no space"):
            work(books, end_ms, 100, gpus=3)
        ask(books, "PRAGMA max_page_count = 1000000")
        until_ms = books.tally.timelines[gpu_of(2).uuid].until_ms
        books.commit(until_ms)
    check_hours(path, {**owed(until_ms), gpu_of(2).uuid: (end_ms, until_ms)})
    check_sums(path)


# Bounds


def test_ticks_beyond_their_age_go_and_are_counted(path: Path) -> None:
    """Old ticks go with their readings and ledger lines; the count survives a restart; the accounts stay."""
    with books_at(path) as books:
        end_ms = work(books, MIDNIGHT, 10)
        hours = rows(path, "SELECT * FROM account_hour")
        accounts = rows(path, "SELECT * FROM account")
        now_ms = MIDNIGHT + 4 * INTERVAL_MS + 30 * DAY_MS
        assert books.journal.prune(now_ms) == 3
        assert books.journal.prune(now_ms) == 0
        assert books.journal.ticks_dropped == 3
    assert single(path, "SELECT min(end_ms) FROM tick") == MIDNIGHT + 4 * INTERVAL_MS
    for table in ("reading", "posting"):
        assert single(path, f"SELECT min(start_ms) FROM {table}") == MIDNIGHT + 3 * INTERVAL_MS  # noqa: S608
    assert rows(path, "SELECT * FROM account_hour") == hours
    assert rows(path, "SELECT * FROM account") == accounts
    with books_at(path) as again:
        assert again.journal.ticks_dropped == 3
        again.journal.prune(end_ms + 31 * DAY_MS)
        assert again.journal.ticks_dropped == 10
    assert single(path, TICKS) == 0
    assert rows(path, "SELECT * FROM account_hour") == hours


def test_ticks_beyond_the_bytes_go_oldest_first(path: Path) -> None:
    """A journal over its bytes loses the oldest ticks until it fits, and keeps the newest."""
    keep = JournalSettings(sync="normal", max_bytes=1024**2)
    with books_at(path, keep=keep) as books:
        ticks, end_ms = 6_000, MIDNIGHT
        while end_ms < MIDNIGHT + ticks * INTERVAL_MS:
            end_ms = work(books, end_ms, 1_000, commit=False)
            books.commit(end_ms)
        assert books.journal.used_bytes() > keep.max_bytes
        dropped = books.journal.prune(end_ms)
        assert 0.9 * keep.max_bytes < books.journal.used_bytes() <= keep.max_bytes
        assert 0 < dropped == books.journal.ticks_dropped < ticks
    assert single(path, TICKS) == ticks - dropped
    assert single(path, "SELECT min(end_ms) FROM tick") == MIDNIGHT + (dropped + 1) * INTERVAL_MS
    assert single(path, "SELECT sum(elapsed_ms) FROM account_hour") == 2 * (end_ms - MIDNIGHT)


def test_every_dropped_tick_is_counted_though_ticks_came_out_of_order(path: Path) -> None:
    """A tick of a later time that was written earlier stays, and the count is of what went."""
    with books_at(path) as books:
        late_ms = MIDNIGHT + 20 * DAY_MS
        for start_ms in (late_ms, MIDNIGHT):
            node = NODE if start_ms == late_ms else OTHER_NODE
            books.post(Tick(node=node, start_ms=start_ms, end_ms=start_ms + INTERVAL_MS), {})
            books.commit(start_ms + INTERVAL_MS)
        assert books.journal.prune(MIDNIGHT + 35 * DAY_MS) == 1
    assert rows(path, "SELECT start_ms FROM tick") == [(late_ms,)]


def test_hours_beyond_their_age_go_and_lifetime_accounts_stay(path: Path) -> None:
    """Hourly accounts are kept 400 days, the totals for good."""
    with books_at(path) as books:
        end_ms = work(books, MIDNIGHT + HOUR_MS - 50_000, 10)
        accounts = rows(path, "SELECT * FROM account")
        books.journal.prune(MIDNIGHT + 400 * DAY_MS)
        assert single(path, "SELECT count(DISTINCT hour_ms) FROM account_hour") == 2
        books.journal.prune(MIDNIGHT + HOUR_MS - 1 + 400 * DAY_MS)
        assert rows(path, "SELECT DISTINCT hour_ms FROM account_hour") == [(MIDNIGHT + HOUR_MS,)]
    assert rows(path, "SELECT * FROM account") == accounts
    with books_at(path) as again:
        again.journal.prune(end_ms + 401 * DAY_MS)
    assert rows(path, "SELECT * FROM account") == accounts


def test_a_file_does_not_grow_once_it_is_pruned(path: Path) -> None:
    """Space of dropped ticks is used again."""
    keep = JournalSettings(sync="normal", tick_age_days=500 * INTERVAL_MS / DAY_MS)
    sizes = []
    with books_at(path, keep=keep) as books:
        end_ms = MIDNIGHT
        for _ in range(8):
            end_ms = work(books, end_ms, 250, commit=False)
            books.commit(end_ms)
            books.journal.prune(end_ms)
            sizes.append(ask(books, "PRAGMA page_count"))
    assert sizes[-1] <= 1.1 * sizes[3]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tick_age_days", 0),
        ("tick_age_days", float("nan")),
        ("accounts_age_days", 1e9),
        ("max_bytes", 1000),
        ("sync", "off"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(name: str, value: object) -> None:
    """A refused value is named with its section."""
    with pytest.raises(SettingsError, match=rf"^\[journal\] {name} "):
        JournalSettings(**{name: value})  # type: ignore[arg-type]


# The schema


def test_the_tables_are_these(path: Path) -> None:
    """The names and columns that readers of the file rely on."""
    fill(path, 1)
    tables = rows(
        path, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY 1"
    )
    found = {table: [row[1] for row in rows(path, f"PRAGMA table_info({table})")] for (table,) in tables}
    amounts = ["elapsed_ms", "busy_us", "busy_seen_ms", "energy_mj", "energy_seen_ms"]
    assert found == {
        "acknowledgement": ["finding_id", "at_ms", "author", "reason"],
        "silence": ["id", "rule", "uuid", "from_ms", "until_ms", "author", "reason"],
        "told": ["exporter", "finding_id", "times", "closed_ms"],
        "account": ["gpu_id", "node_id", "state", "owner_id", *amounts, "born_ms", "grown_ms"],
        "account_hour": ["hour_ms", "gpu_id", "node_id", "state", "owner_id", *amounts],
        "counter": ["gpu_id", "name", "base", "raw", "epoch"],
        "event": ["id", "node_id", "gpu_id", "at_ms", "kind", "text"],
        "exporter": [
            *("name", "tick_id", "tick_ms", "ahead_from", "ahead_to", "resends"),
            *("delivered_ticks", "refused_rows", "dropped_ticks", "dropped_from_ms", "dropped_until_ms"),
            *("success_ms", "failure_ms", "failure", "refusal"),
        ],
        "gpu_hour": ["hour_ms", "gpu_id", "node_id", *FIGURES],
        "xid_hour": ["hour_ms", "node_id", "uuid", "number", "count"],
        "finding": [
            *("id", "node_id", "gpu_id", "rule", "severity"),
            *("opened_ms", "closed_ms", "summary", "action", "times", "held_by"),
        ],
        "gpu": [
            *("id", "uuid", "model", "serial", "board_part", "vbios", "driver", "cuda"),
            *("inforom", "architecture", "minor", "module", "chassis", "slot", "tray"),
        ],
        "holder": [
            *("id", "kind", "name", "owner", "user", "workload", "account", "partition"),
            *("qos", "namespace", "container", "title", "cost_centre"),
        ],
        "meta": ["key", "value"],
        "node": ["id", "name", "labels"],
        "owner": ["id", "name"],
        "part": ["gpu_id", "quantity", "labels", "at_ms", "value"],
        "place": ["gpu_id", "node_id", "position", "pci_bus", "from_ms", "to_ms"],
        "posting": ["tick_id", "gpu_id", "state", "holder_id", "start_ms", *amounts, "slice"],
        "reading": ["tick_id", "gpu_id", "start_ms", "end_ms", "condition", *QUANTITIES],
        "slice_reading": ["tick_id", "gpu_id", "uuid", "profile", "weight_ratio", *SLICE_QUANTITIES],
        "spell": [
            *("gpu_id", "holder_id", "slice", "start_ms", "end_ms"),
            *("seen_ms", "beyond_ms", "unknown_ms", "ended"),
        ],
        "tenure": [
            *("node_id", "kind", "name", "user", "start_ms", "end_ms"),
            *("ended", "holder_id", "figures"),
        ],
        "tick": ["id", "node_id", "start_ms", "end_ms", "late_seconds", "driver_calls", "driver_seconds"],
        "timeline": [
            *("gpu_id", "node_id", "until_ms", "seen_ms"),
            *("energy_joules", "energy_at_ms", "boot_id"),
        ],
        "xid": ["uuid", "number", "boot_id", "count", "first_ms", "last_ms"],
    }
    assert single(path, "PRAGMA user_version") == len(MIGRATIONS)


def test_a_file_of_the_first_schema_goes_on(path: Path) -> None:
    """Tables and columns that are new are made, and what the file held stays."""
    end_ms = fill(path, 1)
    before = rows(path, "SELECT * FROM account")
    with closing(sqlite3.connect(path)) as db:
        later = ("part", "slice_reading", "counter", "xid", "tenure", "exporter")
        for table in (*later, "silence", "acknowledgement", "told", "gpu_hour", "xid_hour"):
            db.execute(f"DROP TABLE {table}")
        for column in ("inforom", "architecture", "minor", "module", "chassis", "slot", "tray"):
            db.execute(f"ALTER TABLE gpu DROP COLUMN {column}")
        for table, column in (
            ("posting", "slice"),
            ("finding", "times"),
            ("finding", "held_by"),
            ("node", "labels"),
        ):
            db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        db.execute("PRAGMA user_version = 1")
    with closing(Journal(path, JournalSettings(), end_ms)):
        assert single(path, "PRAGMA user_version") == len(MIGRATIONS)
    assert rows(path, "SELECT * FROM account") == before
    assert goes_on(path, end_ms) is None


def test_an_older_file_gets_the_quantities_it_lacks(path: Path) -> None:
    """A quantity that is new becomes a column; old rows say nothing of it."""
    end_ms = fill(path, 1)
    with closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE reading DROP COLUMN power_watts")
        db.execute("ALTER TABLE reading DROP COLUMN ofa_ratio")
    assert goes_on(path, end_ms) is None
    watts = rows(path, "SELECT power_watts, ofa_ratio FROM reading ORDER BY tick_id")
    assert watts == [(None, None)] * 2 + [(420.0, None)] * 2


def test_a_column_that_is_no_longer_a_quantity_stays(path: Path) -> None:
    """A file written by a version with one quantity more loses nothing of it."""
    end_ms = fill(path, 1)
    with closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE reading ADD COLUMN fan_ratio REAL")
        db.execute("UPDATE reading SET fan_ratio = 0.42")
        db.commit()
    assert goes_on(path, end_ms) is None
    assert rows(path, "SELECT fan_ratio FROM reading ORDER BY tick_id") == [(0.42,)] * 2 + [(None,)] * 2


def test_opening_again_changes_nothing(path: Path) -> None:
    """A file that is up to date is not touched by being opened."""
    fill(path, 5)
    before = path.read_bytes()
    with books_at(path):
        pass
    assert path.read_bytes() == before
