"""`gputally findings`: what is open or was, since when, whom it hurts, what it costs, and what to do."""

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC

from agent.clock import moment, now_ms
from agent.errors import SettingsError
from agent.restore import FOREVER_MS, numbered_findings
from agent.tally import HOUR_MS
from agent.tick import Finding
from gputally.settings import Settings, load
from gputally.status import reader_arguments, reading
from gputally.tables import duration, hours, tidy
from reports.now import GpuNow, now
from reports.window import moment_of
from rules.definition import Rule
from rules.load import load as load_rules

EPILOG = """\
  gputally findings                      what is open now
  gputally findings --since 2026-11-16   what was open since, closed or not
  gputally findings explain 42           number 42: what it means, how to confirm it, when it is wrong

exit code 1 when something is open
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("explain", nargs="*", metavar="explain NUMBER", help="all that is known of one")
    reader_arguments(parser)
    parser.add_argument("--since", default="", metavar="TIME", help="also what closed since; in UTC")
    parser.add_argument("--json", action="store_true", help="for programs")


def execute(options: argparse.Namespace) -> int:
    """Print findings; 1 when one is open. Raises JournalError, SettingsError, ReportError."""
    settings = load(options.settings, os.environ)
    wanted = _wanted(options.explain)
    since_ms = 0 if wanted else moment_of(options.since, UTC) if options.since else FOREVER_MS
    with reading(options) as db:
        found, seen = numbered_findings(db, since_ms), now(db)
    held = {gpu.uuid: gpu for gpu in (seen.gpus if seen else ())}
    if wanted:
        found = [one for one in found if one[0] == wanted]
        if not found:
            raise SettingsError(f"there is no finding {wanted}: gputally findings --since DATE lists them")
    if options.json:
        print(json.dumps([_told(*one, held, settings) for one in found], indent=2))
    elif not found:
        print("nothing was open" if options.since else "nothing is open")
    for number, one in () if options.json else found:
        print("\n".join(_lines(number, one, held.get(one.uuid), settings)))
    if wanted and not options.json:
        rules = load_rules(settings.rules.path)
        print("\n".join(_runbook(rules, found[0][1])))
    return 1 if any(one.closed_ms is None for _, one in found) else 0


def _wanted(words: list[str]) -> int:
    if not words:
        return 0
    if len(words) == 2 and words[0] == "explain" and words[1].isascii() and words[1].isdecimal():  # noqa: PLR2004
        return int(words[1][:18])
    raise SettingsError("write: gputally findings explain NUMBER")


def _lines(number: int, one: Finding, gpu: GpuNow | None, settings: Settings) -> list[str]:
    where = " ".join(part for part in (one.node, f"GPU {gpu.index}" if gpu else "", one.uuid) if part)
    lasted_ms = _lasted_ms(one)
    until = f" until {moment(one.closed_ms)}" if one.closed_ms is not None else ""
    often = f", {one.times} times" if one.times > 1 else ""
    gpu_hours = hours(lasted_ms / HOUR_MS)
    lines = [
        f"{number}  {one.severity}: {one.rule} on {tidy(where)} since {moment(one.opened_ms)}{until}",
        f"    for {duration(lasted_ms)}{often}: {gpu_hours} GPU-hours{_money(lasted_ms, settings)}",
    ]
    if one.held_by:
        lines.append(f"    held then by {tidy(one.held_by)}")
    if one.closed_ms is None and gpu and gpu.owners:
        who, whose = ", ".join(gpu.holders) or "somebody", ", ".join(gpu.owners)
        lines.append(f"    held by {tidy(who)} of {tidy(whose)}")
    return [*lines, f"    {one.summary}", f"    do: {one.action}"]


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


def _told(number: int, one: Finding, held: Mapping[str, GpuNow], settings: Settings) -> dict[str, object]:
    gpu, price = held.get(one.uuid), settings.report.price_per_gpu_hour
    gpu_hours = _lasted_ms(one) / HOUR_MS
    return {
        "id": number,
        **asdict(one),
        "gpu": gpu.index if gpu else None,
        "holders": list(gpu.holders) if gpu else [],
        "owners": list(gpu.owners) if gpu else [],
        "gpu_hours": gpu_hours,
        "money": price * gpu_hours if price else None,
    }
