"""The cell: a few shared bytes that tell which driver call is in progress."""

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from agent.cell import NO_GPU, Cell, InCall, begin, end, padded
from tests.command.waiting import until

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from agent.cell import Cell, begin, end, padded
cell = Cell(int(sys.argv[1]))
calls = [(number * 0x0101010101010101, number, padded("f" * number)) for number in range(1, 40)]
print(flush=True)
while True:
    for call in calls:
        begin(cell.memory, *call)
        end(cell.memory)
"""
"""Goes from call to call without rest, until it is killed. Each number tells what belongs to it."""


@pytest.fixture
def cell() -> Iterator[Cell]:
    """Make a cell as a parent does."""
    with closing(Cell()) as cell:
        yield cell


def test_at_first_no_call_is_in_progress(cell: Cell) -> None:
    """A probe that has not called yet is in no call."""
    assert cell.read() is None


def test_what_the_probe_writes_the_parent_reads(cell: Cell) -> None:
    """A call is told with its GPU, function and moment until it comes back."""
    probe = Cell(cell.descriptor)
    begin(probe.memory, 17_000_000_000, 3, padded("nvmlDeviceGetFieldValues"))
    assert cell.read() == InCall(17_000_000_000, 3, "nvmlDeviceGetFieldValues")
    end(probe.memory)
    assert cell.read() is None
    begin(probe.memory, 18_000_000_000, NO_GPU, padded("nvmlInit"))
    assert cell.read() == InCall(18_000_000_000, NO_GPU, "nvmlInit")


@pytest.mark.parametrize("name", ["", "f", "x" * 71, "x" * 72, "x" * 73, "x" * 500, "nvml\u00e4"])
def test_a_name_of_any_length_fits(cell: Cell, name: str) -> None:
    """A long name is cut, a short one leaves nothing of the one before, and no name moves the end."""
    begin(cell.memory, 1, 0, padded("y" * 90))
    begin(cell.memory, 1, 0, padded(name))
    assert cell.read() == InCall(1, 0, name.encode("ascii", "replace").decode()[: len(padded(""))])
    assert len(padded(name)) == len(padded("")) >= 40


def test_closing_twice_closes_nobody_elses_file(cell: Cell, tmp_path: Path) -> None:
    """The number of a closed descriptor soon belongs to another file."""
    cell.close()
    with (tmp_path / "file").open("w", encoding="ascii") as file:
        cell.close()
        file.write("still open")
    assert (tmp_path / "file").read_text(encoding="ascii") == "still open"


def test_a_name_of_two_calls_ends_where_one_of_them_does(cell: Cell) -> None:
    """While a name is written over another, the end of the longer one may still stand behind the shorter."""
    begin(cell.memory, 1, 0, padded("ff")[:3] + padded("g" * 39)[3:])
    assert cell.read() == InCall(1, 0, "ff")


def test_a_reader_never_sees_half_a_number(cell: Cell) -> None:
    """While another process writes without rest, each moment and each GPU that is read was written so.

    They may be of two calls, and the name of a third: hence the parent believes only what it sees twice.
    """
    command = [sys.executable, "-c", WRITER, str(cell.descriptor)]
    with Popen(command, cwd=ROOT, stdout=PIPE, pass_fds=(cell.descriptor,)) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        found: set[InCall] = set()

        def many() -> bool:
            found.update(call for call in (cell.read() for _ in range(50_000)) if call)
            return len({call.since_ns for call in found}) > 30

        until(many, "calls of many kinds")
        writer.kill()
    assert {call.since_ns for call in found} <= {number * 0x0101010101010101 for number in range(1, 40)}
    assert {call.gpu for call in found} <= {NO_GPU, *range(1, 40)}
    assert all(set(call.function) <= {"f"} for call in found)
