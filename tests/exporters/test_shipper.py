"""Shippers: whatever a store does, every tick gets there, and nothing contradicts itself."""

import json
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.journal import Journal, JournalSettings
from agent.journal_file import connect
from exporters.courier import LONGEST_PAUSE_SECONDS
from exporters.cursors import Cursor, Cursors
from exporters.history import History
from exporters.rows import Row
from exporters.settle import DELIVERED, Outcome, Verdict
from exporters.shipper import BATCH_TICKS, LIVE_TICKS, Shipment, Shipper
from tests.agent.histories import INTERVAL_MS, MIDNIGHT, books_at, work
from tests.command.waiting import until

LABELS = {"cluster": "emea"}
DOWN = Outcome(Verdict.UNREACHABLE, "HTTP 503")
REFUSED = Outcome(Verdict.REFUSED, "HTTP 400: bad line")
Point = tuple[str, tuple[tuple[str, str], ...], str, int]


def encode(rows: Iterable[Row]) -> bytes:
    """Write rows as JSON."""
    return json.dumps([list(row) for row in rows]).encode()


def points(rows: Iterable[Row]) -> dict[Point, float]:
    """Give each figure by its series and time."""
    return {
        (row.measurement, row.labels, name, row.at_ms): value for row in rows for name, value in row.fields
    }


