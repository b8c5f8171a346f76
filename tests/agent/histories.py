"""Histories of a node, random and hand-made, and the arithmetic that every journal of them must satisfy.

`World` plays a history into real books and keeps its own, simpler count of what the journal must hold:
from when to when each GPU's time is owed, and how much busy time was shown.
"""

import random
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from agent.accounts import Key
from agent.books import Books
from agent.journal import Journal, JournalSettings
from agent.quantities import Amount
from agent.states import StateSettings
from agent.tally import HOUR_MS
from agent.tick import Condition, Gpu, Hold, Holder, Reading, Slice, Tick, Workload, reading_of, slice_of

MIDNIGHT = 1_767_657_600_000
"""Tuesday 6 January 2026, 00:00 UTC."""
INTERVAL_MS = 10_000
NODE, OTHER_NODE = "hall2-n017", "hall2-n018"
TRAINING = Holder(kind="slurm", name="4711", owner="vision", user="ada")
SWEEP = Holder(kind="slurm", name="4712", owner="vision", user="grace")
NOTEBOOK = Holder(
    kind="kubernetes", name="lab/notebook-0", owner="lab", user="", workload=Workload.INTERACTIVE
)
CHAT = Holder(kind="kubernetes", name="web/chat-7f", owner="web", user="", workload=Workload.SERVING)
BURN_IN = Holder(kind="slurm", name="9", owner="burnin-night")
HOLDERS = (TRAINING, SWEEP, NOTEBOOK, CHAT, BURN_IN)
IMPATIENT = StateSettings(
    patience_batch_seconds=60,
    patience_interactive_seconds=125.5,
    patience_serving_seconds=900,
    spell_unknown_seconds=90,
    service_owners=("burnin-*",),
)
"""Patience so short that random histories get beyond it."""
QUICK = JournalSettings(sync="normal")

Published = dict[Key, tuple[int, ...]]


def gpu_of(index: int) -> Gpu:
    """Describe the GPU that sits at an index of the node."""
    return Gpu(
        uuid=f"GPU-5c1b0e4a-{index:04d}",
        index=index,
        model="NVIDIA H200",
        serial=f"16513240{index:05d}",
        board_part="699-2G530-0200-000",
        vbios="96.00.74.00.1A",
        driver="570.86.15",
        cuda="12.8",
        pci_bus=f"00000000:{0x19 + index:02X}:00.0",
    )


def reading(
    gpu: Gpu,
    start_ms: int,
    end_ms: int,
    condition: Condition = Condition.OK,
    **values: Amount,
) -> Reading:
    """Make a reading of a GPU that says only what is given."""
    return reading_of(gpu.uuid, start_ms, end_ms, values, condition=condition)


def tick_of(start_ms: int, end_ms: int, *readings: Reading, gpus: Sequence[Gpu], node: str = NODE) -> Tick:
    """Make a tick of a node whose driver enumerates these GPUs."""
    return Tick(node=node, start_ms=start_ms, end_ms=end_ms, readings=readings, gpus=tuple(gpus))


@contextmanager
def books_at(
    path: Path,
    settings: StateSettings = IMPATIENT,
    *,
    boot_id: str = "boot-1",
    keep: JournalSettings = QUICK,
    now_ms: int = MIDNIGHT,
) -> Iterator[Books]:
    """Open books on a journal's file, and close it afterwards."""
    journal = Journal(path, keep, now_ms)
    try:
        yield Books(journal, settings, boot_id=boot_id)
    finally:
        journal.close()


def steady_tick(start_ms: int, gpus: int = 2, interval_ms: int = INTERVAL_MS) -> Tick:
    """Make the tick of an interval in which all GPUs work at 80 % and draw 420 W."""
    end_ms = start_ms + interval_ms
    values = {"busy_ratio": 0.8, "power_watts": 420.0, "memory_used_bytes": 61.5 * 1024**3}
    seats = [gpu_of(index) for index in range(gpus)]
    readings = [reading_of(gpu.uuid, start_ms, end_ms, values) for gpu in seats]
    return tick_of(start_ms, end_ms, *readings, gpus=seats)


def work(books: Books, start_ms: int, ticks: int, *, gpus: int = 2, commit: bool = True) -> int:
    """Let a training job work for so many intervals; give the time at which the last one ended."""
    holds = {gpu_of(index).uuid: (Hold(TRAINING),) for index in range(gpus)}
    for number in range(ticks):
        tick = steady_tick(start_ms + number * INTERVAL_MS, gpus)
        books.post(tick, holds)
        if commit:
            assert books.commit(tick.end_ms) is None
    return start_ms + ticks * INTERVAL_MS


def dice(seed: int) -> random.Random:
    """Give chance that falls the same way each time."""
    return random.Random(seed)  # noqa: S311  chance for a test, not a secret


