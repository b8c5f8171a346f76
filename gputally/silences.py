"""What people say of findings: `gputally findings` with ack, unack, silence, silences, unsilence."""

import argparse
import json
import os
import pwd
import sqlite3
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

from agent import remarks
from agent.clock import moment, now_ms
from agent.errors import SettingsError
from agent.remarks import LONGEST_AUTHOR, LONGEST_REASON, Silence
from agent.restore import numbered_findings, open_findings
from agent.tally import DAY_MS
from gputally.settings import journal_path, load
from gputally.status import reading
from gputally.tables import columns, duration, tidy
from reports.now import now
from rules.definition import LONGEST_NAME, RuleError
from rules.load import duration_seconds
from rules.load import load as load_rules

LEAST_MS, LONGEST_MS = 1000, 30 * DAY_MS
LONGEST_NUMBER = 18
"""Digits; SQLite counts a little further."""
HEAD = ("SILENCE", "RULE", "GPU", "UNTIL", "LEFT", "BY", "REASON")
ANY = "all"


def number_of(text: str) -> int:
    """Read the number of a finding or of a silence. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER):
        raise argparse.ArgumentTypeError(f"{tidy(text[:LONGEST_NAME])!r} is no number")
    return int(text)


def why_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare who says something, and why."""
    parser.add_argument(
        "--reason", required=True, metavar="TEXT", help=f"why, in up to {LONGEST_REASON} characters"
    )
    parser.add_argument("--author", default="", metavar="NAME", help="default: the user, behind sudo as well")


def silence_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is to be silent, and for how long."""
    parser.add_argument("--rule", default="", metavar="RULE", help="what this rule finds")
    parser.add_argument("--gpu", default="", metavar="GPU", help="what is found on this GPU: index or UUID")
    parser.add_argument("--all-findings", action="store_true", default=False, help="all that is found here")
    parser.add_argument(
        "--for", dest="duration", required=True, metavar="DURATION", help="90s, 30m, 2h, 7d; 30d at most"
    )
    why_arguments(parser)


def acknowledge(options: argparse.Namespace) -> int:
    """Say that findings are known. Raises JournalError, SettingsError."""
    author, reason = _author(options.author), _reason(options.reason)
    with reading(options) as db:
        known = dict(numbered_findings(db, 0))
    numbers = dict.fromkeys(options.numbers)
    if unknown := [str(number) for number in numbers if number not in known]:
        raise SettingsError(
            f"there is no finding {', '.join(unknown)}: gputally findings --since DATE lists them"
        )
    with remarks.writing(_path(options)) as db:
        remarks.acknowledge(db, numbers, at_ms=now_ms(), author=author, reason=reason)
    for number in numbers:
        print(f"{author} knows of finding {number}: {tidy(known[number].rule)}")
    return 0


def withdraw(options: argparse.Namespace) -> int:
    """Take an acknowledgement back. Raises JournalError, SettingsError."""
    with remarks.writing(_path(options)) as db:
        done = remarks.withdraw(db, options.number)
    if not done:
        raise SettingsError(f"finding {options.number} is not acknowledged")
    print(f"finding {options.number} is not acknowledged any more")
    return 0


def silence(options: argparse.Namespace) -> int:
    """Silence a rule, a GPU or everything for a while. Raises JournalError, SettingsError."""
    author, reason = _author(options.author), _reason(options.reason)
    if options.all_findings == bool(options.rule or options.gpu):
        raise SettingsError("name what is to be silent: --rule or --gpu or both, or --all-findings")
    length_ms, at_ms = _length_ms(options.duration), now_ms()
    rules = load_rules(load(options.settings, os.environ).rules.path) if options.rule else {}
    with reading(options) as db:
        _know_rule(db, options.rule, rules)
        uuid = _uuid(db, options.gpu) if options.gpu else ""
        open_now = open_findings(db)
        indices = _indices(db)
    one = Silence(
        rule=options.rule, uuid=uuid, from_ms=at_ms, until_ms=at_ms + length_ms, author=author, reason=reason
    )
    with remarks.writing(_path(options)) as db:
        number = remarks.silence(db, one)
    if options.json:
        print(json.dumps({**asdict(one), "number": number}, indent=2))
        return 0
    many = sum(one.covers(each) for each in open_now)
    where = f" on {_gpu(one, indices)}" if one.uuid else ""
    print(f"silence {number}: {tidy(one.rule) or 'all findings'}{where} until {moment(one.until_ms)}")
    print(f"it is about {many} of the findings that are open; `gputally findings unsilence {number}` ends it")
    return 0


def end(options: argparse.Namespace) -> int:
    """End a silence before its time. Raises JournalError, SettingsError."""
    with remarks.writing(_path(options)) as db:
        done = remarks.end_silence(db, options.number, now_ms())
    if not done:
        raise SettingsError(
            f"no silence {options.number} holds now: `gputally findings silences` lists those that do"
        )
    print(f"silence {options.number} is over")
    return 0


def list_silences(options: argparse.Namespace) -> int:
    """List the silences that hold, or all that are kept. Raises JournalError, SettingsError."""
    at_ms = now_ms()
    with reading(options) as db:
        found, indices = remarks.silences(db, 0 if options.all else at_ms), _indices(db)
    if options.json:
        told = [{**asdict(one), **_who_and_why(one), "holds": one.until_ms > at_ms} for one in found]
        print(json.dumps(told, indent=2))
    elif not found:
        print("nothing was silenced" if options.all else "nothing is silenced")
    else:
        print(columns(HEAD, [_row(one, indices, at_ms) for one in found]))
    return 0


def _row(one: Silence, indices: dict[str, int], at_ms: int) -> tuple[str, ...]:
    left = duration(one.until_ms - at_ms) if one.until_ms > at_ms else "over"
    said = _who_and_why(one)
    return (
        str(one.number),
        tidy(one.rule) or ANY,
        _gpu(one, indices) if one.uuid else ANY,
        moment(one.until_ms),
        left,
        said["author"],
        said["reason"],
    )


def _who_and_why(one: Silence) -> dict[str, str]:
    return {
        "author": remarks.cleaned(one.author, LONGEST_AUTHOR),
        "reason": remarks.cleaned(one.reason, LONGEST_REASON),
    }


def _gpu(one: Silence, indices: dict[str, int]) -> str:
    uuid = tidy(one.uuid)
    return f"GPU {indices[one.uuid]} {uuid}" if one.uuid in indices else uuid


def _indices(db: sqlite3.Connection) -> dict[str, int]:
    seen = now(db)
    return {gpu.uuid: gpu.index for gpu in seen.gpus} if seen else {}


def _path(options: argparse.Namespace) -> Path:
    return journal_path(options.journal, load(options.settings, os.environ))


def _reason(text: str) -> str:
    if not text.strip():
        raise SettingsError("--reason must say why: those who come after you will ask")
    return _line("--reason", text, LONGEST_REASON)


def _author(text: str) -> str:
    """Take the name that was given, or the user's own."""
    return _line(
        "--author", text.strip() or os.environ.get("SUDO_USER", "").strip() or _user(), LONGEST_AUTHOR
    )


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _line(key: str, text: str, longest: int) -> str:
    if len(text) > longest:
        raise SettingsError(f"{key} has {len(text):,} characters: say it in {longest}")
    return remarks.cleaned(text, longest)


