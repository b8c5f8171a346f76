"""`gputally exporters`: how far each store is behind, what became of what was sent, and sending it again."""

import argparse
import json
import os
from dataclasses import asdict
from datetime import UTC

from agent.clock import moment, now_ms
from agent.errors import JournalError, SettingsError
from exporters.cursors import Cursor, Cursors, cursors_of
from gputally.settings import journal_path, load
from gputally.status import reader_arguments, reading
from gputally.tables import NONE, columns, duration, tidy
from reports.window import moment_of

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
EPILOG = """\
a store that lost data (a disk, a crash, an expired bucket) gets it again out of the journal, while the agent
runs on; what it still has are the same points, so nothing counts twice:

  gputally exporters --resend fleet --since 2026-11-16
"""
_RIGHT = frozenset({"WAITING", "BEHIND", "DELIVERED", "REFUSED", "DROPPED"})


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    reader_arguments(parser)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--resend", metavar="EXPORTER", help="send this store again what it may have lost")
    parser.add_argument(
        "--since", metavar="TIME", help="with --resend: from when on; a date or an RFC 3339 time, in UTC"
    )


def execute(options: argparse.Namespace) -> int:
    """Print how far each exporter is; 1 when one fails. Raises JournalError, SettingsError, ReportError."""
    if bool(options.resend) != bool(options.since):
        raise SettingsError("--resend and --since belong together: --resend EXPORTER --since TIME")
    if options.resend:
        return _resend(options)
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


def _resend(options: argparse.Namespace) -> int:
    """Put the cursor of an exporter back."""
    since_ms = moment_of(options.since, UTC)
    with reading(options) as db:
        known = [one.name for one in cursors_of(db)]
        oldest, newest = db.execute("SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM tick").fetchone()
        first = db.execute("SELECT min(id) FROM tick WHERE end_ms > ?", (since_ms,)).fetchone()[0]
        begins_ms = db.execute("SELECT min(start_ms) FROM tick").fetchone()[0] or 0
    if options.resend not in known:
        raise SettingsError(
            f"nothing went to {options.resend!r} from this journal: choose among {', '.join(known) or 'none'}"
        )
    if first is None:
        raise JournalError(f"the journal has no ticks since {moment(since_ms)}")
    path = journal_path(options.journal, load(options.settings, os.environ))
    Cursors(path).put_back(options.resend, max(first, oldest) - 1)
    print(
        f"{newest - first + 1:,} ticks since {moment(max(since_ms, begins_ms))} go to {options.resend} again"
    )
    if since_ms < begins_ms:
        print("the journal keeps none from before")
    return 0


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
        _dropped(one),
        moment(one.success_ms) if one.success_ms else NONE,
        f"{tidy(error)} ({duration(max(0, now_ms() - one.failure_ms))} ago)"
        if one.failure
        else tidy(error) or NONE,
    )


def _dropped(one: Cursor) -> str:
    """Tell what the journal's bounds took away, and from when to when that lay."""
    if not one.dropped_ticks:
        return "0"
    return f"{one.dropped_ticks:,} between {moment(one.dropped_from_ms)} and {moment(one.dropped_until_ms)}"
