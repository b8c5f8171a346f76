"""`gputally dashboards`: dashboards and alert rules for Grafana, as files or brought into a running one."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import yaml

from agent.errors import GputallyError, SettingsError, StoreError
from dashboards.build import RULES, files
from dashboards.outline import Config, Language
from gputally import alerting
from gputally.addresses import address
from gputally.output import whole_file

EPILOG = """\
  gputally dashboards build --out dashboards          to import by hand, or to keep in git
  gputally dashboards provision --out /etc/grafana/provisioning --data-source http://victoria:8428
  gputally dashboards build --out dashboards --no-recording     a fleet of some hundred GPUs, no rules
  gputally dashboards build --out influx --language influxql    Fleet, Node and GPU out of an InfluxDB
  gputally dashboards push --url https://grafana.example.org --token-file token --dry-run

gputally.recording.yaml goes to Prometheus (rule_files) or vmalert (-rule): dashboards ask for what it records
"""
FOLDER = "gputally"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their options."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = actions.add_parser("build", help="write JSON to import, and recording rules", allow_abbrev=False)
    provision = actions.add_parser(
        "provision", help="write the folders that Grafana reads when it starts", allow_abbrev=False
    )
    provision.add_argument(
        "--dashboards-folder",
        type=Path,
        metavar="FOLDER",
        help="where Grafana will find the JSON (default: dashboards/gputally in --out)",
    )
    push = actions.add_parser("push", help="bring it all into a running Grafana", allow_abbrev=False)
    _push_arguments(push)
    for each in (build, provision):
        each.add_argument(
            "--out", type=Path, required=True, metavar="FOLDER", help="where to write; made if new"
        )
    for each in (build, provision, push):
        _common(each)
    for each in (provision, push):
        _alerting(each)


def _push_arguments(push: argparse.ArgumentParser) -> None:
    push.add_argument("--url", required=True, metavar="URL", help="a Grafana from 11.0 on; may have a path")
    push.add_argument(
        "--token-file", type=Path, metavar="FILE", help="the token of a service account with the role Editor"
    )
    push.add_argument("--ca-file", type=Path, metavar="FILE", help="who signed Grafana's certificate")
    push.add_argument("--dry-run", action="store_true", help="write nothing, tell what would change")


def _alerting(parser: argparse.ArgumentParser) -> None:
    several = parser.add_argument_group("alert rules")
    source = several.add_mutually_exclusive_group()
    source.add_argument(
        "--data-source", default="", metavar="URL", help="also make this store a data source, and ask it"
    )
    source.add_argument(
        "--data-source-uid", default="", metavar="UID", help="ask one that Grafana has by now"
    )
    several.add_argument("--no-alerts", action="store_true", help="without alert rules")
    alerting.own_rules(several)
    alerting.judging(several, "node")


def _common(parser: argparse.ArgumentParser) -> None:
    config = Config()
    parser.add_argument(
        "--cluster-label",
        default=config.cluster_label,
        metavar="NAME",
        help=f"the label that tells clusters (default: {config.cluster_label})",
    )
    parser.add_argument(
        "--pool-label",
        default=config.pool_label,
        metavar="NAME",
        help=f"the label that tells pools (default: {config.pool_label})",
    )
    parser.add_argument(
        "--price",
        type=float,
        default=config.price,
        metavar="MONEY",
        help=f"of a GPU-hour (default: {config.price:g}, not your contract)",
    )
    parser.add_argument(
        "--no-recording",
        action="store_true",
        help="ask for every GPU instead of what recording rules keep: for some hundred GPUs",
    )
    parser.add_argument(
        "--language",
        choices=get_args(Language),
        default=config.language,
        help="influxql for Fleet, Node and GPU out of an InfluxDB (default: promql)",
    )


def execute(options: argparse.Namespace) -> int:
    """Write the files. Raises SettingsError, GputallyError."""
    try:
        config = Config(
            cluster_label=options.cluster_label,
            pool_label=options.pool_label,
            recorded=not options.no_recording,
            price=options.price,
            language=options.language,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if options.action != "build":
        _check_language(options)
    if options.action == "push":
        return _push(config, options)
    made = _made(config)
    if options.action == "provision":
        made = _provisioned(made, options)
    for name, text in made.items():
        _write(options.out / name, text)
    return 0


def _check_language(options: argparse.Namespace) -> None:
    """Refuse what only stores that speak PromQL have. Raises SettingsError."""
    if options.language == "influxql" and (options.data_source or not options.no_alerts):
        raise SettingsError(
            "--language influxql needs --no-alerts, and no --data-source: alert rules are in PromQL, "
            "and an InfluxDB is made a data source in Grafana itself"
        )


def _push(config: Config, options: argparse.Namespace) -> int:
    if options.data_source:
        address("--data-source", options.data_source)
    source = alerting.source_uid(options.data_source_uid) if options.data_source_uid else ""
    try:
        from gputally.grafana import Grafana  # noqa: PLC0415  only who pushes needs the client
        from gputally.grafana_push import Wanted, push  # noqa: PLC0415  same
    except ImportError as error:
        raise SettingsError(
            "dashboards are pushed by grafana-client: pip install 'gputally[dashboards]'"
        ) from error
    wanted = Wanted(
        dashboards={name: text for name, text in _made(config).items() if name.endswith(".json")},
        store=options.data_source,
        source=source,
        alerts=None if options.no_alerts else lambda uid: alerting.for_grafana(options, uid),
    )
    with Grafana(options.url, token_file=options.token_file, ca_file=options.ca_file) as grafana:
        done = push(grafana, wanted, print, dry_run=options.dry_run)
    if done.refused:
        raise StoreError(f"{len(done.refused)} of {done.count} were not brought: {', '.join(done.refused)}")
    print(done.in_words(dry_run=options.dry_run))
    return 0


def _made(config: Config) -> Mapping[str, str]:
    try:
        return files(config)
    except ImportError as error:
        raise SettingsError(
            "dashboards are made by Grafana's own types: pip install 'gputally[dashboards]', "
            "or take the ready ones out of dashboards/json of the source"
        ) from error


def _provisioned(made: Mapping[str, str], options: argparse.Namespace) -> Mapping[str, str]:
    """Give the files by where Grafana looks for them."""
    place = (options.dashboards_folder or options.out / "dashboards" / FOLDER).absolute()
    provider = {
        "name": FOLDER,
        "folder": FOLDER,
        "type": "file",
        "allowUiUpdates": False,
        "options": {"path": str(place)},
    }
    found = {f"dashboards/{FOLDER}.yaml": yaml.safe_dump({"apiVersion": 1, "providers": [provider]})}
    for name, text in made.items():
        found[name if name == RULES else f"dashboards/{FOLDER}/{name}"] = text
    if store := options.data_source:
        address("--data-source", store)
        told = {
            "name": FOLDER,
            "uid": alerting.STORE_UID,
            "type": "prometheus",
            "access": "proxy",
            "url": store,
        }
        found[f"datasources/{FOLDER}.yaml"] = yaml.safe_dump({"apiVersion": 1, "datasources": [told]})
    source = alerting.STORE_UID if store else options.data_source_uid
    if source and not options.no_alerts:
        found[f"alerting/{FOLDER}.yaml"] = alerting.as_file(options, alerting.source_uid(source))
    elif not options.no_alerts:
        print("no alert rules: they need --data-source URL or --data-source-uid UID")
    return found


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as out:
            out.write(text.encode())
    except OSError as error:
        raise GputallyError(f"cannot write {path}: {error.strerror or error}") from error
    print(f"wrote {path}")
