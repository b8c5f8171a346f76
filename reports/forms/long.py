"""The account of a window as a long table, for spreadsheets: a row for each GPU, place, owner and state.

Where prices change within the window there are rows for each part of it; `from` and `to` are the part's.
The seconds of all rows sum to the inventory, as printed. Rows of nothing are left out; what is not known is
empty, and so is the owner of time that nobody held.
"""

import csv
import io
from collections.abc import Iterator
from typing import NamedTuple

from reports.outline import Report
from reports.sums import owner_of, parts_of
from reports.window import Window, rfc3339

_OBEYED = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""
TEXTS = (
    "from",
    "to",
    "timezone",
    "gpu_uuid",
    "gpu_index",
    "node",
    "model",
    "serial",
    "owner",
    "state",
    "currency",
    "price",
)
"""`price` is set or default: a public one, of nobody's contract."""
FIGURES = ("seconds", "busy_seconds", "busy_seen_seconds", "joules", "energy_seen_seconds", "cost")
COLUMNS = (*TEXTS, *FIGURES)


class Row(NamedTuple):
    """One row of a time: texts follow TEXTS, figures FIGURES."""

    part: Window
    texts: tuple[str, ...]
    figures: tuple[float | None, ...]


def rows(report: Report) -> Iterator[Row]:
    """Give the rows, by node, GPU, state, owner and time."""
    covered, prices = report.covered, report.prices
    parts = dict(parts_of(covered, prices.cuts))
    lines = {(line.uuid, line.node): line for line in report.gpus}
    for account in report.accounts:
        amounts, line, part = account.amounts, lines[account.uuid, account.node], parts[account.since_ms]
        window = rfc3339(part.from_ms), rfc3339(part.to_ms), covered.timezone
        index = "" if line.index is None else str(line.index)
        who = account.uuid, index, account.node, line.model, line.serial
        cost = prices.of_rows([account])
        paid = ("", "") if cost is None else (prices.currency, "default" if prices.is_default else "set")
        yield Row(
            part,
            (*window, *who, owner_of(account) or "", account.state.value, *paid),
            (
                amounts.elapsed_ms / 1000,
                amounts.busy_us / 1e6 if amounts.busy_seen_ms else None,
                amounts.busy_seen_ms / 1000,
                amounts.joules,
                amounts.energy_seen_ms / 1000,
                cost,
            ),
        )


def to_csv(report: Report) -> str:
    """Write the table as CSV with a header (RFC 4180, but lines end in a newline alone).

    A text that a spreadsheet would take for a formula has an apostrophe in front.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows(report):
        texts = [f"'{text}" if text.startswith(_OBEYED) else text for text in row.texts]
        writer.writerow([*texts, *("" if one is None else _figure(one) for one in row.figures)])
    return out.getvalue()


def _figure(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
