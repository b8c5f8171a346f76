"""`gputally run`: the agent."""

import argparse
import contextlib
import ctypes
import logging
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.clock import now_ms
from agent.errors import SettingsError
from agent.holders.claims import Holders
from agent.holders.owners import Owners
from agent.tick import Workload
from gputally.labels import labelled
from gputally.live import Live
from gputally.logs import to_standard_error
from gputally.settings import Settings, journal_path, load

if TYPE_CHECKING:
    from agent.simulated.scenario import Simulation

log = logging.getLogger("gputally")
_M_ARENA_MAX = -8
_ARENAS = 2
"""Of glibc's malloc. Else each thread has one, up to eight for each core; they fill, and never shrink."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--simulate",
        metavar="MODELxN[:SCENARIO][!FAULT]",
        default="",
        help="simulate the driver, e.g. h200x8, t4x2:bursty, 'h200x8!hang=3@+60..+120'; "
        "a wrong one lists the choices",
    )
    live_arguments(parser)


def live_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what a running node needs to know."""
    parser.add_argument("--settings", type=Path, metavar="FILE", help="default: /etc/gputally/gputally.toml")
    parser.add_argument(
        "--journal", type=Path, metavar="FILE", help="where the accounts are kept; made when missing"
    )
    parser.add_argument(
        "--interval", type=float, metavar="SECONDS", help="what one tick covers (default: 10)"
    )
    parser.add_argument("--listen", metavar="ADDRESS", help="address of the pages (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port of the pages (default: 9740; 0 takes a free one)")
    parser.add_argument(
        "--for", dest="seconds", type=float, metavar="SECONDS", help="stop after so long; default: never"
    )


def settings_of(options: argparse.Namespace) -> Settings:
    """Read the settings and let the command line override them. Raises SettingsError."""
    settings = load(options.settings, os.environ)
    if options.interval is not None:
        poll = min(settings.agent.poll_seconds, options.interval)
        agent = replace(settings.agent, interval_seconds=options.interval, poll_seconds=poll)
        settings = replace(settings, agent=agent)
    web = {key: getattr(options, key) for key in ("listen", "port") if getattr(options, key) is not None}
    return replace(
        settings,
        web=replace(settings.web, **web),
        journal=replace(settings.journal, path=str(journal_path(options.journal, settings))),
    )


def execute(options: argparse.Namespace) -> int:
    """Run the agent until a signal, or as long as told."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # tokens of stores are in memory
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)
    to_standard_error("INFO")
    settings = settings_of(options)
    try:
        settings = labelled(settings)
    except SettingsError as error:  # the accounts are worth more than their labels
        log.error("%s; the agent goes on without its labels until it is told to reload", error)  # noqa: TRY400
    name_holders = None
    if options.simulate:
        options.simulate, simulation = simulated(options.simulate)
        name_holders = partial(holders_in, simulation)
    report = _report_options(options, settings)
    with Live(
        settings, options.simulate, name_holders, report=report, reread=lambda: labelled(settings_of(options))
    ) as live:
        live.run(options.seconds)
    return 0


def _report_options(options: argparse.Namespace, settings: Settings) -> list[str]:
    """Give what a report must be told: these settings, and this node's journal if they name no store."""
    told = {"--settings": options.settings, "--journal": None if settings.report.source else options.journal}
    return [f"{name}={path.absolute()}" for name, path in told.items() if path is not None]


def simulated(text: str) -> "tuple[str, Simulation]":
    """Check the text of a simulation, and make its times absolute. Raises SettingsError."""
    from agent.simulated.faults import parse_faults, resolve, split  # noqa: PLC0415  a real node never loads it
    from agent.simulated.scenario import parse_simulation  # noqa: PLC0415

    text = resolve(text, now_ms() / 1000)
    node, faults = split(text)
    simulation = parse_simulation(node)
    simulation.undergo(parse_faults(faults, simulation.count))
    return text, simulation


def holders_in(simulation: "Simulation", settings: Settings, at_ms: Callable[[], int] = now_ms) -> Holders:
    """Make what names the holders of a simulated node; `at_ms` is its time."""
    from agent.simulated.scheduler import Crowd, Scheduler  # noqa: PLC0415  a real node never loads it

    owners = Owners(settings.holders.map, _workload(settings), settings.holders.most_owners)
    return Holders(Crowd(simulation), (Scheduler(simulation, at_ms),), owners)


def _workload(settings: Settings) -> Workload:
    return Workload(settings.states.default_workload)
