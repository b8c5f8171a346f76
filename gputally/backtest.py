"""`gputally rules backtest`: what rules would have found in the past, and what is different from today's."""

import argparse
import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from agent.clock import now_ms
from agent.errors import JournalError, SettingsError
from agent.tally import DAY_MS
from gputally.backtest_text import as_text
from gputally.backtested import Told, as_json
from gputally.progress import Progress
from gputally.settings import Settings, load
from gputally.status import reading
from reports.sums import snapshot
from reports.window import moment_of, rfc3339
from rules.backtest import Backtest, enabled, look_back_ms, quantities_of
from rules.definition import LONGEST_NAME, Rule, RuleError
from rules.hindsight import Moment, Pace, moments, pace
from rules.load import duration_seconds
from rules.load import load as load_rules

SHORTEST_INTERVAL, LONGEST_INTERVAL = 1, 86_400
QUIET_SECONDS = 2.0
"""Work that takes no longer shows no progress."""
_EVERY = 200
EPILOG = """\
gputally rules backtest                                        what today's rules find in this node's journal
gputally rules backtest rules.toml --from 2026-11-09 --findings
gputally rules backtest rules.toml --source http://store.example.org:8428 --from 2026-11-09 --to 2026-11-16
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "file",
        type=Path,
        nargs="?",
        metavar="RULES.toml",
        help="rules to try, see `gputally rules example`; default: the present ones alone",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--journal", type=Path, metavar="FILE", help="default: where `gputally run` writes")
    where.add_argument(
        "--source",
        metavar="URL",
        help="a store instead: VictoriaMetrics, Prometheus or what answers as they do",
    )
    parser.add_argument(
        "--from", dest="since", default="", metavar="TIME", help="a date or an RFC 3339 time, in UTC"
    )
    parser.add_argument(
        "--to", dest="until", default="", metavar="TIME", help="default: all of a journal, 24 h of a store"
    )
    parser.add_argument("--interval", metavar="10s", help="between two looks; default: as the data have it")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="a bearer token for the store")
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="who signed the store's certificate")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="default: /etc/gputally/gputally.toml")
    parser.add_argument("--rule", metavar="NAME", help="only what this rule found")
    parser.add_argument("--findings", action="store_true", help="each finding, with + and - for what differs")
    parser.add_argument("--json", action="store_true", help="for programs")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Past:
    """Where the past comes from: its span, and what of it is judged before that."""

    from_ms: int
    to_ms: int
    start_ms: int
    pace: Pace
    moments: Iterator[Moment]


Sets = tuple[Mapping[str, Rule], Mapping[str, Rule] | None]
"""The rules to try and the present ones; without the second, the first are the present ones."""


def execute(options: argparse.Namespace) -> int:
    """Judge the past. Raises SettingsError, JournalError, ReportError, StoreError."""
    settings = load(options.settings, os.environ)
    present = load_rules(settings.rules.path)
    sets: Sets = (present, None) if options.file is None else (load_rules(options.file), present)
    _check_rule(options.rule, sets)
    since_ms = moment_of(options.since, UTC) if options.since else None
    until_ms = moment_of(options.until, UTC) if options.until else None
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise SettingsError("--from must lie before --to")
    if not options.source and (options.token_file or options.ca_file):
        raise SettingsError("--token-file and --ca-file are for a store: name it with --source URL")
    interval_ms = _interval_ms(options.interval)
    opened = _store if options.source else _journal
    with opened(options, sets, (since_ms, until_ms), interval_ms) as past:
        told = _told(options, settings, sets, past)
    print(as_json(told) if options.json else as_text(told))
    return 0


def _told(options: argparse.Namespace, settings: Settings, sets: Sets, past: _Past) -> Told:
    work = Backtest(*sets, past.pace.interval_ms, past.from_ms)
    work.take(_shown(past))
    return Told(
        outcome=work.outcome(),
        name="present rules" if sets[1] is None else str(options.file),
        source=options.source or "journal",
        pace=past.pace,
        from_ms=past.from_ms,
        to_ms=past.to_ms,
        looked_back_ms=past.from_ms - past.start_ms,
        left_out=sum(rule.enabled for rule in sets[0].values()) - len(enabled(sets[0])),
        price=settings.report.price_per_gpu_hour,
        only=options.rule or "",
        with_findings=options.findings,
    )


def _check_rule(name: str | None, sets: Sets) -> None:
    known = {**(sets[1] or {}), **sets[0]}
    if name is None or (name in known and known[name].about == "gpu"):
        return
    if name in known:
        raise SettingsError(f"--rule: {name} is about the node: a backtest judges rules about GPUs only")
    from difflib import get_close_matches  # noqa: PLC0415  only for an error

    near = get_close_matches(name[:LONGEST_NAME], list(known), n=3, cutoff=0.4)
    hint = f"do you mean {' or '.join(near)}?" if near else "`gputally rules list` names them"
    raise SettingsError(f"--rule: there is no rule {name[:LONGEST_NAME]!r}: {hint}")


def _interval_ms(text: str | None) -> int:
    """Read --interval; 0 where it is not given."""
    if text is None:
        return 0
    try:
        seconds = duration_seconds("--interval", text)
    except RuleError as wrong:
        raise SettingsError(f"--interval: {wrong}") from wrong
    if not SHORTEST_INTERVAL <= seconds <= LONGEST_INTERVAL:
        raise SettingsError("--interval must lie between 1s and 1d")
    return round(seconds * 1000)


Edges = tuple[int | None, int | None]


@contextlib.contextmanager
def _journal(options: argparse.Namespace, sets: Sets, edges: Edges, interval_ms: int) -> Iterator[_Past]:
    """Open a journal. Raises JournalError where it has nothing of that time."""
    with reading(options) as db, snapshot(db):
        first_ms, last_ms = db.execute("SELECT min(start_ms), max(end_ms) FROM tick").fetchone()
        from_ms = edges[0] if edges[0] is not None else first_ms or 0
        to_ms = edges[1] if edges[1] is not None else last_ms or 0
        found = pace(db, from_ms, to_ms)
        if found is None:
            raise JournalError(_nothing(first_ms, last_ms))
        from_ms, to_ms = max(from_ms, first_ms), min(to_ms, last_ms)
        start_ms = max(from_ms - _look_back_ms(sets), _first_ms(db, from_ms))
        if interval_ms:
            found = Pace(interval_ms, found.intervals, found.uneven)
        seen = moments(db, start_ms, to_ms, quantities_of(*filter(None, sets)))
        yield _Past(from_ms=from_ms, to_ms=to_ms, start_ms=start_ms, pace=found, moments=seen)


def _first_ms(db: sqlite3.Connection, from_ms: int) -> int:
    """Tell where the journal's intervals begin, or `from_ms` where they begin later."""
    (first_ms,) = db.execute("SELECT min(end_ms) - 1 FROM tick WHERE end_ms <= ?", (from_ms,)).fetchone()
    return from_ms if first_ms is None else int(first_ms)