def _length_ms(text: str) -> int:
    try:
        length_ms = round(duration_seconds("--for", text) * 1000)
    except RuleError as wrong:
        raise SettingsError(f"--for: {wrong}") from wrong
    if not LEAST_MS <= length_ms <= LONGEST_MS:
        raise SettingsError(
            f"--for {text} must lie between 1s and 30d: what lasts longer belongs into the rules"
        )
    return length_ms


def _know_rule(db: sqlite3.Connection, name: str, rules: Collection[str]) -> None:
    """Refuse a rule that neither judges now nor ever found anything here."""
    if not name or name in rules or _is_known(db, "SELECT 1 FROM finding WHERE rule = ?", name):
        return
    from difflib import get_close_matches  # noqa: PLC0415  only for an error

    near = get_close_matches(name[:LONGEST_NAME], list(rules), n=3, cutoff=0.4)
    hint = f": do you mean {' or '.join(near)}?" if near else "; `gputally rules list` names them"
    raise SettingsError(f"--rule: there is no rule {tidy(name[:LONGEST_NAME])!r}{hint}")


def _uuid(db: sqlite3.Connection, text: str) -> str:
    """Find the GPU that is meant: by the index it has now, or the UUID of one that the journal knows."""
    if _is_known(db, "SELECT 1 FROM gpu WHERE uuid = ?", text):
        return text
    seen = now(db)
    gpus = seen.gpus if seen else ()
    found = [gpu for gpu in gpus if str(gpu.index) == text]
    if len(found) == 1:
        return found[0].uuid
    if found:
        raise SettingsError(f"--gpu {text}: {len(found)} nodes of this journal have one: give its UUID")
    there = ", ".join(str(index) for index in sorted({gpu.index for gpu in gpus})) or "none"
    raise SettingsError(
        f"--gpu: there is no GPU {tidy(text[:LONGEST_NAME])!r}: choose among {there}, "
        "or give the UUID of one that was here"
    )


def _is_known(db: sqlite3.Connection, query: str, text: str) -> bool:
    """Ask for a text; one of bytes that are no UTF-8 cannot even be asked for."""
    return text.isprintable() and db.execute(query, (text,)).fetchone() is not None
