"""Small journals, written through the books as an agent does, and read as a report does."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from agent.books import Books
from agent.journal import Journal, JournalSettings
from agent.journal_file import connect
from agent.quantities import Amount
from agent.states import StateSettings
from agent.tally import HOUR_MS
from agent.tick import Condition, Gpu, Hold, Holder, Tick, reading_of
from reports.prices import PriceBook, flat_price
from reports.report import MOST_SPELLS, Report, build
from reports.sources.gathered import gather, together
from reports.sums import snapshot
from reports.window import Asked, journal_span, resolve

MINUTE_MS = 60_000
MONDAY_MS = 1_794_787_200_000
"""Monday 16 November 2026, 00:00 UTC: the start of week 47."""

ALICE = Holder(kind="slurm", name="4711", owner="alice")
BOB = Holder(kind="pod", name="train-7", owner="bob")


def gpu(number: int) -> Gpu:
    """Make a GPU of that index."""
    return Gpu(uuid=f"GPU-{number:08}-aaaa", index=number, model="NVIDIA H200", serial=f"16500{number}")


Deed = tuple[Holder | None, Mapping[str, Amount] | Condition | None]
"""Who holds a GPU, and what is read of it: quantities, a bad condition, or nothing at all."""


class Small:
    """A journal that grows by whole intervals, in which every GPU does one thing."""

    def __init__(self, path: Path, start_ms: int = MONDAY_MS, settings: StateSettings | None = None) -> None:
        self.path = path
        self.now_ms = start_ms
        self.journal = Journal(path, JournalSettings(sync="normal"), start_ms)
        self.books = Books(self.journal, settings or StateSettings(), boot_id="boot")

    def pass_by(
        self,
        length_ms: int,
        does: Mapping[Gpu, Deed],
        node: str = "n1",
    ) -> None:
        """Let an interval pass; a GPU that does None is not seen."""
        start_ms, self.now_ms = self.now_ms, self.now_ms + length_ms
        readings = [
            reading_of(one.uuid, start_ms, self.now_ms, {}, condition=did)
            if isinstance(did, Condition)
            else reading_of(one.uuid, start_ms, self.now_ms, did)
            for one, (_, did) in does.items()
            if did is not None
        ]
        holds: dict[str, Sequence[Hold]] = {
            one.uuid: (Hold(holder),) for one, (holder, _) in does.items() if holder
        }
        tick = Tick(
            node=node, start_ms=start_ms, end_ms=self.now_ms, readings=tuple(readings), gpus=tuple(does)
        )
        self.books.post(tick, holds)

    def save(self) -> None:
        """Commit and close."""
        self.books.commit(self.now_ms)
        self.journal.close()


def day(path: Path, hours: int = 4) -> Path:
    """Write some hours in which four GPUs work, are held idle, stand free, and fail after the first hour.

    In the first half hour nothing is seen of any of them.
    """
    small = Small(path)
    gpus = [gpu(number) for number in range(4)]
    small.pass_by(HOUR_MS // 2, dict.fromkeys(gpus, (None, None)))
    for half in range(1, 2 * hours):
        lost = half > 1
        small.pass_by(
            HOUR_MS // 2,
            {
                gpus[0]: (BOB, {"busy_ratio": 0.8, "power_watts": 500.0}),
                gpus[1]: (ALICE, {"busy_ratio": 0.0, "power_watts": 100.0}),
                gpus[2]: (None, {"busy_ratio": 0.0, "memory_used_bytes": 0.0}),
                gpus[3]: (None, Condition.LOST if lost else {"busy_ratio": 0.0, "memory_used_bytes": 0.0}),
            },
        )
    small.save()
    return path


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a journal for reading, and close it."""
    with closing(connect(path)) as db:
        yield db


def report_of(
    path: Path, asked: Asked | None = None, price: float | None = None, prices: PriceBook | None = None
) -> Report:
    """Build a report as the command does; by default of all time."""
    return fleet_report_of([path], asked, price, prices)


def fleet_report_of(
    paths: Sequence[Path],
    asked: Asked | None = None,
    price: float | None = None,
    prices: PriceBook | None = None,
) -> Report:
    """Build a report of several journals, with one price for all GPUs or with those of a book."""
    book = flat_price(price) if prices is None else prices
    with ExitStack() as stack:
        dbs = [stack.enter_context(reading(path)) for path in paths]
        for db in dbs:
            stack.enter_context(snapshot(db))
        window = resolve([journal_span(db) for db in dbs], asked or Asked(everything=True), now_ms=MONDAY_MS)
        cuts = book.cuts(window.from_ms, window.to_ms)
        found = [
            one
            for path, db in zip(paths, dbs, strict=True)
            if (one := gather(db, window, MOST_SPELLS, str(path), cuts))
        ]
        return build(together(found, MOST_SPELLS), window, prices=book, now_ms=MONDAY_MS)


def tamper(path: Path, statement: str, *values: object) -> None:
    """Change a journal behind gputally's back."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement, values)
