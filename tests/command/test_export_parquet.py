"""`gputally export --format parquet`: the same rows as CSV, typed, whole or not there."""

import csv
import io
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agent.books import Books
from agent.journal import Journal, JournalSettings
from agent.quantities import QUANTITIES
from agent.states import StateSettings
from agent.tick import Condition, Gpu, Hold, Holder, Tick, reading_of, slice_of
from exporters import parquet, table
from exporters.table import TEXTS, Line
from gputally.cli import main
from tests.command.journals import rows
from tests.command.processes import is_one_sentence
from tests.exporters.difficult import DIFFICULT
from tests.exporters.simulated import written

Capture = pytest.CaptureFixture[str]
NOON_MS = 1_767_700_800_000


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write three hours of two GPUs, with holders that come and go."""
    return written(tmp_path_factory.mktemp("parquet") / "j.db", 3)


def exported(journal: Path, folder: Path, form: str, *more: str) -> Path:
    """Run `gputally export` and give what it wrote."""
    out = folder / f"out.{form}"
    assert main(["export", "--journal", str(journal), "--format", form, "--out", str(out), *more]) == 0
    return out


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Read a Parquet file as rows."""
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def milliseconds(moment: datetime) -> int:
    """Give a moment as the journal has it."""
    return round(moment.timestamp() * 1000)


def test_every_value_is_that_of_the_journal(journal: Path, tmp_path: Path) -> None:
    """Times, GPU and all quantities, bit by bit; what was not read is null."""
    names = ("gpu", "node", "model", *QUANTITIES)
    stored = rows(
        journal,
        f"""SELECT reading.end_ms, reading.start_ms, uuid, node.name, model, {", ".join(QUANTITIES)}
            FROM reading JOIN gpu ON gpu.id = gpu_id JOIN tick ON tick.id = tick_id
            JOIN node ON node.id = node_id ORDER BY tick_id, gpu_id""",  # noqa: S608
    )
    found = [
        (milliseconds(line["time"]), milliseconds(line["start"]), *(line[name] for name in names))
        for line in lines_of(exported(journal, tmp_path, "parquet"))
    ]
    assert found == stored
    assert len(found) > 300
    assert any(0.0 in row for row in found)
    assert any(None in row for row in found)


