"""`gputally findings`: what is open or was, since when, whom it hurts, what it costs, and what to do."""

import argparse
import json
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC
from typing import NamedTuple

from agent.clock import moment, now_ms
from agent.errors import SettingsError
from agent.remarks import (
    LONGEST_AUTHOR,
    LONGEST_REASON,
    Acknowledgement,
    Silence,
    acknowledgements,
    cleaned,
    silence_of,
    silences,
)
from agent.restore import FOREVER_MS, numbered_findings
from agent.tally import HOUR_MS
from agent.tick import Finding
from gputally import silences as said
from gputally.settings import Settings, load
from gputally.status import reader_arguments, reading
from gputally.tables import duration, hours, tidy
from reports.now import GpuNow, now
from reports.window import moment_of
from rules.definition import Rule
from rules.load import load as load_rules

USAGE = """\
gputally findings [--since TIME] [--open] [--json] [--journal FILE] [--settings FILE]
       gputally findings ACTION …"""
EPILOG = """\
  gputally findings                      what is open now
  gputally findings --since 2026-11-16   what was open since, closed or not
  gputally findings explain 42           number 42: what it means, how to confirm it, when it is wrong
  gputally findings ack 42 --reason "ticket 1717"
  gputally findings silence --rule thermal_margin_low --gpu 3 --for 2d --reason "fan is ordered"

what is silenced is listed last, does not count for `gputally check`, and is not told to Alertmanager or a
webhook by this node; the metric gpu_finding has it all the same

exit code 1 when something is open that nobody silenced
"""
_HELP = {
    "explain": "all that is known of one finding",
    "ack": "say that you know of findings; it holds while they come and go",
    "unack": "take that back",
    "silence": "let a rule or a GPU be quiet for a while",
    "silences": "what is silenced",
    "unsilence": "end a silence before its time",
}
_ACTIONS = {
    "ack": said.acknowledge,
    "unack": said.withdraw,
    "silence": said.silence,
    "silences": said.list_silences,
    "unsilence": said.end,
}


class Told(NamedTuple):
    """A finding with its number and what people say of it."""

    number: int
    finding: Finding
    silence: Silence | None
    known: Acknowledgement | None

    @property
    def counts(self) -> bool:
        """Whether it is open and nobody silenced it."""
        return self.finding.closed_ms is None and self.silence is None


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    reader_arguments(parser)
    parser.add_argument("--since", default="", metavar="TIME", help="also what closed since; in UTC")
    parser.add_argument("--open", action="store_true", help="only what is open, whatever --since says")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.usage = USAGE
    actions = parser.add_subparsers(dest="action", metavar="ACTION", prog=parser.prog)
    each = {name: _action(actions, name, text) for name, text in _HELP.items()}
    for name in ("explain", "silence", "silences"):
        each[name].add_argument("--json", action="store_true", help="for programs")
    for name in ("explain", "unack", "unsilence"):
        each[name].add_argument("number", type=said.number_of, metavar="NUMBER")
    each["ack"].add_argument("numbers", type=said.number_of, nargs="+", metavar="NUMBER")
    said.why_arguments(each["ack"])
    said.silence_arguments(each["silence"])
    every = each["silences"]
    every.add_argument("--all", action="store_true", default=False, help="those that are over as well")


