"""Which alert rules commands export, provision and push: their options, and the rules for Grafana."""

import argparse
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import SettingsError
from gputally.settings import load as load_settings
from rules.definition import Rule, RuleError
from rules.fleet import FleetRule, fleet_rules
from rules.load import duration_seconds, load

if TYPE_CHECKING:
    from rules.grafana import Group

STORE_UID = "gputally-store"
"""The data source that `gputally dashboards` makes."""
Options = argparse._ArgumentGroup  # noqa: SLF001  argparse names it nowhere else
_UID = re.compile(r"[a-zA-Z0-9_-]{1,40}")


def own_rules(parser: argparse.ArgumentParser | Options) -> None:
    """Declare where rules are read from."""
    parser.add_argument("--rules", type=Path, metavar="FILE", help="rules of your own; default: [rules] file")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="default: /etc/gputally/gputally.toml")


def judging(parser: argparse.ArgumentParser | Options, judged_by: str) -> None:
    """Declare how rules are judged; `judged_by` says what the default is."""
    parser.add_argument(
        "--judged-by",
        choices=("store", "node"),
        help="whether alerts tell what the nodes found, or what the store judges of what it is told: then "
        f"the recording rules of `gputally rules export` must run there (default: {judged_by})",
    )
    parser.add_argument("--interval", metavar="10s", help="between two scrapes; default: the agent's")
    parser.add_argument(
        "--runbook-url", metavar="URL", help="where the runbooks stand; #NAME is put behind it"
    )
    parser.add_argument("--job", default="gputally", metavar="NAME", help="scrape job (default: gputally)")
    parser.add_argument(
        "--no-fleet", action="store_true", help="without the rules that only a fleet can judge"
    )


def rules_of(options: argparse.Namespace) -> Mapping[str, Rule]:
    """Read the rules that are meant. Raises SettingsError."""
    if options.rules:
        return load(Path(options.rules))
    return load(load_settings(options.settings, os.environ).rules.path)


def fleet_of(options: argparse.Namespace) -> tuple[FleetRule, ...]:
    """Give the rules about the fleet that are meant."""
    return () if options.no_fleet else fleet_rules()


def interval_ms(options: argparse.Namespace) -> int:
    """Give how far two samples of an agent lie apart. Raises SettingsError."""
    if options.interval is None:
        return round(load_settings(options.settings, os.environ).agent.interval_seconds * 1000)
    try:
        seconds = duration_seconds("--interval", options.interval)
    except RuleError as wrong:
        raise SettingsError(f"--interval: {wrong}") from wrong
    if not 1 <= seconds <= 300:  # noqa: PLR2004
        raise SettingsError("--interval must lie between 1s and 5m")
    return round(seconds * 1000)


def runbooks_at(options: argparse.Namespace) -> str:
    """Give what #NAME of a rule is put behind."""
    from rules.groups import RUNBOOK_URL  # noqa: PLC0415  it needs YAML

    return str(options.runbook_url or RUNBOOK_URL).rstrip("#")


def source_uid(told: str) -> str:
    """Give the UID of a data source that somebody named. Raises SettingsError."""
    if not _UID.fullmatch(told):
        raise SettingsError("--data-source-uid must be a UID of Grafana: up to 40 of a-z, A-Z, 0-9, - and _")
    return told


def for_grafana(options: argparse.Namespace, source: str) -> "tuple[Group, ...]":
    """Make the alert rules for a data source of Grafana. Raises SettingsError."""
    from rules.grafana import groups  # noqa: PLC0415  it needs YAML

    return groups(
        rules_of(options),
        fleet_of(options),
        interval_ms(options),
        source,
        runbook_url=runbooks_at(options),
        job=options.job,
        judged_by=options.judged_by or "node",
    )


def as_file(options: argparse.Namespace, source: str) -> str:
    """Make the file that Grafana reads when it starts. Raises SettingsError."""
    from rules.grafana import file_of, unused  # noqa: PLC0415  it needs YAML

    return file_of(for_grafana(options, source), unused(rules_of(options)))