@pytest.mark.parametrize("which", ["journal", "hostile"])
def test_it_is_the_csv_with_types(which: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Every cell of one is the other's: empty cells are null."""
    path = request.getfixturevalue(which)
    text = exported(path, tmp_path, "csv").read_bytes().decode()
    wanted = list(csv.DictReader(io.StringIO(text, newline="")))
    found = lines_of(exported(path, tmp_path, "parquet"))
    assert len(found) == len(wanted)
    assert [name for name in found[0] if name != "start"] == list(wanted[0])
    for line, cells in zip(found, wanted, strict=True):
        assert line["time"] == datetime.fromisoformat(cells["time"])
        assert {name: line[name] or "" for name in TEXTS} == {name: cells[name] for name in TEXTS}
        values = [float(cells[name]) if cells[name] else None for name in QUANTITIES]
        assert [line[name] for name in QUANTITIES] == values


def test_columns_have_types_that_others_understand(journal: Path, tmp_path: Path) -> None:
    """Times in UTC, texts by dictionary, doubles; the schema's version and the node stand beside them."""
    path = exported(journal, tmp_path, "parquet")
    schema = pq.read_schema(path)
    assert schema.names == ["time", "start", *TEXTS, *QUANTITIES]
    assert {str(schema.field(name).type) for name in ("time", "start")} == {"timestamp[ms, tz=UTC]"}
    assert {pa.types.is_dictionary(schema.field(name).type) for name in TEXTS} == {True}
    assert {str(schema.field(name).type) for name in QUANTITIES} == {"double"}
    assert [name for name in schema.names if not schema.field(name).nullable] == [
        "time",
        "start",
        "gpu",
        "node",
    ]
    assert schema.metadata[b"gputally.schema_version"] == b"1"
    assert schema.metadata[b"gputally.nodes"] == b'["hall2-n017"]'
    file = pq.ParquetFile(path)
    chunk = file.metadata.row_group(0).column(2 + len(TEXTS))
    assert chunk.compression == "ZSTD"


def test_intervals_can_be_added_up(journal: Path, tmp_path: Path) -> None:
    """Each begins where the one before ended, so that means can be weighed by their length."""
    found = lines_of(exported(journal, tmp_path, "parquet"))
    of_one = [line for line in found if line["gpu"] == found[0]["gpu"]]
    assert all(late["start"] == early["time"] for early, late in pairwise(of_one))


def test_only_the_asked_time_is_written(journal: Path, tmp_path: Path) -> None:
    """Intervals that end after since and not after until."""
    times = sorted({line["time"] for line in lines_of(exported(journal, tmp_path, "parquet"))})
    span = ("--since", times[10].isoformat(), "--until", times[20].isoformat())
    part = sorted({line["time"] for line in lines_of(exported(journal, tmp_path, "parquet", *span))})
    assert part == times[11:21]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a journal whose names are all difficult; one GPU is down, one partitioned, one held by nobody."""
    path = tmp_path_factory.mktemp("hostile") / "j.db"
    texts = [text for text in DIFFICULT if "\udcff" not in text]  # no journal takes halves of surrogate pairs
    gpus = tuple(Gpu(uuid=f"GPU-{index}", index=index, model=text) for index, text in enumerate(texts))
    with closing(Journal(path, JournalSettings(sync="normal"), NOON_MS)) as journal:
        books = Books(journal, StateSettings(), node=texts[0], boot_id="boot")
        span = NOON_MS, NOON_MS + 10_001
        readings = [reading_of(gpu.uuid, *span, {"busy_ratio": 0.0}) for gpu in gpus]
        readings[1] = reading_of(gpus[1].uuid, *span, {}, condition=Condition.LOST)
        half = [slice_of(f"MIG-{n}", "3g.71gb", 0.4, {"sm_active_ratio": 0.5}) for n in range(2)]
        readings[2] = reading_of(gpus[2].uuid, *span, {"busy_ratio": 1 / 3}, slices=tuple(half))
        holds = {
            gpu.uuid: (Hold(Holder(kind="pod", name=text, owner=text[::-1])),)
            for gpu, text in zip(gpus[3:], texts[3:], strict=True)
        }
        holds[gpus[2].uuid] = (Hold(Holder(kind="pod", name="a", owner="b"), slice="MIG-0"),)
        tick = Tick(node=texts[0], start_ms=span[0], end_ms=span[1], readings=tuple(readings), gpus=gpus)
        books.post(tick, holds)
        books.commit(span[1])
    return path


def test_difficult_names_come_back_as_they_were(hostile: Path, tmp_path: Path) -> None:
    """Newlines, NULs, quotes, emoji, 10 kB: Parquet and CSV alike."""
    found = lines_of(exported(hostile, tmp_path, "parquet"))
    texts = [text for text in DIFFICULT if "\udcff" not in text]
    assert [line["model"] for line in found] == texts
    assert [line["holder"] for line in found[3:]] == texts[3:]
    assert [line["owner"] for line in found[3:]] == [text[::-1] for text in texts[3:]]
    assert {line["node"] for line in found} == {texts[0]}
    assert {milliseconds(line["time"]) for line in found} == {NOON_MS + 10_001}


def test_nothing_read_is_null_and_zero_is_zero(hostile: Path, tmp_path: Path) -> None:
    """A GPU that is lost has no figures, an idle one has 0; nobody holds either."""
    found = lines_of(exported(hostile, tmp_path, "parquet"))
    assert {found[1][name] for name in QUANTITIES} == {None}
    assert found[0]["busy_ratio"] == 0.0
    assert (found[0]["owner"], found[0]["holder"]) == (None, None)
    assert (found[2]["owner"], found[2]["holder"]) == ("b", "a")
    assert found[2]["busy_ratio"] == 1 / 3


def test_recorded_rows_keep_their_own_times(tmp_path: Path) -> None:
    """GPUs of one tick of a recording may have been read at different moments: both formats say which."""
    recording = tmp_path / "r.csv"
    recording.write_text("time,gpu,busy_ratio\n100,a,0.5\n101,b,0.25\n110,a,1\n111,b,0\n")
    path = tmp_path / "j.db"
    assert main(["replay", str(recording), "--journal", str(path)]) == 0
    found = lines_of(exported(path, tmp_path, "parquet"))
    assert [(milliseconds(line["time"]) // 1000, line["gpu"], line["busy_ratio"]) for line in found] == [
        *((100, "a", 0.5), (101, "b", 0.25)),
        *((110, "a", 1.0), (111, "b", 0.0)),
    ]
    text = exported(path, tmp_path, "csv").read_text(encoding="utf-8").splitlines()
    assert [line[17:20] for line in text[1:]] == ["40Z", "41Z", "50Z", "51Z"]


def made(lines: int, gpus: int = 8) -> Iterator[Sequence[Line]]:
    """Make pieces of history, a minute each."""
    for number in range(0, lines, gpus):
        at_ms = NOON_MS + number * 1000
        yield [
            Line(at_ms, at_ms + 1000, (f"GPU-{gpu}", "n", "H200", "", ""), (number / 7,) * len(QUANTITIES))
            for gpu in range(gpus)
        ]


def test_memory_does_not_grow_with_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row group leaves before the next begins: ten times the history takes no more memory."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", 1024)
    peaks, sizes = [], []
    for lines in (4 * 1024, 40 * 1024):
        before = pa.total_allocated_bytes()
        held = [
            (pa.total_allocated_bytes() - before, len(piece))
            for piece in parquet.encode(made(lines), ["n"], "1")
        ]
        peaks.append(max(held for held, _ in held))
        sizes.append([size for _, size in held])
    assert peaks[1] < peaks[0] * 1.5 + 100_000
    assert [len(one) for one in sizes] == [5, 41]
    assert max(sizes[1][:-1]) < max(sizes[0][:-1]) * 1.5


@pytest.mark.parametrize(("lines", "groups"), [(3000, [1000, 1000, 1000]), (3008, [1000, 1000, 1000, 8])])
def test_row_groups_are_full(monkeypatch: pytest.MonkeyPatch, lines: int, groups: list[int]) -> None:
    """All but the last hold as many rows as they may."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", 1000)
    whole = io.BytesIO(b"".join(parquet.encode(made(lines), ["n"], "1")))
    told = pq.ParquetFile(whole).metadata
    assert [told.row_group(number).num_rows for number in range(told.num_row_groups)] == groups


