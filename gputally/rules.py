"""`gputally rules`: by what findings open, a file of one's own, the same for Prometheus and in hindsight."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from textwrap import fill

from agent.errors import SettingsError
from gputally import alerting, backtest
from gputally.output import whole_file
from gputally.tables import columns
from rules.definition import Rule
from rules.fleet import FleetRule, fleet_rules
from rules.load import load
from rules.words import condition_in_words, length_in_words

WIDTH = 110
HEAD = ("RULE", "SEVERITY", "AUDIENCE", "FOR", "CLEARS", "WHAT")
EXAMPLE = """\
# Rules of your own. A table that is named like a rule that is built in changes it, key by key; any other name
# is a new rule. `gputally rules list` names them all, `gputally rules check FILE` reads this file, and the
# agent takes it when its settings say:  [rules] file = "/etc/gputally/rules.toml"

# Another limit for a rule that is built in: all else of it stays.
[thermal_margin_low]
when.margin.at_most = 3
when.margin.until = 6

# One that nobody needs here.
[persistence_mode_off]
enabled = false

# A rule of your own.
[memory_nearly_full]
summary = "less than 2 % of the memory is left"
severity = "info"                           # critical, warning, info
audience = "owner"                          # sre, planner, owner
when.used.quantity = "memory_used_bytes"
when.used.at_least = "memory_total_bytes"   # at_most, at_least, below, above
when.used.times = 0.98
for = "10m"                                 # so long must all conditions hold
clear_for = "5m"                            # so long must one of them not hold
coverage = 0.8                              # so much of that time must be known
workloads = ["batch", "interactive"]        # classes of holders; leave it out for all GPUs, held or not
inhibited_by = ["gpu_down"]                 # quiet while this one is open on the GPU
runbook.meaning = "the next batch size will not fit"
runbook.action = "tell the owner before the job runs out of memory"
"""
INTRODUCTION = """\
# Runbooks

Made by `gputally rules list --markdown`; a test keeps it fresh. What each rule means, what it costs, how to
confirm it and what to do. How rules are written and exported is in [rules](rules.md).
"""
EPILOG = """\
gputally rules list                                  what is judged, and how long it takes
gputally rules show thermal_margin_low               all of one rule, with its runbook
gputally rules example > rules.toml                  a file of your own to begin with
gputally rules check rules.toml
gputally rules export --format prometheus --runbook-url https://wiki.example.org/gpu --out gputally.rules.yaml
gputally rules backtest rules.toml --from 2026-11-09 what they would have found, and what present rules did
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    several = actions.add_parser("list", help="all rules in a table", allow_abbrev=False)
    one = actions.add_parser("show", help="all of one rule, with its runbook", allow_abbrev=False)
    one.add_argument("name", metavar="NAME", help="a rule of `gputally rules list`")
    check = actions.add_parser("check", help="read a file of rules and say what is wrong", allow_abbrev=False)
    check.add_argument("file", type=Path, metavar="FILE", help="TOML, see `gputally rules example`")
    actions.add_parser("example", help="a file of your own to begin with", allow_abbrev=False)
    export = actions.add_parser("export", help="the same rules for other programs", allow_abbrev=False)
    past = actions.add_parser("backtest", help="what rules would have found in the past", allow_abbrev=False)
    backtest.arguments(past)
    for each in (several, one, export):
        alerting.own_rules(each)
    one.add_argument("--json", action="store_true", help="for programs")
    form = several.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--markdown", action="store_true", help="all runbooks, as docs/runbooks.md")
    _export_arguments(export)


def _export_arguments(export: argparse.ArgumentParser) -> None:
    export.add_argument(
        "--format",
        choices=("prometheus", "vmalert", "grafana"),
        default="prometheus",
        help="default: prometheus, for Mimir too; grafana: alert rules of its own, for provisioning/alerting",
    )
    alerting.judging(export, "store; node with --format grafana")
    export.add_argument(
        "--data-source-uid",
        default=alerting.STORE_UID,
        metavar="UID",
        help=f"whom Grafana asks (default: {alerting.STORE_UID}, which `gputally dashboards` makes)",
    )
    export.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to the terminal")


def execute(options: argparse.Namespace) -> int:
    """Do one of the actions. Raises SettingsError."""
    if options.action == "example":
        sys.stdout.write(EXAMPLE)
        return 0
    if options.action == "check":
        read = load(options.file)
        off = sum(not rule.enabled for rule in read.values())
        print(f"{options.file} is sound: {len(read)} rules, {off} of them switched off")
        return 0
    if options.action == "backtest":
        return backtest.execute(options)
    rules = alerting.rules_of(options)
    if options.action == "list" and options.markdown:
        sys.stdout.write(markdown(rules))
    elif options.action == "list":
        _list(rules, as_json=options.json)
    elif options.action == "show":
        _show(rules, options.name, as_json=options.json)
    else:
        _export(rules, options)
    return 0


