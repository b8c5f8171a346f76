"""`gputally version`: what runs here, for a report of an error or an inventory."""

import argparse
import json
import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, requires, version

from agent.schema import MIGRATIONS
from gputally.version import own_version


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="with all that it is made of, for programs")


def execute(options: argparse.Namespace) -> int:
    """Print it."""
    print(json.dumps(told(), indent=2) if options.json else f"gputally {own_version()}")
    return 0


def told() -> dict[str, object]:
    """Give the version, the journal's schema, and what it runs on; what is not installed is null."""
    return {
        "version": own_version(),
        "journal_schema": len(MIGRATIONS),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": {name: _version_of(name) for name in _needed()},
    }


def _needed() -> list[str]:
    """Name what gputally needs, and what it can use, but not what only its tests need."""
    try:
        lines = requires("gputally") or []
    except PackageNotFoundError:
        return []
    shipped = (line for line in lines if "extra ==" not in line or "'dev'" not in line.replace('"', "'"))
    names = (line.split(";")[0] for line in shipped)
    return sorted({"".join(_name(line)) for line in names}, key=str.lower)


def _name(line: str) -> str:
    end = next((place for place, sign in enumerate(line) if not (sign.isalnum() or sign in "-_.")), len(line))
    return line[:end]


def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