def rows(path: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask a journal's file from the outside."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(query, values).fetchall()


def single(path: Path, query: str, *values: object) -> int:
    """Ask a journal's file for one number; 0 where there is none."""
    return int(rows(path, query, *values)[0][0] or 0)


def published(books: Books, at_ms: int) -> Published:
    """Give the page's counters of the interval that ended at a moment."""
    return {
        key: (account.elapsed_ms, account.busy_us, account.energy_mj)
        for key, account in books.accounts.published(at_ms)
    }


_HOURS_OF_ACCOUNTS = """
    SELECT uuid, hour_ms, sum(elapsed_ms) FROM account_hour JOIN gpu ON gpu.id = gpu_id
    GROUP BY 1, 2 HAVING sum(elapsed_ms) > 0 ORDER BY 1, 2"""
_HOURS_OF_LEDGER = """
    SELECT uuid, start_ms / 3600000 * 3600000, sum(elapsed_ms) FROM posting JOIN gpu ON gpu.id = gpu_id
    GROUP BY 1, 2 HAVING sum(elapsed_ms) > 0 ORDER BY 1, 2"""
_ACCOUNTS_OF_HOURS = """
    SELECT gpu_id, node_id, state, owner_id, sum(elapsed_ms), sum(busy_us), sum(busy_seen_ms), sum(energy_mj),
           sum(energy_seen_ms)
    FROM account_hour GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"""
_ACCOUNTS = """
    SELECT gpu_id, node_id, state, owner_id, elapsed_ms, busy_us, busy_seen_ms, energy_mj, energy_seen_ms
    FROM account ORDER BY 1, 2, 3, 4"""
_LEDGER = """
    SELECT start_ms / 3600000 * 3600000, gpu_id, state, coalesce(owner.id, 0), sum(elapsed_ms), sum(busy_us),
           sum(busy_seen_ms), sum(energy_mj), sum(energy_seen_ms)
    FROM posting LEFT JOIN holder ON holder.id = holder_id LEFT JOIN owner ON owner.name = holder.owner
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"""
_HOURS = """
    SELECT hour_ms, gpu_id, state, owner_id, sum(elapsed_ms), sum(busy_us), sum(busy_seen_ms), sum(energy_mj),
           sum(energy_seen_ms)
    FROM account_hour GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"""
_BUSY = """
    SELECT uuid, sum(busy_us), sum(busy_seen_ms) FROM account JOIN gpu ON gpu.id = gpu_id
    GROUP BY 1 ORDER BY 1"""
_NEGATIVE = """
    SELECT 'account', * FROM account
    WHERE min(elapsed_ms, busy_us, busy_seen_ms, energy_mj, energy_seen_ms) < 0"""
_NEGATIVE_HOURS = _NEGATIVE.replace("account", "account_hour")
_NEGATIVE_LEDGER = _NEGATIVE.replace("account", "posting")


def grew(old: tuple[int, ...], new: tuple[int, ...] | None) -> bool:
    """Tell whether published amounts are there and none is lower than before."""
    return new is not None and all(before <= after for before, after in zip(old, new, strict=True))


def check_hours(path: Path, owed: Mapping[str, tuple[int, int]]) -> None:
    """Assert that per GPU and hour the states sum to the time owed of that hour, by UUID [from, until)."""
    expected = [
        (uuid, hour_ms, min(until_ms, hour_ms + HOUR_MS) - max(from_ms, hour_ms))
        for uuid, (from_ms, until_ms) in sorted(owed.items())
        for hour_ms in range(from_ms // HOUR_MS * HOUR_MS, until_ms, HOUR_MS)
    ]
    assert expected == rows(path, _HOURS_OF_ACCOUNTS)
    assert expected == rows(path, _HOURS_OF_LEDGER)


def check_sums(path: Path) -> None:
    """Assert that the ledger sums to the hours, the hours to the accounts, and that nothing is negative."""
    opened = [row for row in rows(path, _ACCOUNTS) if any(row[4:])]
    assert opened == [row for row in rows(path, _ACCOUNTS_OF_HOURS) if any(row[4:])]
    assert rows(path, _LEDGER) == rows(path, _HOURS)
    assert [*rows(path, _NEGATIVE), *rows(path, _NEGATIVE_HOURS), *rows(path, _NEGATIVE_LEDGER)] == []


@dataclass(frozen=True, kw_only=True)
class View:
    """What is seen of one GPU in an interval: it answers, is silent, or the driver does not list it."""

    shown: str
    condition: Condition
    late_ms: int
    values: Mapping[str, Amount]
    watts: int
    energy_jump: float | None
    holds: tuple[Hold, ...]
    drained: bool
    slices: tuple[Slice, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Interval:
    """One interval of the nodes; without the probe nothing enumerates the GPUs."""

    length_ms: int
    probe: bool
    views: tuple[View, ...]


@dataclass(frozen=True, kw_only=True)
class Absence:
    """Time without ticks; the agent may be gone, and the host may be switched off in part of it."""

    length_ms: int
    kind: str
    boot_share: float


@dataclass(frozen=True, kw_only=True)
class ClockStep:
    """The wall clock is set."""

    by_ms: int


@dataclass(frozen=True, kw_only=True)
class Move:
    """A GPU is put into the other node."""

    number: int


Step = Interval | Absence | ClockStep | Move

_ratios = st.none() | st.sampled_from([0.0, 0.02, 0.05, 1.0]) | st.floats(0, 1)
_shares = st.none() | st.just(0.0) | st.floats(0, 1)
SLICES = ("MIG-0a", "MIG-0b", "MIG-0c")
_where = st.sampled_from(["", *SLICES])
_holds = st.lists(
    st.tuples(st.sampled_from(HOLDERS), _where), max_size=4, unique_by=lambda pair: (pair[0].name, pair[1])
).flatmap(
    lambda pairs: st.tuples(*[st.builds(Hold, st.just(one), _shares, st.just(piece)) for one, piece in pairs])
)
_slices = st.lists(
    st.builds(
        slice_of,
        uuid=st.sampled_from(SLICES),
        profile=st.just("1g.18gb"),
        weight_ratio=st.sampled_from([0.0, 1 / 7, 2 / 7, 3 / 7, 1.0]),
        values=st.fixed_dictionaries({}, optional={"sm_active_ratio": _ratios}),
    ),
    max_size=3,
    unique_by=lambda one: one.uuid,
).map(tuple)
_idle_values = st.fixed_dictionaries(
    {"busy_ratio": st.just(0.0), "memory_used_bytes": st.just(600 * 1024**2)}
)
_any_values = st.fixed_dictionaries(
    {},
    optional={
        "busy_ratio": _ratios,
        "sm_active_ratio": _ratios,
        "encoder_ratio": _ratios,
        "memory_used_bytes": st.none() | st.sampled_from([0, 536_870_913, 80 * 1024**3]),
        "memory_total_bytes": st.just(141 * 1024**3),
    },
)
_views = st.builds(
    View,
    shown=st.sampled_from(["read"] * 8 + ["silent", "absent"]),
    condition=st.sampled_from([Condition.OK] * 8 + [Condition.LOST, Condition.HUNG]),
    late_ms=st.just(0) | st.integers(0, 20_000),
    values=_idle_values | _any_values,
    watts=st.integers(60, 700),
    energy_jump=st.sampled_from([0.0] * 10 + [-1e6, 1e9, None]),
    holds=_holds,
    drained=st.sampled_from([False] * 9 + [True]),
    slices=st.just(()) | _slices,
)
_lengths = st.just(INTERVAL_MS) | st.integers(1, 90_000)
_steps: st.SearchStrategy[Step] = st.one_of(
    *[
        st.builds(
            Interval,
            length_ms=_lengths,
            probe=st.sampled_from([True] * 9 + [False]),
            views=st.tuples(_views, _views, _views),
        )
    ]
    * 4,
    st.builds(
        Absence,
        length_ms=st.integers(0, 30_000) | st.integers(0, 3 * HOUR_MS),
        kind=st.sampled_from(["gap", "restart", "reboot"]),
        boot_share=st.floats(0, 1),
    ),
    st.builds(ClockStep, by_ms=st.integers(-30_000, 30_000) | st.integers(-2 * HOUR_MS, 2 * HOUR_MS)),
    st.builds(Move, number=st.integers(0, 2)),
)


def histories(longest: int) -> st.SearchStrategy[list[Step]]:
    """Give random histories of up to so many steps."""
    return st.lists(_steps, min_size=1, max_size=longest)


@dataclass
class Owed:
    """What the journal must say of one GPU, counted the simple way."""

    node: str
    from_ms: int
    until_ms: int
    busy_us: int = 0
    busy_seen_ms: int = 0


@dataclass
class World:
    """Plays steps into books on a file; closes and opens them as the history says."""

    path: Path
    nodes: tuple[str, ...] = (NODE, OTHER_NODE)
    wall_ms: int = MIDNIGHT - 4 * INTERVAL_MS
    boots: int = 1
    boot_ms: int = MIDNIGHT - 30 * HOUR_MS
    owed: dict[str, Owed] = field(default_factory=dict)
    page: Published = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Seat three GPUs, two in the first node and one in the last, and open the books."""
        self.gpus = [gpu_of(index) for index in range(3)]
        self.seats = [self.nodes[0], self.nodes[0], self.nodes[-1]]
        self.joules: dict[str, float] = defaultdict(lambda: 1_000.0)
        self._open()

    def _open(self) -> None:
        journal = Journal(self.path, QUICK, self.wall_ms)
        self.books = Books(journal, IMPATIENT, boot_id=f"boot-{self.boots}")

    def close(self) -> None:
        """Close the books."""
        self.books.journal.close()

    def play(self, step: Step) -> None:
        """Let one step happen, and check that no published counter went down."""
        match step:
            case Interval():
                self._interval(step)
            case Absence():
                self._absence(step)
            case ClockStep():
                self.wall_ms += step.by_ms
            case Move():
                here = self.seats[step.number] == self.nodes[0]
                self.seats[step.number] = self.nodes[-1 if here else 0]

    def _interval(self, step: Interval) -> None:
        start_ms, end_ms = self.wall_ms, self.wall_ms + step.length_ms
        for node in self.nodes if step.length_ms % 2 else reversed(self.nodes):
            here = [number for number, seat in enumerate(self.seats) if seat == node]
            views = {self.gpus[number].uuid: step.views[number] for number in here}
            listed = [gpu for gpu in self.gpus if gpu.uuid in views and views[gpu.uuid].shown != "absent"]
            if step.probe:
                self._enlist(listed, node, start_ms)
            readings = [
                self._look(gpu, views[gpu.uuid], start_ms, end_ms)
                for gpu in listed
                if step.probe and views[gpu.uuid].shown == "read"
            ]
            self.books.post(
                Tick(
                    node=node,
                    start_ms=start_ms,
                    end_ms=end_ms,
                    readings=tuple(readings),
                    gpus=tuple(listed) if step.probe else None,
                ),
                {uuid: view.holds for uuid, view in views.items()},
                drained=_drained(views),
            )
            self._cover(node, end_ms)
        self.wall_ms = end_ms
        self._commit()

    def _enlist(self, gpus: Sequence[Gpu], node: str, at_ms: int) -> None:
        for gpu in gpus:
            known = self.owed.setdefault(gpu.uuid, Owed(node, at_ms, at_ms))
            if known.node != node:
                known.node, known.until_ms = node, max(known.until_ms, at_ms)

    def _look(self, gpu: Gpu, view: View, start_ms: int, end_ms: int) -> Reading:
        start_ms = min(end_ms, start_ms + view.late_ms)
        self.joules[gpu.uuid] += view.watts * (end_ms - start_ms) / 1000
        owed, ratio = self.owed[gpu.uuid], view.values.get("busy_ratio")
        shown_ms = end_ms - max(start_ms, owed.until_ms)
        if ratio is not None and shown_ms > 0:
            owed.busy_us += round(ratio * shown_ms * 1000)
            owed.busy_seen_ms += shown_ms
        owed.until_ms = max(owed.until_ms, end_ms)
        energy = None if view.energy_jump is None else max(0.0, self.joules[gpu.uuid] + view.energy_jump)
        values = {"power_watts": float(view.watts), "energy_joules_total": energy, **view.values}
        slices = view.slices or None
        return reading_of(gpu.uuid, start_ms, end_ms, values, condition=view.condition, slices=slices)

    def _cover(self, node: str, until_ms: int) -> None:
        for owed in self.owed.values():
            if owed.node == node:
                owed.until_ms = max(owed.until_ms, until_ms)

    def _absence(self, step: Absence) -> None:
        left_ms = self.wall_ms
        self.wall_ms += step.length_ms
        if step.kind == "gap":
            return
        if step.kind == "reboot":
            self.boots += 1
            self.boot_ms = left_ms + round(step.length_ms * step.boot_share)
            self.joules.clear()
        self.close()
        self._open()
        for node in self.nodes:
            self.books.resume(node, self.wall_ms, self.boot_ms)
            self._cover(node, self.wall_ms)
        self._commit()

    def _commit(self) -> None:
        assert self.books.commit(self.wall_ms) is None
        page = published(self.books, self.wall_ms)
        lower = {key for key, old in self.page.items() if not grew(old, page.get(key))}
        assert not lower, f"counters went down: {lower}"
        self.page = page

    def check(self) -> None:
        """Compare the file with what it must hold."""
        check_hours(self.path, {uuid: (owed.from_ms, owed.until_ms) for uuid, owed in self.owed.items()})
        check_sums(self.path)
        lines = dict(rows(self.path, "SELECT uuid, until_ms FROM timeline JOIN gpu ON gpu.id = gpu_id"))
        assert {uuid: owed.until_ms for uuid, owed in self.owed.items()} == lines
        busy = [(uuid, owed.busy_us, owed.busy_seen_ms) for uuid, owed in sorted(self.owed.items())]
        assert busy == rows(self.path, _BUSY)


def _drained(views: Mapping[str, View]) -> Callable[[str], bool]:
    return lambda uuid: uuid in views and views[uuid].drained