class Store:
    """A store that does as it is told: `act` settles each batch, and what is delivered is kept."""

    def __init__(self, act: Callable[[list[Row]], Outcome] = lambda _: DELIVERED) -> None:
        self.act = act
        self.kept: dict[Point, float] = {}
        self.batches: list[list[Row]] = []

    def send(self, body: bytes) -> Outcome:
        """Settle a batch."""
        rows = [
            Row(one[0], tuple(map(tuple, one[1])), tuple(map(tuple, one[2])), one[3])
            for one in json.loads(body)
        ]
        outcome = self.act(rows)
        if outcome.verdict is Verdict.DELIVERED:
            self.keep(rows)
        return outcome

    def keep(self, rows: list[Row]) -> None:
        """Take rows; a point that was there before must be the same."""
        self.batches.append(rows)
        for key, value in points(rows).items():
            assert self.kept.setdefault(key, value) == value, key

    def close(self) -> None:
        """End nothing."""


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 200 ticks."""
    path = tmp_path_factory.mktemp("shipper") / "j.db"
    with books_at(path, keep=JournalSettings(sync="normal")) as books:
        work(books, MIDNIGHT, 200)
    return path


def shipper(path: Path, store: Store, *, newest_first: bool = False, most_bytes: int = 10**9) -> Shipper:
    """Make a shipper from a journal to a store."""
    shipment = Shipment(
        name="fleet", encode=encode, transport=store, newest_first=newest_first, most_bytes=most_bytes
    )
    return Shipper(shipment, path, LABELS)


def all_points(path: Path) -> dict[Point, float]:
    """Give all that a journal holds, read in one go."""
    with closing(connect(path)) as db:
        history = History(db, 0, LABELS)
        batches = iter(lambda: history.ticks(1000), [])
        return points(row for batch in batches for _, rows in batch for row in rows)


def steps(one: Shipper, most: int = 1000) -> Iterator[float]:
    """Let a shipper work until it has nothing to do; give its pauses."""
    for _ in range(most):
        pause_seconds = one.step()
        yield pause_seconds
        if pause_seconds >= 30 and not one._failures:
            return


def cursor(path: Path) -> Cursor:
    """Read the cursor."""
    return Cursors(path).load("fleet")


def test_every_tick_arrives_as_it_is_in_the_journal(path: Path) -> None:
    """All figures of all ticks, with their own times, in batches of bounded size."""
    store = Store()
    list(steps(shipper(path, store)))
    assert store.kept == all_points(path)
    assert len(store.batches) == -(-200 // BATCH_TICKS)
    assert (cursor(path).tick_id, cursor(path).delivered_ticks, cursor(path).failure) == (200, 200, "")


def test_nothing_is_sent_twice_by_the_next_agent(path: Path) -> None:
    """The cursor is kept: what was delivered stays so."""
    list(steps(shipper(path, Store())))
    again = Store()
    list(steps(shipper(path, again)))
    assert again.kept == {}


def test_an_unreachable_store_gets_all_of_it_later(path: Path) -> None:
    """Pauses grow to a minute with chance in them; nothing is lost, and the cursor stays until then."""
    store = Store(lambda _: DOWN)
    one = shipper(path, store)
    pauses = [one.step() for _ in range(12)]
    assert all(0.5 <= pause <= LONGEST_PAUSE_SECONDS for pause in pauses)
    assert min(pauses[8:]) >= LONGEST_PAUSE_SECONDS / 2
    assert (cursor(path).tick_id, cursor(path).failure) == (0, "HTTP 503")
    store.act = lambda _: DELIVERED
    list(steps(one))
    assert store.kept == all_points(path)
    assert cursor(path).failure == ""


def test_a_store_that_asks_for_time_is_left_alone(path: Path) -> None:
    """Retry-After is the least pause."""
    store = Store(lambda _: Outcome(Verdict.UNREACHABLE, "HTTP 429", 123.0))
    assert shipper(path, store).step() == 123.0


def test_a_poisoned_row_takes_none_of_its_neighbours_along(path: Path) -> None:
    """It alone is refused and counted; all before, beside and behind it arrives."""
    poison = next(key for key in all_points(path) if key[2] == "power_watts" and key[3] > MIDNIGHT + 10**6)

    def act(rows: list[Row]) -> Outcome:
        return REFUSED if poison in points(rows) else DELIVERED

    store = Store(act)
    list(steps(shipper(path, store)))
    missing = all_points(path).keys() - store.kept.keys()
    assert poison in missing
    assert {key[1] for key in missing} == {poison[1]}
    assert {key[3] for key in missing} == {poison[3]}
    assert (cursor(path).tick_id, cursor(path).refused_rows) == (200, 1)
    assert cursor(path).refusal == "HTTP 400: bad line"


def test_a_store_that_refuses_everything_does_not_stop_the_queue(path: Path) -> None:
    """All rows are counted as refused, with a bounded number of questions."""
    asked = []
    store = Store(lambda rows: asked.append(len(rows)) or REFUSED)  # type: ignore[func-returns-value]
    list(steps(shipper(path, store)))
    with closing(connect(path)) as db:
        total = sum(len(rows) for _, rows in History(db, 0, LABELS).ticks(10**6))
    assert cursor(path).refused_rows == total
    assert cursor(path).tick_id == 200
    assert len(asked) < 3000


def test_what_is_too_old_is_refused_by_the_tick(path: Path) -> None:
    """Rows of one tick are of one time: there is no use in looking for a good one among them."""
    old = Outcome(Verdict.REFUSED, "HTTP 400: out of bounds", of_time=True)
    border = MIDNIGHT + 100 * INTERVAL_MS
    asked: list[int] = []

    def act(rows: list[Row]) -> Outcome:
        asked.append(len(rows))
        return old if min(row.at_ms for row in rows) <= border else DELIVERED

    store = Store(act)
    list(steps(shipper(path, store)))
    assert store.kept == {key: value for key, value in all_points(path).items() if key[3] > border}
    assert len(asked) < 300


def test_the_newest_go_first_after_an_outage(path: Path) -> None:
    """The first batch is of the last hour's end; then the rest, oldest first, until there is no gap."""
    store = Store()
    one = shipper(path, store, newest_first=True)
    assert one.step() == 0
    assert min(row.at_ms for row in store.batches[0]) == MIDNIGHT + (200 - LIVE_TICKS + 1) * INTERVAL_MS
    while cursor(path).reached < 200:
        one.step()
    one.step()
    assert min(row.at_ms for row in store.batches[-1]) == MIDNIGHT + INTERVAL_MS
    list(steps(one))
    assert all_points(path).items() <= store.kept.items()
    assert (cursor(path).tick_id, cursor(path).ahead_to) == (200, 0)


def test_the_newest_go_first_however_long_the_outage_was(path: Path) -> None:
    """What was about to be sent when the store went away waits as well, and is sent in its turn."""
    store = Store(lambda _: DOWN)
    one = shipper(path, store, newest_first=True)
    for some in range(10):
        one.step()
        with books_at(path, now_ms=MIDNIGHT + (200 + 20 * some) * INTERVAL_MS) as books:
            work(books, MIDNIGHT + (200 + 20 * some) * INTERVAL_MS, 20)
    store.act = lambda _: DELIVERED
    one.step()
    assert min(row.at_ms for row in store.batches[0]) == MIDNIGHT + (400 - LIVE_TICKS + 1) * INTERVAL_MS
    list(steps(one))
    assert all_points(path).items() <= store.kept.items()
    assert (cursor(path).tick_id, cursor(path).ahead_to) == (400, 0)


