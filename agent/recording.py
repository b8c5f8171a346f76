"""Reads recorded history: our own CSV, and the logs of `nvidia-smi --query-gpu=… --format=csv -l N`.

The header tells the format. A line that cannot be understood gives a `Bad` with its number, never an
exception; what a device would not say (an empty cell, N/A) is None.
"""

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import NamedTuple

from agent.errors import ReplayError
from agent.quantities import QUANTITIES

MIB = 1024.0 * 1024.0
LONGEST_CELL = 10_000
MOST_WATTS, MOST, MOST_COUNTED = 1e6, 1e15, 2.0**62
_LATEST_S = 4_102_444_800  # 2100-01-01
_ABSENT = re.compile(
    r"\[?\s*(n/?a|not supported|unknown error|not active|requested functionality.*)?\s*\]?", re.IGNORECASE
)
_UNIT = re.compile(r"\s*\[[^\]]*\]$")
_NUMBER = re.compile(r"\s*([-+]?[0-9]+\.?[0-9]*(?:e[-+]?[0-9]+)?)\s*(%|MiB|W|MHz|C)?\s*", re.IGNORECASE)
_TEXTS = ("node", "model", "owner", "holder")
_SMI: dict[str, tuple[str, float]] = {
    "utilization.gpu": ("busy_ratio", 0.01),
    "utilization.memory": ("memory_busy_ratio", 0.01),
    "utilization.encoder": ("encoder_ratio", 0.01),
    "utilization.decoder": ("decoder_ratio", 0.01),
    "utilization.jpeg": ("jpeg_ratio", 0.01),
    "utilization.ofa": ("ofa_ratio", 0.01),
    "memory.used": ("memory_used_bytes", MIB),
    "memory.total": ("memory_total_bytes", MIB),
    "memory.reserved": ("memory_reserved_bytes", MIB),
    "power.draw.average": ("power_watts", 1.0),
    "power.draw": ("power_watts", 1.0),
    "power.draw.instant": ("power_watts", 1.0),
    "enforced.power.limit": ("power_limit_watts", 1.0),
    "power.limit": ("power_limit_watts", 1.0),
    "temperature.gpu": ("temperature_celsius", 1.0),
    "temperature.memory": ("memory_temperature_celsius", 1.0),
    "clocks.sm": ("sm_clock_hertz", 1e6),
    "clocks.current.sm": ("sm_clock_hertz", 1e6),
    "clocks.max.sm": ("sm_clock_max_hertz", 1e6),
    "clocks.mem": ("memory_clock_hertz", 1e6),
    "clocks.current.memory": ("memory_clock_hertz", 1e6),
}
"""Columns of nvidia-smi that we take: our quantity, and the factor to its base unit."""
_SMI_IDS = ("uuid", "gpu_uuid", "serial", "gpu_serial", "pci.bus_id", "gpu_bus_id", "index")


class Row(NamedTuple):
    """One line of a recording: what a GPU did up to `at_ms`."""

    at_ms: int
    gpu: str
    node: str
    model: str
    owner: str
    holder: str
    values: dict[str, float | None]


class Bad(NamedTuple):
    """A line that was not understood."""

    line: int
    reason: str


Parse = Callable[[Sequence[str]], Row]


