"""A running node: its parts, wired once, and changed one by one when settings are read again."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import psutil

from agent.books import Books
from agent.clock import SystemClock, now_ms
from agent.errors import GputallyError
from agent.holders.claims import Holders
from agent.holders.worlds import holders_of
from agent.journal import Journal
from agent.journal_file import connect
from agent.kernel_log import KernelLog
from agent.node import Node, boot_id
from agent.prober import SILENCE_SECONDS, Prober
from agent.remarks import silenced_in
from agent.scene import Scene, scenes
from agent.tick import Finding, Workload
from agent.view import View
from exporters.fleet import Fleet
from exporters.page import Pages
from exporters.web import Web
from gputally.changes import changed, in_words
from gputally.notify import Systemd, status_of
from gputally.own_figures import own_figures
from gputally.settings import Settings
from gputally.signals import signals
from gputally.version import own_version
from rules.definition import Rule
from rules.load import load as load_rules
from rules.node import NodeJudge

if TYPE_CHECKING:
    from gputally.scheduled import Scheduled

LONGEST_LOOK_BACK_MS = 4 * 3_600_000
"""What rules ask of earlier than that begins anew when the agent starts."""
log = logging.getLogger("gputally")


def real_holders(settings: Settings) -> Holders:
    """Make what names the holders of a real node."""
    return holders_of(settings.holders, Workload(settings.states.default_workload))


class _Fresh(NamedTuple):
    """What new settings need and what could fail, made before anything is changed; None for what stays."""

    rules: Mapping[str, Rule]
    scheduled: "Scheduled | None"
    holders: Holders | None
    web: Web | None


class Live:
    """A running node: opened in order, closed in reverse, whatever happens."""

    def __init__(
        self,
        settings: Settings,
        simulation: str = "",
        name_holders: Callable[[Settings], Holders] | None = None,
        *,
        prepare: Callable[[], None] = lambda: None,
        report: Sequence[str] | None = None,
        reread: Callable[[], Settings] | None = None,
    ) -> None:
        """Take the settings; with options for `report`, the scheduled one is made as well.

        `reread` gives the settings anew when SIGHUP asks for that.
        """
        self._settings = settings
        self._reread = reread or (lambda: settings)
        self._report = report
        self._scheduled: Scheduled | None = None
        self._prepare = prepare
        self._simulation = simulation
        self._name_holders = name_holders or real_holders
        self._systemd = Systemd()
        self._status = ""
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Bind the port, prepare, and open the journal. Raises SettingsError, JournalError."""
        with contextlib.ExitStack() as stack:
            self._systemd = Systemd.of(os.environ)
            stack.callback(self._systemd.close)
            settings, version = self._settings, own_version()
            self._rules: Mapping[str, Rule] = load_rules(settings.rules.path)
            self._pages = Pages(settings.node.labels, version, time.monotonic)
            self._web = Web(settings.web, self._pages, version)
            stack.callback(self._stop_web)
            self._prepare()
            clock = SystemClock(lambda _: True)
            self._journal = Journal(Path(settings.journal.path), settings.journal, clock.wall_ms())
            stack.callback(self._journal.close)
            self._asked = stack.enter_context(signals())
            node = settings.node.resolved()
            self._prober = Prober(settings.agent, node, self._simulation, self._asked.reader)
            stack.callback(self._prober.close)
            self._books = Books(
                self._journal, settings.states, boot_id=boot_id(), node=node, follow_holders=True
            )
            self._journal.label(node, settings.node.labels)
            self._holders = self._name_holders(settings)
            stack.callback(self._close_holders)
            self._prober.know(self._books.gpus.values())
            self._fleet = self._new_fleet(settings)
            stack.callback(self._close_fleet)
            self._judge = self._new_judge(self._rules)
            self._node = Node(
                name=node,
                frames=self._prober,
                books=self._books,
                holders=self._holders,
                most_holders=settings.holders.most_series,
                clock=clock,
                cadence=settings.agent,
                publish=self._publish,
                drain_file=settings.states.drain_file,
                kernel_log=self._kernel_log(),
                judge=self._judge_all,
            )
            self._node.let_go_through(self._prober, Path(settings.journal.path))
            self._scheduled = self._new_schedule(settings)
            stack.callback(self._end_schedule)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of everything."""
        self._stack.close()

    def _stop_web(self) -> None:
        self._web.stop()

    def _close_holders(self) -> None:
        self._holders.close()

    def _close_fleet(self) -> None:
        self._fleet.close()

    def _new_schedule(self, settings: Settings) -> "Scheduled | None":
        if not settings.report.schedule or self._report is None:
            return None
        from gputally.scheduled import Scheduled, report_command  # noqa: PLC0415  most nodes make none

        memory = Path(settings.journal.path).with_name("report-schedule.json")
        return Scheduled(settings, memory, report_command(self._report))

    def _end_schedule(self) -> None:
        if self._scheduled:
            self._scheduled.stop()

    def _new_fleet(self, settings: Settings) -> Fleet:
        return Fleet(settings.exporters.to, Path(settings.journal.path), settings.node.labels)

    def _publish(self, view: View) -> None:
        """Show an interval on the pages, and tell exporters and systemd that there is one."""
        self._pages.publish(
            replace(
                view,
                exporters=self._fleet.standings(),
                expected_gpus=self._settings.node.gpus,
                silenced=silenced_in(Path(self._settings.journal.path), view.findings, now_ms()),
                report_ms=self._scheduled.succeeded_ms if self._scheduled else None,
            )
        )
        self._fleet.wake()
        self._status = status_of(view)

    def _new_judge(self, rules: Mapping[str, Rule]) -> NodeJudge:
        """Make what judges each interval, and let it know of those before."""
        interval_ms = round(self._settings.agent.interval_seconds * 1000)
        judge = NodeJudge(rules, interval_ms, self._books.findings.open)
        until_ms = now_ms()
        from_ms = until_ms - min(judge.gpus.window_ms, LONGEST_LOOK_BACK_MS)
        with closing(connect(Path(self._settings.journal.path))) as db:
            judge.gpus.look_back(scenes(db, from_ms, until_ms, judge.gpus.quantities))
        return judge

    def _judge_all(self, scene: Scene) -> Iterable[Finding]:
        settings = self._settings
        figures = own_figures(
            scene,
            self._node.health(),
            self._fleet.standings(),
            stores=frozenset(one.name for one in settings.exporters.to if not one.tells),
            interval_seconds=settings.agent.interval_seconds,
            gpus=settings.node.gpus,
        )
        return self._judge.judge(replace(scene, figures=figures))

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
        self._ready()
        until = None if seconds is None else time.monotonic() + seconds
        while not self._asked.end:
            left = 3600.0 if until is None else until - time.monotonic()
            if left <= 0:
                break
            self._node.step(left)
            self._systemd.got_on(self._node.ticks, self._status)
            if self._asked.takes_reload():
                self.reload()
        self._systemd.stopping()
        self._node.end(self._prober.finish())
        log.info("gputally ends")

    def _ready(self) -> None:
        silence_seconds = self._settings.agent.interval_seconds + SILENCE_SECONDS
        self._systemd.ready(self._status or f"pages at {self.url}", silence_seconds)

    def reload(self) -> None:
        """Read the settings again and take all of them, or, if anything is wrong, none; the log says so."""
        self._systemd.reloading()
        try:
            settings = self._reread()
            keys = changed(self._settings, settings)
            fresh = self._made_for(settings, keys)
        except GputallyError as error:
            log.error("new settings are refused, those before stay in force: %s", error)  # noqa: TRY400
        else:
            more = self._take(settings, keys, fresh)
            told = ", ".join([*([in_words(keys)] if keys else []), *more])
            log.info("settings were read again; %s", f"new: {told}" if told else "nothing changed")
        self._ready()

    def _made_for(self, settings: Settings, keys: frozenset[tuple[str, str]]) -> _Fresh:
        """Make what could fail. Raises GputallyError, and has changed nothing then."""
        sections = {section for section, _ in keys}
        rules = load_rules(settings.rules.path)
        scheduled = self._new_schedule(settings) if sections & {"report", "mail"} else self._scheduled
        names_anew = "holders" in sections or ("states", "default_workload") in keys
        holders = self._name_holders(settings) if names_anew else None
        try:
            web = self._new_web(settings) if "web" in sections else None
        except GputallyError:
            if holders:
                holders.close()
            raise
        return _Fresh(rules, scheduled, holders, web)

    def _new_web(self, settings: Settings) -> Web:
        """Bind another port, or share that of the present server."""
        old, new = self._settings.web, settings.web
        is_here = (old.listen, old.port) == (new.listen, new.port)
        return Web(new, self._pages, own_version(), like=self._web if is_here else None)

    def _take(self, settings: Settings, keys: frozenset[tuple[str, str]], fresh: _Fresh) -> list[str]:
        """Put new settings in force, between two intervals; name what changed in files they only name."""
        sections, more = {section for section, _ in keys}, []
        self._settings = settings
        if "agent" in sections:
            for tick in self._prober.adopt(settings.agent):
                self._node.take(tick)
        self._books.adopt(settings.states)
        self._journal.settings = settings.journal
        relabels = ("node", "labels") in keys
        if relabels:
            self._pages.relabel(settings.node.labels)
            self._journal.label(settings.node.resolved(), settings.node.labels)
        if fresh.holders:
            self._holders.close()
            self._holders = fresh.holders
            self._holders.expect(self._books.gpus.values())
        self._node.adopt(
            settings.agent,
            holders=self._holders,
            most_holders=settings.holders.most_series,
            drain_file=settings.states.drain_file,
        )
        if "exporters" in sections or relabels:  # secrets are read anew whenever a store refuses them
            self._fleet.close()
            self._fleet = self._new_fleet(settings)
            self._fleet.start()
        if fresh.rules != self._rules or "agent" in sections:
            more += [] if fresh.rules == self._rules or "rules" in sections else ["rules"]
            self._rules = fresh.rules
            self._judge = self._new_judge(fresh.rules)
        if fresh.web:
            fresh.web.start()
            self._web.stop()
            self._web = fresh.web
        if fresh.scheduled is not self._scheduled:
            self._end_schedule()
            self._scheduled = fresh.scheduled
            if self._scheduled:
                self._scheduled.start()
        return more