def test_a_poisoned_row_is_found_though_the_way_breaks_again_and_again(path: Path) -> None:
    """What was settled of a batch stays so: no half is asked about twice."""
    poison = next(key for key in all_points(path) if key[2] == "power_watts" and key[3] > MIDNIGHT + 10**6)
    chance = random.Random(3)  # noqa: S311

    def act(rows: list[Row]) -> Outcome:
        if poison in points(rows):
            return REFUSED
        return DOWN if chance.random() < 0.7 else DELIVERED

    store = Store(act)
    one = shipper(path, store)
    for _ in range(400):
        one.step()
        if cursor(path).tick_id == 200:
            break
    missing = all_points(path).keys() - store.kept.keys()
    assert {key[3] for key in missing} == {poison[3]}
    assert (cursor(path).tick_id, cursor(path).refused_rows, cursor(path).delivered_ticks) == (200, 1, 200)


def test_new_ticks_go_in_between_old_ones(path: Path) -> None:
    """While it catches up, what is new does not wait."""
    store = Store()
    one = shipper(path, store, newest_first=True)
    for _ in range(4):
        one.step()
    with books_at(path, now_ms=MIDNIGHT + 200 * INTERVAL_MS) as books:
        work(books, MIDNIGHT + 200 * INTERVAL_MS, 3)
    one.step()
    assert max(row.at_ms for row in store.batches[-1]) == MIDNIGHT + 203 * INTERVAL_MS
    list(steps(one))
    assert all_points(path).items() <= store.kept.items()


def test_a_batch_is_bounded_in_bytes(path: Path) -> None:
    """A large batch goes in parts."""
    largest: list[int] = []

    class Bounded(Store):
        def send(self, body: bytes) -> Outcome:
            largest.append(len(body))
            return super().send(body)

    store = Bounded()
    list(steps(shipper(path, store, most_bytes=20_000)))
    assert max(largest) <= 20_000
    assert store.kept == all_points(path)


def drop(path: Path, ticks: int) -> None:
    """Let the bounds of the journal take its oldest ticks."""
    keep = JournalSettings(sync="normal", tick_age_days=(200 - ticks) * INTERVAL_MS / 86_400_000)
    with closing(Journal(path, keep, MIDNIGHT)) as journal:
        assert journal.prune(MIDNIGHT + 200 * INTERVAL_MS) == ticks - 1


@pytest.mark.parametrize("sent", [0, 1])
def test_what_the_journal_dropped_is_counted_and_named(
    path: Path, caplog: pytest.LogCaptureFixture, sent: int
) -> None:
    """Ticks beyond its bound are gone: the cursor passes them, and says how many, from when to when."""
    store = Store()
    one = shipper(path, store)
    for _ in range(sent):
        one.step()
    store.act = lambda _: DOWN
    one.step()
    drop(path, 100)
    store.act = lambda _: DELIVERED
    list(steps(shipper(path, store)))
    found = cursor(path)
    assert found.dropped_ticks == 99 - sent * BATCH_TICKS
    assert found.delivered_ticks + found.dropped_ticks == found.tick_id == 200
    assert found.dropped_from_ms == MIDNIGHT + sent * BATCH_TICKS * INTERVAL_MS
    assert found.dropped_until_ms == MIDNIGHT + 99 * INTERVAL_MS
    assert f"dropped {found.dropped_ticks} ticks between 2026-01-06 00:0" in caplog.text


def test_what_went_ahead_is_not_counted_as_dropped(path: Path) -> None:
    """The newest were sent first; then the journal drops those before them, and some of them."""
    store = Store()
    one = shipper(path, store, newest_first=True)
    one.step()
    drop(path, 160)
    list(steps(one))
    found = cursor(path)
    assert found.dropped_ticks == 200 - LIVE_TICKS
    assert found.delivered_ticks + found.dropped_ticks == found.tick_id == 200


