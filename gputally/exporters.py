"""`gputally exporters`: how far each store is behind, what became of what was sent, and sending it again.

Stores count ticks; what is told of findings counts changes: each that opened or closed.
"""

import argparse
import json
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC
from typing import NamedTuple

from agent.clock import moment, now_ms
from agent.errors import JournalError, SettingsError
from exporters.cursors import TELLS, Cursor, Cursors, cursors_of
from exporters.tidings import begun_at, news
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
_SINCE = "SELECT count(*) FROM finding WHERE closed_ms IS NULL OR closed_ms > ?"
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
    settings = load(options.settings, os.environ)
    wanted = {one.name: one.tells for one in settings.exporters.to}
    with reading(options) as db:
        found = _found(db, wanted)
    if options.json:
        print(json.dumps([_told(one, wanted) for one in found], indent=2))
    elif found:
        print(columns(HEAD, [_row(one, wanted) for one in found], _RIGHT))
    else:
        print(
            "no exporter is set up: write [[exporters.to]] in the settings (systemd/gputally.toml shows how)"
        )
    return 1 if any(one.cursor.failure for one in found) else 0


class _Found(NamedTuple):
    """How far an exporter is, how much waits, and for how long."""

    cursor: Cursor
    waiting: int
    behind_ms: int
    has_begun: bool

    @property
    def tells(self) -> bool:
        return self.cursor.tick_id == TELLS


def _found(db: sqlite3.Connection, wanted: Mapping[str, bool]) -> list[_Found]:
    """Read how far all exporters are: those of the settings, and those that were before."""
    known = {one.name: one for one in cursors_of(db)}
    newest, end_ms = db.execute("SELECT coalesce(max(id), 0), coalesce(max(end_ms), 0) FROM tick").fetchone()
    found = []
    for name in dict.fromkeys((*wanted, *known)):
        begun_ms = begun_at(db) if wanted.get(name) else 0
        one = known.get(name) or Cursor(name, TELLS if wanted.get(name) else 0, begun_ms)
        if one.tick_id == TELLS:
            _, waiting, since_ms, _ = news(db, name, one.tick_ms, now_ms(), most=0)
        else:
            waiting = one.waiting(newest)
            since_ms = db.execute("SELECT max(end_ms) FROM tick WHERE id <= ?", (one.tick_id,)).fetchone()[0]
        until_ms = now_ms() if one.tick_id == TELLS else end_ms
        found.append(_Found(one, waiting, max(0, until_ms - (since_ms or until_ms)), name in known))
    return found


def _told(one: _Found, wanted: Mapping[str, bool]) -> dict[str, object]:
    return {
        **asdict(one.cursor),
        "of": "findings" if one.tells else "ticks",
        "waiting_ticks": one.waiting,
        "behind_seconds": one.behind_ms / 1000,
        "configured": one.cursor.name in wanted,
    }


def _resend(options: argparse.Namespace) -> int:
    """Put the cursor of an exporter back."""
    since_ms = moment_of(options.since, UTC)
    with reading(options) as db:
        known = {one.name: one.tick_id for one in cursors_of(db)}
        oldest, newest = db.execute("SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM tick").fetchone()
        first = db.execute("SELECT min(id) FROM tick WHERE end_ms > ?", (since_ms,)).fetchone()[0]
        begins_ms = db.execute("SELECT min(start_ms) FROM tick").fetchone()[0] or 0
        findings = db.execute(_SINCE, (since_ms,)).fetchone()[0]
    if options.resend not in known:
        raise SettingsError(
            f"nothing went to {options.resend!r} from this journal: choose among {', '.join(known) or 'none'}"
        )
    cursors = Cursors(journal_path(options.journal, load(options.settings, os.environ)))
    if known[options.resend] == TELLS:
        cursors.untell(options.resend, since_ms)
        since = moment(since_ms)
        print(f"{findings:,} findings, open or closed since {since}, are told to {options.resend} again")
        return 0
    if first is None:
        raise JournalError(f"the journal has no ticks since {moment(since_ms)}")
    cursors.put_back(options.resend, max(first, oldest) - 1)
    print(
        f"{newest - first + 1:,} ticks since {moment(max(since_ms, begins_ms))} go to {options.resend} again"
    )
    if since_ms < begins_ms:
        print("the journal keeps none from before")
    return 0


def _row(found: _Found, wanted: Mapping[str, bool]) -> tuple[str, ...]:
    one, unit = found.cursor, " changes" if found.tells else ""
    state = "failing" if one.failure else "well" if one.success_ms else _quiet(found)
    if one.name not in wanted:
        state = "not in the settings"
    error = one.failure or (f"refused: {one.refusal}" if one.refusal else "")
    return (
        one.name,
        state,
        f"{found.waiting:,}{unit}",
        duration(found.behind_ms) if found.waiting else NONE,
        f"{one.delivered_ticks:,}{unit}",
        f"{one.refused_rows:,}",
        _dropped(one),
        moment(one.success_ms) if one.success_ms else NONE,
        f"{tidy(error)} ({duration(max(0, now_ms() - one.failure_ms))} ago)"
        if one.failure
        else tidy(error) or NONE,
    )


def _quiet(found: _Found) -> str:
    """Say why nothing went out yet: what tells of findings says nothing while there are none."""
    return "nothing to tell" if found.tells and found.has_begun and not found.waiting else "not begun"


def _dropped(one: Cursor) -> str:
    """Tell what the journal's bounds took away, and from when to when that lay."""
    if not one.dropped_ticks:
        return "0"
    return f"{one.dropped_ticks:,} between {moment(one.dropped_from_ms)} and {moment(one.dropped_until_ms)}"
