"""The account of a window as a long table, for spreadsheets: a row for each GPU, place, owner and state.

The seconds of all rows sum to the inventory, as printed. Rows of nothing are left out; what is not known is
empty, and so is the owner of time that nobody held.
"""

import csv
import io
from collections.abc import Iterator
from typing import NamedTuple

from agent.tally import HOUR_MS
from reports.outline import Report
from reports.sums import owner_of
from reports.window import rfc3339

_OBEYED = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""
TEXTS = ("from", "to", "timezone", "gpu_uuid", "gpu_index", "node", "model", "serial", "owner", "state")
FIGURES = ("seconds", "busy_seconds", "busy_seen_seconds", "joules", "energy_seen_seconds", "cost")
COLUMNS = (*TEXTS, *FIGURES)


class Row(NamedTuple):
    """One row: texts follow TEXTS, figures FIGURES."""

    texts: tuple[str, ...]
    figures: tuple[float | None, ...]


def rows(report: Report) -> Iterator[Row]:
    """Give the rows, by node, GPU, state and owner."""
    covered, price = report.covered, report.price_per_gpu_hour
    window = rfc3339(covered.from_ms), rfc3339(covered.to_ms), covered.timezone
    lines = {(line.uuid, line.node): line for line in report.gpus}
    for account in report.accounts:
        amounts, line = account.amounts, lines[account.uuid, account.node]
        index = "" if line.index is None else str(line.index)
        who = account.uuid, index, account.node, line.model, line.serial
        yield Row(
            (*window, *who, owner_of(account) or "", account.state.value),
            (
                amounts.elapsed_ms / 1000,
                amounts.busy_us / 1e6 if amounts.busy_seen_ms else None,
                amounts.busy_seen_ms / 1000,
                amounts.joules,
                amounts.energy_seen_ms / 1000,
                None if price is None else amounts.elapsed_ms / HOUR_MS * price,
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