def test_a_journal_that_was_pruned_before_there_was_an_exporter_dropped_nothing(path: Path) -> None:
    """A new exporter begins with what there is."""
    drop(path, 100)
    list(steps(shipper(path, Store())))
    assert (cursor(path).dropped_ticks, cursor(path).delivered_ticks) == (0, 101)


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_store_that_lost_data_gets_it_again(path: Path, newest_first: bool) -> None:  # noqa: FBT001
    """A store that said yes to what it then lost: from a moment on all is sent again, while it goes on."""
    store = Store()
    one = shipper(path, store, newest_first=newest_first)
    list(steps(one))
    store.kept.clear()
    Cursors(path).put_back("fleet", 50)
    list(steps(one))
    late = {key: value for key, value in all_points(path).items() if key[3] > MIDNIGHT + 50 * INTERVAL_MS}
    assert late.items() <= store.kept.items()
    assert min(key[3] for key in store.kept) == MIDNIGHT + 51 * INTERVAL_MS
    assert cursor(path).tick_id == 200


def test_a_cursor_that_is_put_back_during_a_batch_stays_there(path: Path) -> None:
    """Whoever was sending then does not move it forward again."""
    store = Store()
    one = shipper(path, store)
    list(steps(one))
    with books_at(path, now_ms=MIDNIGHT + 200 * INTERVAL_MS) as books:
        work(books, MIDNIGHT + 200 * INTERVAL_MS, 3)

    def act(_: list[Row]) -> Outcome:
        store.act = lambda _: DOWN
        Cursors(path).put_back("fleet", 20)
        return DELIVERED

    store.act = act
    one.step()
    assert cursor(path).tick_id == 20
    one.step()
    assert cursor(path).tick_id == 20
    store.act = lambda _: DELIVERED
    list(steps(one))
    assert all_points(path).items() <= store.kept.items()


def test_another_journal_in_its_place_is_begun_at_its_beginning(path: Path, tmp_path: Path) -> None:
    """A broken journal is moved aside: the numbers of the new one begin anew, and so does the cursor."""
    store = Store()
    one = shipper(path, store)
    list(steps(one))
    other = tmp_path / "other.db"
    with books_at(other) as books:
        work(books, MIDNIGHT + 10**7, 5)
    path.unlink()
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    other.rename(path)
    list(steps(one))
    assert all_points(path).items() <= store.kept.items()


def test_a_journal_that_is_away_is_waited_for(path: Path) -> None:
    """No error ends a shipper."""
    one = shipper(path, Store())
    hidden = path.with_name("away")
    path.rename(hidden)
    assert one.step() > 0
    hidden.rename(path)
    list(steps(one))
    assert cursor(path).tick_id == 200


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), newest_first=st.booleans())
def test_at_least_once_whatever_happens(
    journal: Path,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    newest_first: bool,  # noqa: FBT001
) -> None:
    """Outages, half-stored batches, refusals and kills: in the end all is there but what was refused."""
    path = tmp_path_factory.mktemp("random") / "j.db"
    path.write_bytes(journal.read_bytes())
    chance = random.Random(seed)  # noqa: S311
    truth = all_points(path)
    poison = chance.choice(sorted(truth))
    store = Store()

    def act(rows: list[Row]) -> Outcome:
        if poison in points(rows):
            return REFUSED
        fate = chance.random()
        if fate < 0.15:
            store.keep(rows[: len(rows) // 2])  # stored half, then the connection broke
            return DOWN
        return DOWN if fate < 0.3 else DELIVERED

    store.act = act
    one = shipper(path, store, newest_first=newest_first)
    for _ in range(400):
        if chance.random() < 0.15:
            one = shipper(path, store, newest_first=newest_first)  # killed, and started again
        one.step()
        if cursor(path).tick_id == 200:
            break
    missing = truth.keys() - store.kept.keys()
    assert cursor(path).tick_id == 200
    assert {key[:2] + key[3:] for key in missing} <= {poison[:2] + poison[3:]}
    assert all(store.kept[key] == truth[key] for key in truth.keys() & store.kept.keys())


def test_it_runs_on_a_thread_and_ends_at_once(path: Path) -> None:
    """Woken by ticks, closed within its time."""
    store = Store()
    one = shipper(path, store)
    one.start()
    one.wake()
    until(lambda: cursor(path).tick_id == 200, "all ticks")
    one.close()
    assert one._thread is not None
    assert not one._thread.is_alive()