def _action(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    """Add an action, which leaves alone what was said before its name."""
    parser = actions.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    reader_arguments(parser)
    return parser


def execute(options: argparse.Namespace) -> int:
    """Print findings; 1 when one is open and not silenced.

    Raises JournalError, SettingsError, ReportError.
    """
    if options.action in _ACTIONS:
        return _ACTIONS[options.action](options)
    settings = load(options.settings, os.environ)
    explained = options.number if options.action else 0
    since_ms = moment_of(options.since, UTC) if options.since and not options.open else FOREVER_MS
    with reading(options) as db:
        found, seen = _told(db, 0 if options.action else since_ms), now(db)
    held = {gpu.uuid: gpu for gpu in (seen.gpus if seen else ())}
    if options.action:
        found = [one for one in found if one.number == explained]
        if not found:
            raise SettingsError(f"there is no finding {explained}: gputally findings --since DATE lists them")
    if options.json:
        print(json.dumps([_as_json(one, held, settings) for one in found], indent=2))
    elif not found:
        print("nothing is open" if since_ms == FOREVER_MS else "nothing was open")
    for one in () if options.json else found:
        print("\n".join(_lines(one, held.get(one.finding.uuid), settings)))
    if options.action and not options.json:
        print("\n".join(_runbook(load_rules(settings.rules.path), found[0].finding)))
    return 1 if any(one.counts for one in found) else 0


def _told(db: sqlite3.Connection, closed_ms: int) -> list[Told]:
    """Read findings that are open or closed since; what is silenced comes last."""
    quiet, known = silences(db, now_ms()), acknowledgements(db)
    found = [
        Told(number, one, silence_of(one, quiet) if one.closed_ms is None else None, known.get(number))
        for number, one in numbered_findings(db, closed_ms)
    ]
    return sorted(found, key=lambda one: one.silence is not None)


def _lines(told: Told, gpu: GpuNow | None, settings: Settings) -> list[str]:
    one = told.finding
    where = " ".join(part for part in (one.node, f"GPU {gpu.index}" if gpu else "", one.uuid) if part)
    lasted_ms = _lasted_ms(one)
    until = f" until {moment(one.closed_ms)}" if one.closed_ms is not None else ""
    often = f", {one.times} times" if one.times > 1 else ""
    gpu_hours = hours(lasted_ms / HOUR_MS)
    lines = [
        f"{told.number}  {one.severity}: {one.rule} on {tidy(where)} since {moment(one.opened_ms)}{until}",
        f"    for {duration(lasted_ms)}{often}: {gpu_hours} GPU-hours{_money(lasted_ms, settings)}",
    ]
    now = ""
    if one.closed_ms is None and gpu and gpu.owners:
        now = f"{', '.join(gpu.holders) or 'somebody'} of {', '.join(gpu.owners)}"
    if one.held_by and one.held_by != now:
        lines.append(f"    held then by {tidy(one.held_by)}")
    if now:
        lines.append(f"    held by {tidy(now)}")
    return [*lines, *_remarks(told), f"    {one.summary}", f"    do: {one.action}"]


def _remarks(told: Told) -> list[str]:
    lines = []
    if quiet := told.silence:
        until = moment(quiet.until_ms)
        lines.append(f"    silenced until {until} by {_who(quiet)}: {_why(quiet)} (silence {quiet.number})")
    if told.known:
        lines.append(
            f"    acknowledged by {_who(told.known)} on {moment(told.known.at_ms)}: {_why(told.known)}"
        )
    return lines


def _who(one: Silence | Acknowledgement) -> str:
    return cleaned(one.author, LONGEST_AUTHOR)


def _why(one: Silence | Acknowledgement) -> str:
    return cleaned(one.reason, LONGEST_REASON)


def _lasted_ms(one: Finding) -> int:
    return max(0, (now_ms() if one.closed_ms is None else one.closed_ms) - one.opened_ms)


def _money(lasted_ms: int, settings: Settings) -> str:
    price = settings.report.price_per_gpu_hour
    return f", {price * lasted_ms / HOUR_MS:,.2f} at {price:g} an hour" if price else ""


def _runbook(rules: Mapping[str, Rule], one: Finding) -> list[str]:
    rule = rules.get(one.rule)
    if rule is None:
        return ["    the rule is no longer there"]
    book = asdict(rule.runbook)
    return [
        f"    {name.replace('_', ' ')}: {text}" for name, text in book.items() if text and name != "action"
    ]


def _as_json(told: Told, held: Mapping[str, GpuNow], settings: Settings) -> dict[str, object]:
    one, price = told.finding, settings.report.price_per_gpu_hour
    gpu, gpu_hours = held.get(one.uuid), _lasted_ms(one) / HOUR_MS
    return {
        "id": told.number,
        **asdict(one),
        "gpu": gpu.index if gpu else None,
        "holders": list(gpu.holders) if gpu else [],
        "owners": list(gpu.owners) if gpu else [],
        "gpu_hours": gpu_hours,
        "money": price * gpu_hours if price else None,
        "silenced": _remark(told.silence),
        "acknowledged": _remark(told.known),
    }


def _remark(one: Silence | Acknowledgement | None) -> dict[str, object] | None:
    if one is None:
        return None
    when = (
        {"silence": one.number, "until_ms": one.until_ms}
        if isinstance(one, Silence)
        else {"at_ms": one.at_ms}
    )
    return {**when, "author": _who(one), "reason": _why(one)}
