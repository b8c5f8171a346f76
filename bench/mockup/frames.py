"""Tables as Grafana makes them: from answers through transformations to columns, with its way of merging.

A target that finds nothing still has a frame, of a time and a figure. Where such a frame has no column in
common with the others, Grafana does not merge at all and shows the first frame alone.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.mockup.asking import Answer
from bench.mockup.fields import Json
from bench.mockup.known import StrangeError

Cell = str | float | None
TIME = "Time"


@dataclass(slots=True)
class Frame:
    """Columns by name, in their order, each with all of its cells."""

    ref: str
    columns: dict[str, list[Cell]] = field(default_factory=dict)
    numbers: set[str] = field(default_factory=set)

    @property
    def length(self) -> int:
        """So many rows."""
        return max(map(len, self.columns.values()), default=0)

    def row(self, number: int) -> dict[str, Cell]:
        """Give one row."""
        return {name: cells[number] for name, cells in self.columns.items()}


def frames_of(answers: Sequence[Answer], at_ms: int) -> list[Frame]:
    """Make a frame of each answer: time, labels by name, figure."""
    if len(answers) == 1 and not answers[0].rows:
        return [Frame(answers[0].ref)]
    found = []
    for answer in answers:
        figure = f"Value #{answer.ref}" if len(answers) > 1 else "Value"
        labels: dict[str, None] = {}
        for one in answer.rows:
            labels |= dict.fromkeys(sorted(one.labels))
        columns: dict[str, list[Cell]] = {TIME: [float(at_ms)] * len(answer.rows)}
        columns |= {name: [one.labels.get(name, "") for one in answer.rows] for name in labels}
        columns[figure] = [one.value for one in answer.rows]
        found.append(Frame(answer.ref, columns, {TIME, figure}))
    return found


def transformed(panel: Json, frames: list[Frame]) -> list[Frame]:
    """Apply the transformations of a panel one after the other. Raises StrangeError for an unknown one."""
    for step in panel.get("transformations", ()):
        options = step["options"]
        if step["id"] == "filterFieldsByName":
            frames = _kept(frames, options["include"]["pattern"])
        elif step["id"] == "merge":
            frames = merged(frames)
        elif step["id"] == "organize":
            frames = [_organized(frame, options) for frame in frames]
        else:
            raise StrangeError(f"the transformation {step['id']!r} is not known here")
    return frames


def _kept(frames: Iterable[Frame], pattern: str) -> list[Frame]:
    found = []
    for frame in frames:
        columns = {name: cells for name, cells in frame.columns.items() if re.search(pattern, name)}
        if columns:
            found.append(Frame(frame.ref, columns, frame.numbers & columns.keys()))
    return found


def merged(frames: list[Frame]) -> list[Frame]:
    """Join rows that are the same in all columns that every frame has, and differ in none."""
    told = [frame for frame in frames if frame.columns]
    if len(frames) <= 1 or not told:
        return frames[:1]
    common = [name for name in told[-1].columns if all(name in frame.columns for frame in told)]
    if not common:
        return frames
    rows: dict[tuple[Cell, ...], list[dict[str, Cell]]] = {}
    order: list[dict[str, Cell]] = []
    for frame in told:
        for number in range(frame.length):
            row = frame.row(number)
            alike = rows.setdefault(tuple(row[name] for name in common), [])
            fitting = [one for one in alike if _fits(one, row)]
            for one in fitting:
                one.update(row)
            if not fitting:
                alike.append(row)
                order.append(row)
    names = dict.fromkeys(name for frame in told for name in frame.columns)
    numbers = {name for frame in told for name in frame.numbers}
    return [Frame(told[0].ref, {name: [row.get(name) for row in order] for name in names}, numbers)]


def _fits(one: Mapping[str, Cell], other: Mapping[str, Cell]) -> bool:
    """Tell whether two rows say nothing different."""
    return all(one.get(name) is None or one[name] == cell for name, cell in other.items())


def _organized(frame: Frame, options: Json) -> Frame:
    """Order, drop and rename columns; those without a place come last."""
    places: Mapping[str, int] = options["indexByName"]
    dropped: Mapping[str, bool] = options["excludeByName"]
    titles: Mapping[str, str] = options["renameByName"]
    names = [name for name in frame.columns if not dropped.get(name)]
    names.sort(key=lambda name: places.get(name, len(places)))
    columns = {titles.get(name) or name: frame.columns[name] for name in names}
    return Frame(frame.ref, columns, {titles.get(name) or name for name in names if name in frame.numbers})


def sorted_rows(panel: Json, frame: Frame) -> list[dict[str, Cell]]:
    """Give the rows as the table sorts them at first; a missing figure is the least."""
    rows = [frame.row(number) for number in range(frame.length)]
    for one in reversed(panel["options"].get("sortBy", ())):
        name = one["displayName"]
        if name in frame.numbers:
            rows.sort(key=lambda row: _figure(row[name]), reverse=one["desc"])
        elif name in frame.columns:
            rows.sort(key=lambda row: str(row[name] or "").casefold(), reverse=one["desc"])
    return rows


def _figure(cell: Cell) -> float:
    return float("-inf") if cell is None else float(cell)
