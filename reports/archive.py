"""Reports as they were told: each time that late data changes what is said of a window, a revision is kept.

No store knows when it got a sample, so what was said last Monday can only be said again if it was kept. A
folder for each window holds a file for each revision: the whole report as JSON, gzipped.
"""

import gzip
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from agent.errors import ReportError
from agent.tick import State
from reports.frozen import frozen, thawed
from reports.outline import Report, Revision
from reports.sections import Group
from reports.window import Window, rfc3339
from reports.wording import hours

FORMAT = 1
MOST_CHANGES = 8
LEAST_MS = 1_000
"""What differs by less is the same."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A folder of kept reports. All methods raise ReportError where it cannot be read or written."""

    folder: Path

    def keep(self, report: Report) -> Report:
        """Keep a report if it says other than the latest of its window; give it with its revision."""
        latest = self._latest(report.window)
        if latest is None:
            kept = replace(report, revision=Revision(number=1))
        else:
            changes = differences(latest, report)
            before = latest.revision or Revision(number=1)
            if not changes:
                return replace(report, revision=before)
            kept = replace(
                report,
                revision=Revision(number=before.number + 1, before_ms=latest.made_ms, changes=changes),
            )
        return self._write(kept)

    def as_of(self, window: Window, at_ms: int) -> Report:
        """Give what was said of a window at a moment. Raises ReportError if nothing was."""
        told = [one for one in map(self._read, self._files(window)) if one.made_ms <= at_ms]
        if not told:
            raise ReportError(
                f"{self.folder} holds no report of {rfc3339(window.from_ms)} to {rfc3339(window.to_ms)} "
                f"that was made by {rfc3339(at_ms)}"
            )
        return max(told, key=lambda one: one.made_ms)

    def _latest(self, window: Window) -> Report | None:
        files = self._files(window)
        return self._read(files[-1]) if files else None

    def _place(self, window: Window) -> Path:
        return self.folder / f"{window.from_ms}-{window.to_ms}"

    def _files(self, window: Window) -> list[Path]:
        return sorted(self._place(window).glob("[0-9]*.json.gz"))

    def _read(self, path: Path) -> Report:
        try:
            told = json.loads(gzip.decompress(path.read_bytes()))
            if told["format"] != FORMAT:
                raise ReportError(f"{path} was kept by another version of gputally: make the report anew")
            report: Report = thawed(told["report"], Report)
        except (OSError, EOFError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise ReportError(f"cannot read the kept report {path}: {error}") from error
        return report

    def _write(self, report: Report) -> Report:
        """Write a revision, which a reader finds whole or not at all; give it as it will be read."""
        assert report.revision is not None  # noqa: S101  it was given one
        place = self._place(report.window)
        told = frozen(report)
        content = json.dumps({"format": FORMAT, "report": told}, allow_nan=False).encode()
        try:
            place.mkdir(parents=True, exist_ok=True)
            part = place / f".{report.revision.number:04}.{os.getpid()}.part"
            part.write_bytes(gzip.compress(content, mtime=0))
            part.replace(place / f"{report.revision.number:04}.json.gz")
        except OSError as error:
            raise ReportError(f"cannot keep the report in {place}: {error.strerror}") from error
        kept: Report = thawed(json.loads(json.dumps(told)), Report)
        return kept


def differences(before: Report, after: Report) -> tuple[str, ...]:
    """Say in what one report of a window differs from one before it; empty where it says the same."""
    found = []
    if before.inventory.gpus != after.inventory.gpus:
        found.append(f"GPUs in the inventory: {before.inventory.gpus:,} before, {after.inventory.gpus:,} now")
    for state in State:
        more_ms = after.sums.elapsed_ms(state) - before.sums.elapsed_ms(state)
        if abs(more_ms) >= LEAST_MS:
            found.append(f"{state.value}: {'+' if more_ms > 0 else '-'}{hours(abs(more_ms))} GPU-hours")
    owners = _idle(before), _idle(after)
    for owner in sorted(owners[0].keys() | owners[1].keys()):
        more_ms = owners[1].get(owner, 0) - owners[0].get(owner, 0)
        if abs(more_ms) >= LEAST_MS:
            sign = "+" if more_ms > 0 else "-"
            found.append(f"held idle by {owner}: {sign}{hours(abs(more_ms))} GPU-hours")
    if _rates(before) != _rates(after):
        found.append("prices differ")
    if len(found) > MOST_CHANGES:
        return (*found[:MOST_CHANGES], f"and {len(found) - MOST_CHANGES:,} more")
    return tuple(found)


def _rates(report: Report) -> dict[tuple[Group, int], float | None]:
    return {(rate.group, rate.from_ms): rate.per_gpu_hour for rate in report.prices.rates}


def _idle(report: Report) -> dict[str, int]:
    return {line.owner: line.sums.elapsed_ms(State.HELD_IDLE) for line in report.owners}
