"""A disk that is full: intervals wait within a bound, and what is written later is what would have been."""

import tempfile
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import JournalError
from agent.tally import HOUR_MS
from agent.tick import Event
from tests.agent.histories import (
    INTERVAL_MS,
    MIDNIGHT,
    NODE,
    Absence,
    Step,
    World,
    books_at,
    check_hours,
    check_sums,
    gpu_of,
    histories,
    reading,
    rows,
    single,
    steady_tick,
    tick_of,
    work,
)

WHOLE = 3
_SAME = (
    """SELECT uuid, node.name, state, owner.name, elapsed_ms, busy_us, busy_seen_ms, energy_mj, energy_seen_ms
       FROM account JOIN gpu ON gpu.id = gpu_id JOIN node ON node.id = node_id
       LEFT JOIN owner ON owner.id = owner_id ORDER BY 1, 2, 3, 4""",
    """SELECT hour_ms, uuid, node.name, state, owner.name, elapsed_ms, busy_us, busy_seen_ms, energy_mj,
       energy_seen_ms FROM account_hour JOIN gpu ON gpu.id = gpu_id JOIN node ON node.id = node_id
       LEFT JOIN owner ON owner.id = owner_id ORDER BY 1, 2, 3, 4, 5""",
    """SELECT uuid, holder.name, slice, start_ms, end_ms, seen_ms, beyond_ms, unknown_ms, ended FROM spell
       JOIN gpu ON gpu.id = gpu_id JOIN holder ON holder.id = holder_id ORDER BY 1, 2, 3, 4""",
    """SELECT uuid, node.name, until_ms, seen_ms FROM timeline JOIN gpu ON gpu.id = gpu_id
       JOIN node ON node.id = node_id ORDER BY 1""",
    """SELECT hour_ms, uuid, node.name, temperature_max_celsius, margin_least_celsius, memory_max_bytes,
       power_max_watts, heat_lost_ms FROM gpu_hour JOIN gpu ON gpu.id = gpu_id
       JOIN node ON node.id = node_id ORDER BY 1, 2""",
    """SELECT uuid, node.name, position, from_ms, to_ms FROM place JOIN gpu ON gpu.id = gpu_id
       JOIN node ON node.id = node_id ORDER BY 1, 4""",
)
"""What must not depend on when it was written."""


class Cramped(World):
    """A world whose disk is full at times; before the agent restarts there is room."""

    full = False

    def set_full(self, *, full: bool) -> None:
        """Let the disk be full, or not; full is that nothing can be written, not even into free pages."""
        self.full = full
        self.books.journal._db.execute(f"PRAGMA query_only = {int(full)}")

    def _absence(self, step: Absence) -> None:
        if step.kind != "gap":
            self.set_full(full=False)
            self.commit()
        super()._absence(step)

    def commit(self) -> None:
        """Write what waits, as the node does after each interval."""
        journal = self.books.journal
        with pytest.raises(JournalError) if self.full else nullcontext():
            assert self.books.commit(self.wall_ms) is None
        if journal.pending > WHOLE:
            journal.thin(WHOLE)

    def _commit(self) -> None:
        self.commit()


def _played(world: World, history: Sequence[Step], full: Sequence[bool]) -> list[list[tuple[object, ...]]]:
    for step, is_full in zip(history, full, strict=False):
        if isinstance(world, Cramped):
            world.set_full(full=is_full)
        world.play(step)
    if isinstance(world, Cramped):
        world.set_full(full=False)
        world.commit()
    world.check()
    return [rows(world.path, query) for query in _SAME]


def run(history: Sequence[Step], full: Sequence[bool]) -> None:
    """Play a history with room and without, and compare all that must be the same."""
    with tempfile.TemporaryDirectory() as folder:
        with closing(World(Path(folder) / "roomy.db", nodes=(NODE,))) as roomy:
            expected = _played(roomy, history, full)
        with closing(Cramped(Path(folder) / "cramped.db", nodes=(NODE,))) as cramped:
            assert _played(cramped, history, full) == expected


