"""The long table: its rows sum to the inventory, and no name of it is obeyed."""

import csv
import io
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from agent.tally import HOUR_MS
from agent.tick import Condition, Holder, State
from gputally.cli import main
from reports.forms.long import COLUMNS, FIGURES, to_csv
from reports.forms.parquet import to_parquet
from reports.prices import Price, PriceBook, default_prices
from reports.report import Report
from reports.window import rfc3339
from tests.reports.small import ALICE, BOB, MINUTE_MS, MONDAY_MS, Small, day, gpu, report_of

WORK = {"busy_ratio": 0.9, "power_watts": 650.0}
IDLE = {"busy_ratio": 0.0, "memory_used_bytes": 40e9}


def lines(report: Report) -> list[dict[str, str]]:
    """Read the CSV of a report."""
    return list(csv.DictReader(io.StringIO(to_csv(report))))


def test_the_rows_sum_to_the_inventory_as_printed(tmp_path: Path) -> None:
    """And by state to the states, with the cost of each; time that nobody held has no owner."""
    report = report_of(day(tmp_path / "j.db"), price=2.0)
    found = lines(report)
    assert sum(Decimal(row["seconds"]) for row in found) == Decimal(report.inventory.gpu_ms) / 1000
    for line in report.states:
        mine = [row for row in found if row["state"] == line.state]
        assert sum(Decimal(row["seconds"]) for row in mine) == Decimal(line.amounts.elapsed_ms) / 1000
        assert sum(float(row["cost"]) for row in mine) == pytest.approx(line.cost)
    assert {row["owner"] for row in found if row["state"] in (State.FREE, State.DOWN)} == {""}
    assert {row["timezone"] for row in found} == {"UTC"}
    assert all(Decimal(row["seconds"]) > 0 for row in found)


def test_what_was_not_seen_is_empty_and_not_zero(tmp_path: Path) -> None:
    """Busy time and energy of a GPU that told neither; without a price there is no cost."""
    small = Small(tmp_path / "j.db")
    small.pass_by(HOUR_MS, {gpu(0): (None, Condition.LOST), gpu(1): (ALICE, WORK)})
    small.save()
    found = {(row["gpu_index"], row["state"]): row for row in lines(report_of(small.path))}
    down, active = found["0", "down"], found["1", "active"]
    assert (down["busy_seconds"], down["joules"], down["cost"]) == ("", "", "")
    assert (active["busy_seconds"], active["seconds"]) == ("3240", "3600")


def test_a_gpu_that_moved_has_rows_of_both_places(tmp_path: Path) -> None:
    """Its time is counted once."""
    small = Small(tmp_path / "j.db")
    small.pass_by(HOUR_MS, {gpu(0): (ALICE, WORK)}, node="n1")
    small.pass_by(HOUR_MS, {gpu(0): (BOB, WORK)}, node="n2")
    small.save()
    found = [(row["node"], row["owner"], row["seconds"]) for row in lines(report_of(small.path))]
    assert found == [("n1", "alice", "3600"), ("n2", "bob", "3600")]


def test_no_name_is_a_formula(tmp_path: Path) -> None:
    """Spreadsheets show it; line ends and quotes come back as they were."""
    names = ["=cmd|' /C calc'!A0", "+1", "-1", "@sum", "\tx", "a\nb", 'say "hi", please']
    small = Small(tmp_path / "j.db")
    small.pass_by(
        HOUR_MS,
        {gpu(at): (Holder(kind="slurm", name=str(at), owner=name), WORK) for at, name in enumerate(names)},
    )
    small.save()
    found = [row["owner"] for row in lines(report_of(small.path))]
    assert sorted(found) == sorted([*(f"'{name}" for name in names[:5]), *names[5:]])


def test_parquet_is_the_same_table_with_types(tmp_path: Path) -> None:
    """The same rows; empty is null."""
    report = report_of(day(tmp_path / "j.db"))
    path = tmp_path / "week.parquet"
    path.write_bytes(to_parquet(report))
    table = pq.read_table(path)
    assert tuple(table.column_names) == COLUMNS
    assert table.schema.metadata[b"gputally.schema_version"] == b"1"
    for typed, plain in zip(table.to_pylist(), lines(report), strict=True):
        assert (typed["gpu_uuid"], typed["owner"] or "") == (plain["gpu_uuid"], plain["owner"])
        for name in FIGURES:
            assert typed[name] == (float(plain[name]) if plain[name] else None) or typed[
                name
            ] == pytest.approx(float(plain[name]))
        assert round(typed["from"].timestamp() * 1000) == report.covered.from_ms


def test_where_a_price_changes_each_part_has_its_rows(tmp_path: Path) -> None:
    """With its own time and cost, in CSV and Parquet; the rows still sum to the inventory."""
    change_ms = MONDAY_MS + 2 * HOUR_MS
    changing = PriceBook(
        prices=(Price(per_gpu_hour=1.0), Price(per_gpu_hour=10.0, from_ms=change_ms)), currency="USD"
    )
    report = report_of(day(tmp_path / "j.db"), prices=changing)
    found = lines(report)
    begin, change, end = (rfc3339(MONDAY_MS + hour * HOUR_MS) for hour in (0, 2, 4))
    free = [row for row in found if row["state"] == "free" and row["gpu_index"] == "2"]
    assert [(row["from"], row["to"], row["seconds"], row["cost"]) for row in free] == [
        (begin, change, "5400", "1.5"),
        (change, end, "7200", "20"),
    ]
    assert {(row["currency"], row["price"]) for row in found} == {("USD", "set")}
    assert sum(Decimal(row["seconds"]) for row in found) == Decimal(report.inventory.gpu_ms) / 1000
    path = tmp_path / "week.parquet"
    path.write_bytes(to_parquet(report))
    typed = pq.read_table(path).to_pylist()
    assert [rfc3339(round(row["from"].timestamp() * 1000)) for row in typed] == [row["from"] for row in found]


def test_a_default_price_is_marked_in_each_row(tmp_path: Path) -> None:
    """And what has no cost has no currency."""
    report = report_of(day(tmp_path / "j.db"), prices=default_prices())
    assert {(row["currency"], row["price"]) for row in lines(report)} == {("USD", "default")}
    assert {(row["currency"], row["price"]) for row in lines(report_of(tmp_path / "j.db"))} == {("", "")}


@pytest.mark.parametrize("form", ["csv", "markdown", "parquet"])
def test_the_command_writes_it(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Into a file, or to the terminal but for Parquet."""
    journal, out = day(tmp_path / "j.db"), tmp_path / f"week.{form}"
    common = ["report", "--journal", str(journal), "--all", "--format", form]
    assert main([*common, "--out", str(out)]) == 0
    assert main(common) == (2 if form == "parquet" else 0)
    said = capsys.readouterr()
    if form == "parquet":
        assert "--out" in said.err
        assert out.read_bytes()[:4] == b"PAR1"
    else:
        assert said.out == out.read_text()


def test_rows_of_nothing_are_left_out(tmp_path: Path) -> None:
    """A table has what was, not what might have been."""
    small = Small(tmp_path / "j.db")
    small.pass_by(10 * MINUTE_MS, {gpu(0): (ALICE, IDLE)})
    small.save()
    assert [row["state"] for row in lines(report_of(small.path))] == ["held_gap"]