def test_a_piece_of_many_gpus_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet's tick may be larger than a row group."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", 100)
    whole = io.BytesIO(b"".join(parquet.encode(made(500, gpus=250), ["n"], "1")))
    read = pq.read_table(whole)
    assert read.num_rows == 500
    assert read["gpu"].to_pylist() == [f"GPU-{gpu}" for gpu in range(250)] * 2


def test_it_goes_through_a_pipe(journal: Path, tmp_path: Path) -> None:
    """Standard output takes it, if it is no terminal."""
    command = (sys.executable, "-m", "gputally", "export", "--format", "parquet", "--journal", str(journal))
    done = subprocess.run(command, capture_output=True, check=True, timeout=120)
    wanted = exported(journal, tmp_path, "parquet")
    assert pq.read_table(io.BytesIO(done.stdout)).equals(pq.read_table(wanted))
    assert done.stderr == b""


def test_a_terminal_is_spared(journal: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes would ruin it."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert main(["export", "--journal", str(journal), "--format", "parquet"]) == 2
    said = capsys.readouterr()
    assert is_one_sentence(said.err)
    assert "--out" in said.err
    assert said.out == ""


def test_without_pyarrow_it_says_what_to_install(
    journal: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence, exit code 2, and no file."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "exporters.parquet")
    out = tmp_path / "x.parquet"
    assert main(["export", "--journal", str(journal), "--format", "parquet", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert is_one_sentence(said)
    assert "-m pip install 'pyarrow>=18'" in said
    assert list(tmp_path.glob("x*")) == []


def test_pyarrow_is_loaded_only_when_it_is_asked_for() -> None:
    """Neither the agent nor other formats pay for it."""
    code = "import sys, gputally.export, gputally.run\nprint('pyarrow' in sys.modules)"
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, check=True, timeout=120)
    assert done.stdout.split() == [b"False"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "2031-01-01"), (1, "no ticks of that time: it has")),
        (("--since", "2026-01-02", "--until", "2026-01-01"), (2, "--since must lie before --until")),
    ],
)
def test_an_empty_time_is_said_in_a_sentence(
    journal: Path, tmp_path: Path, capsys: Capture, arguments: tuple[str, ...], said: tuple[int, str]
) -> None:
    """As for the other formats, and nothing is written over."""
    out = tmp_path / "x.parquet"
    out.write_bytes(b"before")
    command = ["export", "--journal", str(journal), "--format", "parquet", "--out", str(out), *arguments]
    assert main(command) == said[0]
    errors = capsys.readouterr().err
    assert is_one_sentence(errors)
    assert said[1] in errors
    assert out.read_bytes() == b"before"


@pytest.mark.parametrize("form", ["influx", "openmetrics", "csv", "parquet"])
def test_a_file_is_there_whole_or_not_at_all(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, form: str
) -> None:
    """What fails half-way leaves the file of before, and nothing beside it."""
    out = tmp_path / "x"
    out.write_bytes(b"before")

    def failing(*_: object) -> object:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr("exporters.past.postings", failing)
    command = ["export", "--journal", str(journal), "--format", form, "--out", str(out)]
    assert main(command) == 1
    assert is_one_sentence(capsys.readouterr().err)
    assert out.read_bytes() == b"before"
    assert list(tmp_path.glob("x*")) == [out]


def test_the_nodes_of_a_journal_are_named(journal: Path) -> None:
    """Those of the asked ticks only."""
    with closing(sqlite3.connect(journal)) as db:
        assert table.nodes(db, (0, 10**9)) == ["hall2-n017"]
        assert table.nodes(db, (10**9, 2 * 10**9)) == []