_full = st.lists(st.sampled_from([True, True, True, False]), min_size=30, max_size=30)
_unhurried = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example]
)


@given(histories(25), _full)
@settings(_unhurried, max_examples=80)
def test_nothing_depends_on_when_it_was_written(history: list[Step], full: list[bool]) -> None:
    """Accounts, hours, spells, timelines and places are those of a disk that always had room."""
    run(history, full)


@pytest.mark.slow
@given(histories(80), st.lists(st.sampled_from([True, True, True, False]), min_size=80, max_size=80))
@settings(_unhurried, max_examples=1_500)
def test_nothing_depends_on_when_it_was_written_at_length(history: list[Step], full: list[bool]) -> None:
    """The same holds for many longer histories."""
    run(history, full)


def test_two_days_without_room_wait_within_a_bound(tmp_path: Path) -> None:
    """One record for each hour waits beside the newest ones, and each has a line per GPU and state."""
    path, hours = tmp_path / "j.db", 48
    with books_at(path) as books:
        now_ms = work(books, MIDNIGHT, 3)
        pages = books.journal._db.execute("PRAGMA page_count").fetchone()[0]
        books.journal._db.execute(f"PRAGMA max_page_count = {pages}")
        for _ in range(hours * 60):
            now_ms = work(books, now_ms, 6, commit=False)
            books.journal.thin(WHOLE)
        assert books.journal.pending <= WHOLE + hours + 1
        assert max(len(record.posting.entries) for record in books.journal._pending) == 2
        with pytest.raises(JournalError, match="no space"):
            books.commit(now_ms)
        books.journal._db.execute("PRAGMA max_page_count = 1000000")
        books.commit(now_ms)
    check_hours(path, {gpu_of(number).uuid: (MIDNIGHT, now_ms) for number in range(2)})
    check_sums(path)
    assert single(path, "SELECT max(memory_max_bytes) FROM gpu_hour") == round(61.5 * 1024**3)


def test_what_happened_while_there_was_no_room_is_told_later(tmp_path: Path) -> None:
    """Events of intervals that became one are all there, at their own times."""
    path = tmp_path / "j.db"
    with books_at(path) as books:
        for number in range(9):
            start_ms = MIDNIGHT + HOUR_MS - INTERVAL_MS * (5 - number)
            event = Event(at_ms=start_ms, node=NODE, kind="gpu_lost", text=f"{number}", uuid=gpu_of(0).uuid)
            books.post(steady_tick(start_ms), {}, events=[event])
        books.journal.thin(1)
        assert books.journal.pending == 3
        books.commit(MIDNIGHT + 2 * HOUR_MS)
    assert [text for (text,) in rows(path, "SELECT text FROM event ORDER BY at_ms")] == list("012345678")
    spans = rows(
        path, "SELECT (start_ms - ?) / 1000, (end_ms - ?) / 1000 FROM tick", *[MIDNIGHT + HOUR_MS] * 2
    )
    assert spans == [(-50, 0), (0, 30), (30, 40)]


def test_a_gpu_that_comes_keeps_the_time_of_its_coming(tmp_path: Path) -> None:
    """Intervals before and after it are not put together."""
    path = tmp_path / "j.db"
    with books_at(path) as books:
        for number in range(6):
            start_ms = MIDNIGHT + INTERVAL_MS * number
            gpus = [gpu_of(index) for index in range(1 if number < 3 else 2)]
            seen = [reading(gpu, start_ms, start_ms + INTERVAL_MS, busy_ratio=0.5) for gpu in gpus]
            books.post(tick_of(start_ms, start_ms + INTERVAL_MS, *seen, gpus=gpus), {})
        books.journal.thin(1)
        assert books.journal.pending == 3  # before, since, and the newest
        books.commit(MIDNIGHT + HOUR_MS)
    assert rows(path, "SELECT position, from_ms - ? FROM place ORDER BY 1", MIDNIGHT) == [
        (0, 0),
        (1, 3 * INTERVAL_MS),
    ]