class Recording:
    """A file of recorded history. Iterating reads it from the start, again each time."""

    def __init__(self, path: Path, zone: tzinfo = UTC) -> None:
        self.path = path
        self._zone = zone
        self.quantities: frozenset[str] = frozenset()

    def __iter__(self) -> Iterator[Row | Bad]:
        """Give all lines in order. Raises ReplayError when the file as a whole cannot be read."""
        try:
            yield from self._rows()
        except (OSError, EOFError, UnicodeError, zlib.error, csv.Error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ReplayError(f"cannot read {self.path}: {reason}") from error

    def _rows(self) -> Iterator[Row | Bad]:
        with self.path.open("rb") as raw:
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            plain = gzip.GzipFile(fileobj=raw) if packed else raw
            with io.TextIOWrapper(
                io.BufferedReader(plain), encoding="utf-8-sig", errors="replace", newline=""
            ) as text:
                reader = csv.reader(text, skipinitialspace=True)
                parse = self._header(next(reader, []))
                lines = iter(reader)
                while True:
                    try:
                        cells = next(lines)
                    except StopIteration:
                        return
                    except csv.Error as error:
                        yield Bad(reader.line_num, str(error))
                        continue
                    if cells:
                        yield _guarded(parse, cells, reader.line_num)

    def _header(self, cells: Sequence[str]) -> Parse:
        names = [_UNIT.sub("", cell.strip().lstrip("\ufeff")) for cell in cells]
        if "time" in names and "gpu" in names:
            return self._own(names)
        if "timestamp" in names:
            return self._smi(names)
        raise ReplayError(
            f"{self.path}: the header has neither time and gpu (our CSV) nor timestamp (a log of nvidia-smi "
            f"--format=csv); it begins with {', '.join(cells)[:80]!r}"
        )

    def _own(self, names: list[str]) -> Parse:
        known = {"time", "gpu", *_TEXTS, *QUANTITIES}
        for name in names:
            if name not in known or names.count(name) > 1:
                wrong = "appears twice" if name in known else "is not a quantity"
                raise ReplayError(
                    f"{self.path}: column {name!r} {wrong}; known are {', '.join(sorted(known))}"
                )
        time_at, gpu_at = names.index("time"), names.index("gpu")
        texts = [names.index(name) if name in names else None for name in _TEXTS]
        columns = [(name, names.index(name), 1.0) for name in names if name in QUANTITIES]
        self.quantities = frozenset(name for name, _, _ in columns)
        return _parser((time_at, gpu_at, *texts), columns, len(names), self._time)

    def _smi(self, names: list[str]) -> Parse:
        ids = [name for name in _SMI_IDS if name in names]
        if not ids:
            raise ReplayError(
                f"{self.path}: no column says which GPU: ask nvidia-smi for uuid or index as well"
            )
        columns: list[tuple[str, int, float]] = []
        for name, (quantity, factor) in _SMI.items():
            if name in names and quantity not in {column[0] for column in columns}:
                columns.append((quantity, names.index(name), factor))
        if not columns:
            raise ReplayError(f"{self.path}: no column that we know; useful are {', '.join(_SMI)}")
        model = next((names.index(name) for name in ("name", "gpu_name") if name in names), None)
        self.quantities = frozenset(name for name, _, _ in columns)
        where = (names.index("timestamp"), names.index(ids[0]), None, model, None, None)
        return _parser(where, columns, len(names), self._time, [names.index(name) for name in ids])

    def _time(self, text: str) -> int:
        try:
            seconds = float(text)
        except ValueError:
            form = text.strip().replace("/", "-").replace("Z", "+00:00")
            moment = datetime.fromisoformat(form)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=self._zone)
            seconds = moment.timestamp()
        if not 0 < seconds < _LATEST_S:
            raise ValueError(f"time {text!r} lies outside 1970 to 2100")
        return max(1, round(seconds * 1000))


def _guarded(parse: Parse, cells: Sequence[str], line: int) -> Row | Bad:
    try:
        return parse(cells)
    except (ValueError, OverflowError, IndexError) as error:
        return Bad(line, str(error))


def _parser(
    where: tuple[int | None, ...],
    columns: Sequence[tuple[str, int, float]],
    width: int,
    time_of: Callable[[str], int],
    gpus_at: Sequence[int] = (),
) -> Parse:
    """Make the function that reads one line; `where` are the columns of time, GPU and the texts.

    `gpus_at` are the columns that may name the GPU in a log of nvidia-smi, whose numbers may have units.
    """
    time_at, gpu_at, *texts = where
    units = bool(gpus_at)

    def parse(cells: Sequence[str]) -> Row:
        if len(cells) != width:
            raise ValueError(f"{len(cells)} cells where the header has {width}")
        gpu = cells[gpu_at or 0].strip()
        if gpus_at:
            gpu = next((cells[at].strip() for at in gpus_at if not _ABSENT.fullmatch(cells[at])), "")
        if not gpu or len(gpu) > LONGEST_CELL:
            raise ValueError("no GPU is named")
        node, model, owner, holder = ("" if at is None else cells[at].strip() for at in texts)
        values = {name: _value(name, cells[at], factor, units=units) for name, at, factor in columns}
        return Row(time_of(cells[time_at or 0]), gpu, node, model, owner, holder, values)

    return parse


def _value(name: str, cell: str, factor: float, *, units: bool) -> float | None:
    """Read a number in its base unit. Raises ValueError for one that cannot be."""
    try:
        value = float(cell) * factor
    except ValueError:
        if _ABSENT.fullmatch(cell):
            return None
        number = _NUMBER.fullmatch(cell) if units else None
        if number is None:
            raise ValueError(f"{name} is {cell[:40]!r}, no number") from None
        value = float(number[1]) * factor
    if not math.isfinite(value) or (value < 0 and not name.endswith("_celsius")):
        raise ValueError(f"{name} is {cell[:40]!r}")
    most = MOST_WATTS if name.endswith("_watts") else MOST_COUNTED if name.endswith("_total") else MOST
    if value > most:
        raise ValueError(f"{name} is {cell[:40]!r}, more than any device has")
    if name.endswith("_ratio") and value > 1:
        raise ValueError(f"{name} is {cell[:40]!r}, and a ratio is at most 1")
    return value
