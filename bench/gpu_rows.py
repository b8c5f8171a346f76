"""One line of the check: a quantity as we tell it and as something else does, and whether the two agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

_UNITS = (
    ("_bytes", 1 / (1 << 20), "MiB"),
    ("_hertz", 1e-6, "MHz"),
    ("_watts", 1.0, "W"),
    ("_celsius", 1.0, "°C"),
    ("_joules_total", 1.0, "J"),
    ("_seconds_total", 1.0, "s"),
    ("_seconds", 1.0, "s"),
    ("_ratio", 100.0, "%"),
)
"""Ending of a quantity's name → how it is printed."""
SILENT = "-"


class Verdict(StrEnum):
    """What a line amounts to; only the last two fail the check.

    `moved` is of what may have changed between the two looks.
    """

    AGREE = "agree"
    ONLY_OURS = "only ours"
    ONLY_THEIRS = "only theirs"
    MOVED = "moved"
    DIFFER = "DIFFER"
    NOT_CHECKED = "NOT CHECKED"


FAILING = frozenset({Verdict.DIFFER, Verdict.NOT_CHECKED})


class Tolerance(NamedTuple):
    """By how much two figures may differ: in the base unit, and besides as a share of theirs."""

    absolute: float = 0.0
    relative: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of a table."""

    subject: str
    quantity: str
    ours: str
    theirs: str
    tolerance: str = ""
    verdict: Verdict

    @property
    def fails(self) -> bool:
        """Tell whether the check fails by this line."""
        return self.verdict in FAILING


def same(subject: str, quantity: str, ours: str, theirs: str | None) -> Row | None:
    """Compare two identities; None where neither tells."""
    told = theirs or ""
    if not ours and not told:
        return None
    verdict = Verdict.AGREE if ours.casefold() == told.casefold() else Verdict.DIFFER
    if not ours or not told:
        verdict = Verdict.ONLY_OURS if ours else Verdict.ONLY_THEIRS
    return Row(
        subject=subject, quantity=quantity, ours=ours or SILENT, theirs=told or SILENT, verdict=verdict
    )


def close(
    subject: str,
    quantity: str,
    ours: Sequence[float],
    theirs: float | None,
    tolerance: Tolerance = Tolerance(),  # noqa: B008  frozen
    *,
    may_move: bool = False,
) -> Row | None:
    """Compare what we told around a moment with what was told then; None where neither tells.

    Theirs must lie between the least and the largest of ours, but for the tolerance.
    """
    if not ours and theirs is None:
        return None
    if not ours or theirs is None:
        verdict = Verdict.ONLY_OURS if ours else Verdict.ONLY_THEIRS
    else:
        room = tolerance.absolute + tolerance.relative * abs(theirs)
        agrees = min(ours) - room <= theirs <= max(ours) + room
        verdict = Verdict.AGREE if agrees else Verdict.MOVED if may_move else Verdict.DIFFER
    return Row(
        subject=subject,
        quantity=quantity,
        ours=_range(quantity, ours),
        theirs=SILENT if theirs is None else written(quantity, theirs),
        tolerance=_room(quantity, tolerance),
        verdict=verdict,
    )


def not_checked(subject: str, quantity: str, why: str) -> Row:
    """Say that something could not be compared, and why."""
    return Row(subject=subject, quantity=quantity, ours=SILENT, theirs=why, verdict=Verdict.NOT_CHECKED)


def written(quantity: str, value: float, digits: int = 6) -> str:
    """Write a value in the unit in which one talks about it."""
    for ending, factor, unit in _UNITS:
        if quantity.endswith(ending):
            return f"{value * factor:.{digits}g} {unit}"
    return f"{value:.{max(digits, 12)}g}"


def _range(quantity: str, values: Sequence[float]) -> str:
    if not values:
        return SILENT
    least, most = written(quantity, min(values)), written(quantity, max(values))
    return least if least == most else f"{least} … {most}"


def _room(quantity: str, tolerance: Tolerance) -> str:
    parts = [written(quantity, tolerance.absolute, 3)] if tolerance.absolute else []
    parts += [f"{tolerance.relative:.0%} of it"] if tolerance.relative else []
    return "±" + " + ".join(parts) if parts else "equal"


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Set lines in columns, under a header."""
    everything = [header, *lines]
    widths = [max(len(line[place]) for line in everything) for place in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in everything
    )


def rows_table(rows: Sequence[Row], theirs: str = "nvidia-smi") -> str:
    """Set rows in columns."""
    return table(
        ("of", "quantity", "ours", theirs, "tolerance", "verdict"),
        [(row.subject, row.quantity, row.ours, row.theirs, row.tolerance, row.verdict.value) for row in rows],
    )


def summary(rows: Sequence[Row]) -> str:
    """Count the verdicts in a line."""
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in Verdict}
    return ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)
