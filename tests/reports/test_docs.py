"""docs/report.md names every key of the JSON and every column of the table, and none that is not there."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.forms.data import to_json
from reports.forms.long import COLUMNS
from reports.outline import Revision
from reports.sources.identity import Violation
from tests.reports.hostile import hostile
from tests.reports.sample import sample_report
from tests.reports.sample_sections import sample_sections

PAGE = Path(__file__).parents[2] / "docs" / "report.md"
NAMES_OF_THE_DATA = {"throttle_seconds", "xids", "absent"}
_TOLD = re.compile(r"`([^`]+)`")


def tables() -> dict[str, set[str]]:
    """Read the tables of keys, by each name in their headings."""
    found: dict[str, set[str]] = {}
    for part in re.split(r"^###? ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        rows = [line for line in body.splitlines() if line.startswith("| `")]
        keys = [key for row in rows for key in _TOLD.findall(row.split("|")[1])]
        assert len(keys) == len(set(keys)), heading
        for name in _TOLD.findall(heading) or [heading]:
            assert name not in found
            found[name] = set(keys)
    return found


def objects(value: Any, path: str = "report") -> Iterator[tuple[str, set[str]]]:  # noqa: ANN401  JSON
    """Give the keys of all objects by their path; those whose keys are names of the data are left out."""
    if isinstance(value, list):
        for one in value:
            yield from objects(one, f"{path}[]")
    elif isinstance(value, dict):
        name = path.rpartition(".")[2]
        if name in NAMES_OF_THE_DATA or (name == "states" and path != "report.states"):
            return
        if path == "report.states":
            for one in value.values():
                yield from objects(one, "report.states.STATE")
            return
        yield ("group" if name == "group" else path.removeprefix("report.")), set(value)
        for key, one in value.items():
            yield from objects(one, f"{path}.{key}")


@pytest.fixture(scope="module")
def told() -> list[tuple[str, set[str]]]:
    """Give the objects of two reports that have lines of every kind between them."""
    report = sample_report(2)
    violation = Violation(uuid="A", hour_ms=0, owed_ms=1, entered_ms=2)
    wide = replace(
        report, sections=sample_sections(report), violations=(violation,), revision=Revision(number=1)
    )
    return [*objects(json.loads(to_json(wide))), *objects(json.loads(to_json(hostile("x"))))]


def test_every_key_is_told_and_no_other(told: list[tuple[str, set[str]]]) -> None:
    """By the object that it is in."""
    documented = tables()
    for path, keys in told:
        assert documented[path] == keys, path


def test_every_table_is_of_something_that_there_is(told: list[tuple[str, set[str]]]) -> None:
    """Headings in the chapter on JSON are paths."""
    text = PAGE.read_text(encoding="utf-8")
    headings = {
        name
        for line in text[text.index("## JSON") :].splitlines()
        if line.startswith("### ")
        for name in _TOLD.findall(line)
    }
    assert headings == {path for path, _ in told}


def test_every_column_of_the_table_is_told() -> None:
    """That of CSV and Parquet."""
    assert tables()["CSV and Parquet"] == set(COLUMNS)
