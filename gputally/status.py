"""`gputally status`: what every GPU does now, from the journal."""

import argparse
import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from agent.clock import moment, now_ms
from agent.errors import JournalError
from agent.journal_file import connect, translated
from agent.tick import State
from gputally.settings import journal_path, load
from gputally.tables import NONE, columns, duration, tidy
from reports.now import GpuNow, Now, now

GIB = 2**30
STALE_STEPS = 3
_HEAD = ("GPU", "STATE", "BUSY", "MEMORY", "POWER", "TEMP", "OWNER", "HOLDER", "MODEL")
_RIGHT = {"BUSY", "MEMORY", "POWER", "TEMP"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    reader_arguments(parser)
    parser.add_argument("--json", action="store_true", help="for programs")


def reader_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what every reader of a journal needs to know."""
    parser.add_argument("--journal", type=Path, metavar="FILE", help="default: where `gputally run` writes")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="default: /etc/gputally/gputally.toml")


@contextlib.contextmanager
def reading(options: argparse.Namespace) -> Iterator[sqlite3.Connection]:
    """Open the journal that the options name, for reading. Raises JournalError, SettingsError."""
    path = journal_path(options.journal, load(options.settings, os.environ))
    with contextlib.closing(connect(path)) as db:
        try:
            yield db
        except sqlite3.Error as error:
            raise translated(error, path) from error


def execute(options: argparse.Namespace) -> int:
    """Print the status. Raises JournalError."""
    with reading(options) as db:
        found = now(db)
    if found is None:
        raise JournalError("the journal holds no GPU yet: is `gputally run` running, and does it see one?")
    if options.json:
        print(json.dumps(asdict(found), indent=2))
    else:
        print(table(found, now_ms()))
    return 0


def table(found: Now, at_ms: int) -> str:
    """Give the status as a table a person likes to read."""
    nodes = dict.fromkeys(gpu.node for gpu in found.gpus)
    parts = [_headline(found, at_ms)]
    for node in nodes:
        gpus = [gpu for gpu in found.gpus if gpu.node == node]
        parts.append(f"{tidy(node)}: {len(gpus)} GPUs\n{_columns([_row(gpu) for gpu in gpus])}")
    parts.append(_day(found))
    return "\n\n".join(parts)


def _headline(found: Now, at_ms: int) -> str:
    age_ms = at_ms - found.end_ms
    told = f"over {found.step_ms / 1000:g} s up to {moment(found.end_ms)}"
    if age_ms > STALE_STEPS * max(found.step_ms, 10_000):
        return f"{told}, {duration(age_ms)} ago: NOT LIVE, nothing was written since"
    return told


def _row(gpu: GpuNow) -> tuple[str, ...]:
    state = gpu.state.value
    if gpu.state in (State.HELD_GAP, State.HELD_IDLE) and gpu.inactive_ms:
        state += f" {duration(gpu.inactive_ms)}"
    if gpu.condition and gpu.condition != "ok":
        state += f" ({gpu.condition})"
    return (
        str(gpu.index),
        state,
        _cell(gpu.busy_ratio, 100, "{:.1f} %"),
        _of(gpu.memory_used_bytes, gpu.memory_total_bytes, 1 / GIB, "{:,.1f}", "/{:,.0f} GiB"),
        _of(gpu.power_watts, gpu.power_limit_watts, 1, "{:,.0f}", "/{:,.0f} W"),
        _cell(gpu.temperature_max_celsius, 1, "{:.0f} °C"),
        tidy(", ".join(gpu.owners)) or NONE,
        tidy(", ".join(gpu.holders)) or NONE,
        tidy(gpu.model) or NONE,
    )


def _cell(value: float | None, factor: float, form: str) -> str:
    return NONE if value is None else form.format(value * factor)


def _of(value: float | None, whole: float | None, factor: float, form: str, more: str) -> str:
    if value is None:
        return NONE
    unit = more.rpartition("}")[2]
    return form.format(value * factor) + (unit if whole is None else more.format(whole * factor))


def _columns(rows: list[tuple[str, ...]]) -> str:
    kept = [at for at, name in enumerate(_HEAD) if any(row[at] != NONE for row in rows) or name == "STATE"]
    return columns([_HEAD[at] for at in kept], [[row[at] for at in kept] for row in rows], _RIGHT)


def _day(found: Now) -> str:
    total = sum(found.day.values())
    told = [f"{state.value} {amount / total:.1%}" for state, amount in found.day.items() if total and amount]
    return f"last 24 h: {', '.join(told)}" if told else "last 24 h: nothing is accounted for"