def _list(rules: Mapping[str, Rule], *, as_json: bool) -> None:
    if as_json:
        told = [{**asdict(rule), "where": "node"} for rule in rules.values()]
        print(json.dumps([*told, *({**asdict(one), "where": "fleet"} for one in fleet_rules())], indent=2))
        return
    rows = [
        (
            rule.name if rule.enabled else f"{rule.name} (off)",
            rule.severity,
            rule.audience,
            length_in_words(rule.for_seconds),
            length_in_words(rule.clear_seconds),
            rule.summary,
        )
        for rule in rules.values()
    ]
    print(columns(HEAD, rows))
    names = ", ".join(one.name for one in fleet_rules())
    print()
    print(fill(f"only where the whole fleet is seen (gputally rules export): {names}", WIDTH))


def markdown(rules: Mapping[str, Rule]) -> str:
    """Give docs/runbooks.md: a heading for each rule, which links of alerts lead to."""
    parts = [INTRODUCTION]
    every: list[Rule | FleetRule] = [*rules.values(), *fleet_rules()]
    for rule in every:
        _, *lines = _told(rule)
        body = "".join(f"{_item(line)}\n" for line in lines)
        also = ", in Prometheus" if isinstance(rule, FleetRule) and rule.name in rules else ""
        parts.append(f"## {rule.name}{also}\n\n{rule.summary}\n\n{body}")
    return "\n".join(parts)


def _item(line: str) -> str:
    return f"  - {line.strip()}" if line.startswith(" ") else f"- {line}"


def _show(rules: Mapping[str, Rule], name: str, *, as_json: bool) -> None:
    found: Rule | FleetRule | None = rules.get(name)
    found = found or next((one for one in fleet_rules() if one.name == name), None)
    if found is None:
        from difflib import get_close_matches  # noqa: PLC0415  only for an error

        near = get_close_matches(name[:64], list(rules), n=3, cutoff=0.4)
        hint = f": do you mean {' or '.join(near)}?" if near else "; `gputally rules list` names them"
        raise SettingsError(f"there is no rule {name!r}{hint}")
    if as_json:
        print(json.dumps(asdict(found), indent=2))
        return
    for line in _told(found):
        print(fill(line, WIDTH, subsequent_indent="    ", break_long_words=False))


def _told(rule: Rule | FleetRule) -> Iterator[str]:
    yield f"{rule.name}: {rule.summary}"
    yield f"{rule.severity}, for the {rule.audience}"
    if isinstance(rule, FleetRule):
        yield f"judged by Prometheus: {' '.join(rule.expr.split())}"
        yield f"opens after {length_in_words(rule.for_seconds)}"
    else:
        yield from _conditions(rule)
    for key, text in asdict(rule.runbook).items():
        if text:
            yield f"{key.replace('_', ' ')}: {text}"


def _conditions(rule: Rule) -> Iterator[str]:
    if not rule.enabled:
        yield "switched off"
    how_long = length_in_words(rule.for_seconds)
    yield f"opens when all of this holds for {how_long}, of which {rule.coverage_ratio:.0%} must be known:"
    for name, condition in rule.when.items():
        yield f"  {name}: {condition_in_words(condition)}"
    yield f"closes when one of them does not hold for {length_in_words(rule.clear_seconds)}"
    if rule.workloads:
        yield f"only for GPUs that are held by work of the class {' or '.join(rule.workloads)}"
    if rule.inhibited_by:
        yield f"kept quiet by {', '.join(rule.inhibited_by)}"


def _export(rules: Mapping[str, Rule], options: argparse.Namespace) -> None:
    text = _for_grafana(options) if options.format == "grafana" else _for_ruler(rules, options)
    if options.out is None:
        sys.stdout.write(text)
        return
    try:
        with whole_file(options.out) as out:
            out.write(text.encode())
    except OSError as error:
        raise SettingsError(f"cannot write {options.out}: {error.strerror}") from error


def _for_ruler(rules: Mapping[str, Rule], options: argparse.Namespace) -> str:
    from rules.groups import text_of  # noqa: PLC0415  it needs YAML

    return text_of(
        rules,
        alerting.fleet_of(options),
        alerting.interval_ms(options),
        runbook_url=alerting.runbooks_at(options),
        job=options.job,
        judged_by=options.judged_by or "store",
        ruler=options.format,
    )


def _for_grafana(options: argparse.Namespace) -> str:
    return alerting.as_file(options, alerting.source_uid(options.data_source_uid))
