"""`gputally run`: the agent."""

import argparse
import contextlib
import logging
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

from agent.books import Books
from agent.clock import SystemClock, now_ms
from agent.errors import JournalError
from agent.holders.claims import Holders
from agent.holders.owners import Owners
from agent.holders.worlds import holders_of
from agent.journal import Journal
from agent.journal_file import connect
from agent.kernel_log import KernelLog
from agent.node import Node, boot_id
from agent.prober import Prober
from agent.remarks import silenced
from agent.scene import Judge, Scene, scenes
from agent.tick import Finding, Workload
from agent.view import View
from exporters.fleet import Fleet
from exporters.page import Pages
from exporters.web import Web
from gputally.own_figures import own_figures
from gputally.settings import Settings, journal_path, load
from gputally.version import own_version
from rules.definition import Rule
from rules.load import load as load_rules
from rules.node import NodeJudge

if TYPE_CHECKING:
    from agent.simulated.scenario import Simulation
    from gputally.scheduled import Scheduled

LONGEST_LOOK_BACK_MS = 4 * 3_600_000
"""What rules ask of earlier than that begins anew when the agent starts."""
log = logging.getLogger("gputally")


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
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    settings = settings_of(options)
    holders = None
    if options.simulate:
        options.simulate, simulation = simulated(options.simulate)
        holders = holders_in(simulation, settings)
    with Live(settings, options.simulate, holders, report=_report_options(options, settings)) as live:
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


@dataclass(slots=True)
class _Stop:
    """Wakes the loop when a signal asks it to end."""

    reader: int
    writer: int
    asked: bool = False

    def ask(self, *_: object) -> None:
        self.asked = True
        with contextlib.suppress(OSError):
            os.write(self.writer, b".")


@contextlib.contextmanager
def _signals() -> Iterator[_Stop]:
    stop = _Stop(*os.pipe())
    os.set_blocking(stop.writer, False)
    before = {number: signal.signal(number, stop.ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(stop.reader)
        os.close(stop.writer)


class Live:
    """A running node: opened in order, closed in reverse, whatever happens."""

    def __init__(
        self,
        settings: Settings,
        simulation: str,
        holders: Holders | None,
        prepare: Callable[[], None] = lambda: None,
        report: Sequence[str] | None = None,
    ) -> None:
        """Take the settings; with options for `report`, the scheduled one is made as well."""
        self._settings = settings
        self._report = report
        self._scheduled: Scheduled | None = None
        self._prepare = prepare
        self._simulation = simulation
        self._holders = holders
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Bind the port, prepare, and open the journal. Raises SettingsError, JournalError."""
        with contextlib.ExitStack() as stack:
            settings, version = self._settings, own_version()
            rules = load_rules(settings.rules.path)
            pages = Pages(settings.node.labels, version, time.monotonic)
            self._web = Web(settings.web, pages, version)
            stack.callback(self._web.stop)
            self._prepare()
            clock = SystemClock(lambda _: True)
            journal = Journal(Path(settings.journal.path), settings.journal, clock.wall_ms())
            stack.callback(journal.close)
            self._stop = stack.enter_context(_signals())
            node = settings.node.resolved()
            self._prober = Prober(settings.agent, node, self._simulation, self._stop.reader)
            stack.callback(self._prober.close)
            books = Books(journal, settings.states, boot_id=boot_id(), node=node, follow_holders=True)
            journal.label(node, settings.node.labels)
            holders = self._holders or holders_of(settings.holders, _workload(settings))
            stack.callback(holders.close)
            self._prober.know(books.gpus.values())
            self._fleet = Fleet(settings.exporters.to, Path(settings.journal.path), settings.node.labels)
            stack.callback(self._fleet.close)
            self._node = Node(
                name=node,
                frames=self._prober,
                books=books,
                holders=holders,
                most_holders=settings.holders.most_series,
                clock=clock,
                cadence=settings.agent,
                publish=self._publish_to(pages),
                drain_file=settings.states.drain_file,
                kernel_log=self._kernel_log(),
                judge=self._judge_by(rules, books),
            )
            self._node.let_go_through(self._prober, Path(settings.journal.path))
            if settings.report.schedule and self._report is not None:
                self._scheduled = self._schedule(self._report)
                stack.callback(self._scheduled.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of everything."""
        self._stack.close()

    def _schedule(self, options: Sequence[str]) -> "Scheduled":
        from gputally.scheduled import Scheduled, report_command  # noqa: PLC0415  most nodes make none

        memory = Path(self._settings.journal.path).with_name("report-schedule.json")
        return Scheduled(self._settings, memory, report_command(options))

    def _publish_to(self, pages: Pages) -> Callable[[View], None]:
        """Show each interval on the pages, and tell exporters that there is one."""

        def publish(view: View) -> None:
            pages.publish(
                replace(
                    view,
                    exporters=self._fleet.standings(),
                    expected_gpus=self._settings.node.gpus,
                    silenced=self._silenced(view.findings),
                    report_ms=self._scheduled.succeeded_ms if self._scheduled else None,
                )
            )
            self._fleet.wake()

        return publish

    def _silenced(self, findings: Sequence[Finding]) -> Sequence[Finding]:
        """Tell which findings somebody silenced; a journal that cannot be read tells of none."""
        if not findings:
            return ()
        try:
            with contextlib.closing(connect(Path(self._settings.journal.path))) as db:
                return tuple(filter(silenced(db, now_ms()), findings))
        except (JournalError, sqlite3.Error):
            return ()

    def _judge_by(self, rules: Mapping[str, Rule], books: Books) -> Judge:
        """Make what judges each interval, and let it know of those before the start."""
        settings = self._settings
        interval_seconds = settings.agent.interval_seconds
        judge = NodeJudge(rules, round(interval_seconds * 1000), books.findings.open)
        until_ms = now_ms()
        from_ms = until_ms - min(judge.gpus.window_ms, LONGEST_LOOK_BACK_MS)
        with contextlib.closing(connect(Path(settings.journal.path))) as db:
            judge.gpus.look_back(scenes(db, from_ms, until_ms, judge.gpus.quantities))

        stores = frozenset(one.name for one in settings.exporters.to if not one.tells)

        def judge_all(scene: Scene) -> Iterable[Finding]:
            figures = own_figures(
                scene,
                self._node.health(),
                self._fleet.standings(),
                stores=stores,
                interval_seconds=interval_seconds,
                gpus=settings.node.gpus,
            )
            return judge.judge(replace(scene, figures=figures))

        return judge_all

    def _kernel_log(self) -> KernelLog | None:
        """Choose the kernel's log to read; a simulation has none."""
        path = self._settings.node.kernel_log
        return KernelLog(Path(path)) if path and not self._simulation else None

    @property
    def url(self) -> str:
        """Where the node's page is."""
        host = self._settings.web.listen
        return f"http://{f'[{host}]' if ':' in host else host}:{self._web.port}/"

    def run(self, seconds: float | None = None) -> None:
        """Watch until a signal comes or the time is over."""
        self._node.begin(round(psutil.boot_time() * 1000))
        self._web.start()
        self._fleet.start()
        if self._scheduled:
            self._scheduled.start()
        log.info(
            "gputally %s watches node %s every %g s into %s; pages at %s",
            own_version(),
            self._settings.node.resolved(),
            self._settings.agent.interval_seconds,
            self._settings.journal.path,
            self.url,
        )
        until = None if seconds is None else time.monotonic() + seconds
        while not self._stop.asked:
            left = 3600.0 if until is None else until - time.monotonic()
            if left <= 0:
                break
            self._node.step(left)
        self._node.end(self._prober.finish())
        log.info("gputally ends")
