"""Ticks read back as rows: what goes to stores is what the page shows of the same interval."""

from contextlib import closing
from pathlib import Path

import pytest

from agent.books import Books
from agent.journal import Journal, JournalSettings
from agent.journal_file import connect
from agent.quantities import QUANTITIES
from agent.simulated.scenario import parse_simulation
from agent.states import StateSettings
from agent.tick import Finding, Gpu, Hold, Holder, Part, Reading, Tick, Xid, reading_of, slice_of
from agent.view import Health, View, slice_states_of, states_of
from exporters.catalogue import FAMILIES
from exporters.history import History
from exporters.page import Page
from exporters.rows import Row

NOON_MS = 1_767_700_800_000
NODE = "hall2-n017"
LABELS = {"cluster": "emea", "rack": ""}
JOB = Holder(kind="slurm", name="4711", owner="vision", user="ada", account="vision", title="train\nme")
POD = Holder(kind="pod", name="lab/nb", owner="lab", namespace="lab", container="nb")
LENGTH_MS = 120_000


class Desk:
    """Books that are written tick by tick, and the page of the latest."""

    def __init__(self, path: Path) -> None:
        self.journal = Journal(path, JournalSettings(sync="normal"), NOON_MS)
        self.books = Books(self.journal, StateSettings(), node=NODE, boot_id="boot")
        self.simulation = parse_simulation("h200x3:training")
        self.gpus = tuple(self.simulation.gpu(index) for index in range(3))
        self.now_ms = NOON_MS
        self.view: View | None = None

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()

    def tick(self, held: dict[int, tuple[Hold, ...]], *, sliced: bool = False, number: int = 0) -> None:
        """Enter an interval of two minutes, at the end of which everything is sent."""
        start_ms, end_ms = self.now_ms, self.now_ms + LENGTH_MS
        readings = tuple(self._reading(index, start_ms, end_ms, sliced=sliced) for index in range(3))
        if number:
            xids = [Xid(end_ms - 5, self.gpus[0].uuid, number)]
            self.books.xids.take(xids, end_ms)
        tick = Tick(node=NODE, start_ms=start_ms, end_ms=end_ms, readings=readings, gpus=self.gpus)
        holds = {self.gpus[index].uuid: several for index, several in held.items()}
        finding = Finding(
            rule="row_remap_pending",
            severity="warning",
            node=NODE,
            uuid=self.gpus[1].uuid,
            opened_ms=NOON_MS + 1,
            summary="s",
            action="a",
        )
        posting = self.books.post(tick, holds, judge=lambda _: (finding,))
        assert self.books.commit(end_ms) is None
        states, seats = states_of(posting.entries)
        latest = self.books.latest or tick
        self.view = View(
            tick=latest,
            interval_seconds=120,
            gpus=dict(self.books.gpus),
            readings={one.uuid: one for one in latest.readings},
            states=states,
            slice_states=slice_states_of(
                (one.slice, one.state, one.start_ms, one.elapsed_ms) for one in posting.entries
            ),
            holders=seats,
            accounts=list(self.books.accounts.published(end_ms)),
            parts=dict(self.books.parts),
            xids=dict(self.books.xids.counts),
            findings=self.books.findings.open,
            health=Health(refused={}, journal_bytes=0),
        )
        self.now_ms = end_ms

    def _reading(self, index: int, start_ms: int, end_ms: int, *, sliced: bool) -> Reading:
        told = self.simulation.reading(index, start_ms, end_ms)
        values = {name: getattr(told, name) for name in QUANTITIES}
        parts = (Part("fan_speed_ratio", ("0",), 0.4), Part("nvlink_link_errors_total", ("3", "replay"), 2.0))
        slices = (
            (slice_of("MIG-a", "3g.71gb", 3 / 7, {"sm_active_ratio": 0.5}),)
            if sliced and index == 2
            else None
        )
        return reading_of(told.uuid, start_ms, end_ms, values, parts=parts, slices=slices)

    def page(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Give what the page shows of GPUs, without empty labels."""
        found = {}
        for family in Page(self.view, {name: text for name, text in LABELS.items() if text}, "1").collect():
            for sample in family.samples:
                if sample.name.startswith("gpu_"):
                    labels = frozenset((name, text) for name, text in sample.labels.items() if text)
                    found[sample.name, labels] = sample.value
        return found


def sent(rows: list[Row]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Give what goes to stores, in the same form."""
    return {
        (f"{row.measurement}_{name}", frozenset(row.labels)): value
        for row in rows
        for name, value in row.fields
        if row.measurement == "gpu"
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a journal."""
    return tmp_path / "j.db"


def test_stores_get_what_the_page_shows(path: Path) -> None:
    """Every series of every GPU, with the same labels and values, tick by tick."""
    with closing(Desk(path)) as desk:
        _compared(desk, path)


def _compared(desk: Desk, path: Path) -> None:
    pages = []
    intervals: list[tuple[dict[int, tuple[Hold, ...]], bool, int]] = [
        ({0: (Hold(JOB),)}, False, 0),
        ({0: (Hold(JOB, 0.5), Hold(POD, 0.25)), 1: (Hold(POD),)}, False, 0),
        ({2: (Hold(POD, None, "MIG-a"),)}, True, 0),
        ({}, True, 0),
        ({1: (Hold(JOB),)}, False, 79),
        ({1: (Hold(JOB),)}, False, 0),
    ]
    for number, (held, sliced, xid) in enumerate(intervals):
        desk.tick(held, sliced=sliced, number=xid)
        pages.append(desk.page())
        with closing(connect(path)) as db:
            ticks = History(db, 0, LABELS).ticks(100)
        assert len(ticks) == number + 1
        shown, told = pages[-1], sent(ticks[-1][1])
        assert told.keys() == shown.keys()
        assert told == pytest.approx(shown, abs=1e-9)
        names = {f"{row.measurement}_{name}" for row in ticks[-1][1] for name, _ in row.fields}
        assert names <= set(FAMILIES), "what is sent is in the catalogue"


def test_accounts_never_go_down_and_are_born_as_0(path: Path) -> None:
    """Also where reading begins in the middle: totals are what they were then."""
    desk = Desk(path)
    for number in range(6):
        desk.tick({0: (Hold(JOB),)} if number % 2 else {0: (Hold(POD),)})
    desk.journal.close()
    with closing(connect(path)) as db:
        whole = [sent(rows) for _, rows in History(db, 0, LABELS).ticks(100)]
        for after in range(1, 6):
            assert [sent(rows) for _, rows in History(db, after, LABELS).ticks(100)] == whole[after:]
    series = {key for told in whole for key in told if "tally" in key[0]}
    for key in series:
        values = [told[key] for told in whole if key in told]
        assert values == sorted(values)
        if dict(key[1]).get("owner"):
            assert values[0] == 0


def test_an_xid_is_born_as_0_also_when_it_is_sent_again(path: Path) -> None:
    """In the interval of the first; the count follows with the next, and a later one changes neither."""

    def told() -> list[float | None]:
        with closing(connect(path)) as db:
            found = [sent(rows) for _, rows in History(db, 0, LABELS).ticks(100)]
        counts = [
            [value for (name, _), value in one.items() if name == "gpu_xid_errors_total"] for one in found
        ]
        return [values[0] if values else None for values in counts]

    with closing(Desk(path)) as desk:
        for number in (0, 79, 0):
            desk.tick({}, number=number)
        assert told() == [None, 0.0, 1.0]
        for number in (79, 0):
            desk.tick({}, number=number)
        assert told() == [None, 0.0, None, 2.0, 2.0]


def test_a_gpu_that_moved_is_told_where_it_sat(path: Path) -> None:
    """Each tick has the index and node of its own time."""
    journal = Journal(path, JournalSettings(sync="normal"), NOON_MS)
    books = Books(journal, StateSettings(), node=NODE)
    for number, index in enumerate((0, 0, 5)):
        gpu = Gpu(uuid="GPU-1", index=index, model="NVIDIA H200")
        start_ms = NOON_MS + number * LENGTH_MS
        end_ms = start_ms + LENGTH_MS
        reading = reading_of("GPU-1", start_ms, end_ms, {"busy_ratio": 0.5})
        books.post(Tick(node=NODE, start_ms=start_ms, end_ms=end_ms, readings=(reading,), gpus=(gpu,)), {})
        books.commit(end_ms)
    journal.close()
    with closing(connect(path)) as db:
        ticks = History(db, 0, {}).ticks(100)
    seen = [
        dict(row.labels)["gpu"]
        for _, rows in ticks
        for row in rows
        for name, _ in row.fields
        if name == "busy_ratio"
    ]
    assert seen == ["0", "0", "5"]
