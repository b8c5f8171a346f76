"""`gputally exporters`: how far each store is behind, and what became of what was sent."""

import argparse
import json
import os
from dataclasses import asdict

from agent.clock import now_ms
from exporters.cursors import Cursor, cursors_of
from gputally.settings import load
from gputally.status import moment, reader_arguments, reading
from gputally.tables import NONE, columns, duration, tidy

HEAD = (
    "EXPORTER",
    "STATE",
    "WAITING",
    "BEHIND",
    "DELIVERED",
    "REFUSED",
    "DROPPED",
    "LAST SUCCESS",
    "LAST ERROR",
)
_RIGHT = frozenset({"WAITING", "BEHIND", "DELIVERED", "REFUSED", "DROPPED"})


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    reader_arguments(parser)
    parser.add_argument("--json", action="store_true", help="for programs")


def execute(options: argparse.Namespace) -> int:
    """Print how far each exporter is; 1 when one fails. Raises JournalError, SettingsError."""
    wanted = [one.name for one in load(options.settings, os.environ).exporters.to]
    with reading(options) as db:
        known = {one.name: one for one in cursors_of(db)}
        newest, end_ms = db.execute(
            "SELECT coalesce(max(id), 0), coalesce(max(end_ms), 0) FROM tick"
        ).fetchone()
        ends = {
            name: db.execute("SELECT max(end_ms) FROM tick WHERE id <= ?", (one.tick_id,)).fetchone()[0]
            for name, one in known.items()
        }
    cursors = [known.get(name, Cursor(name)) for name in dict.fromkeys((*wanted, *known))]
    behind_ms = {one.name: end_ms - (ends.get(one.name) or end_ms) for one in cursors}
    if options.json:
        told = [
            {
                **asdict(one),
                "waiting_ticks": one.standing(newest).waiting_ticks,
                "behind_seconds": behind_ms[one.name] / 1000,
                "configured": one.name in wanted,
            }
            for one in cursors
        ]
        print(json.dumps(told, indent=2))
    elif cursors:
        rows = [_row(one, newest, behind_ms[one.name], wanted) for one in cursors]
        print(columns(HEAD, rows, _RIGHT))
    else:
        print(
            "no exporter is set up: write [[exporters.to]] in the settings (systemd/gputally.toml shows how)"
        )
    return 1 if any(one.failure for one in cursors) else 0


def _row(one: Cursor, newest: int, behind_ms: int, wanted: list[str]) -> tuple[str, ...]:
    state = "failing" if one.failure else "well" if one.success_ms else "not begun"
    if one.name not in wanted:
        state = "not in the settings"
    standing = one.standing(newest)
    error = one.failure or (f"refused: {one.refusal}" if one.refusal else "")
    return (
        one.name,
        state,
        f"{standing.waiting_ticks:,}",
        duration(behind_ms) if standing.waiting_ticks else NONE,
        f"{one.delivered_ticks:,}",
        f"{one.refused_rows:,}",
        f"{one.dropped_ticks:,}",
        moment(one.success_ms) if one.success_ms else NONE,
        f"{tidy(error)} ({duration(max(0, now_ms() - one.failure_ms))} ago)"
        if one.failure
        else tidy(error) or NONE,
    )