def _nothing(first_ms: int | None, last_ms: int | None) -> str:
    if first_ms is None or last_ms is None:
        return "the journal has no intervals at all yet"
    return f"the journal has no intervals of that time: it has {rfc3339(first_ms)} to {rfc3339(last_ms)}"


@contextlib.contextmanager
def _store(options: argparse.Namespace, sets: Sets, edges: Edges, interval_ms: int) -> Iterator[_Past]:
    """Ask a store. Raises StoreError."""
    from agent.store import Store  # noqa: PLC0415  it needs urllib3
    from rules.stored import Stored  # noqa: PLC0415

    to_ms = min(now_ms(), edges[1] if edges[1] is not None else now_ms())
    from_ms = edges[0] if edges[0] is not None else to_ms - DAY_MS
    if from_ms >= to_ms:
        raise SettingsError("--from must lie before --to, and in the past")
    store = Store(options.source, token_file=options.token_file, ca_file=options.ca_file)
    with contextlib.closing(store):
        start_ms = max(0, from_ms - _look_back_ms(sets))
        quantities = quantities_of(*filter(None, sets))
        stored = Stored(store, quantities, start_ms, to_ms, interval_ms)
        seen = stored.moments()
        yield _Past(
            from_ms=from_ms, to_ms=to_ms, start_ms=start_ms, pace=Pace(stored.interval_ms), moments=seen
        )


def _look_back_ms(sets: Sets) -> int:
    return max(look_back_ms(rules) for rules in sets if rules is not None)


def _shown(past: _Past) -> Iterable[Moment]:
    """Pass on the past and show how much of it is done, if it takes a while."""
    minutes = (past.to_ms - past.start_ms) // 60_000
    progress = Progress("backtest", minutes, "min of history")
    began, is_shown = time.monotonic(), False
    for number, moment in enumerate(past.moments):
        if number % _EVERY == 0 and time.monotonic() - began > QUIET_SECONDS:
            is_shown = True
            progress((moment.scene.end_ms - past.start_ms) // 60_000)
        yield moment
    if is_shown:
        progress(max(1, minutes))
