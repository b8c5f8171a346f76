"""A node without processes: frames by hand, virtual time, real books and a real journal."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.books import Books
from agent.cadence import SamplerSettings
from agent.clock import VirtualClock
from agent.frames import Absent, Alive, Frame
from agent.holders.cgroups import Place
from agent.holders.claims import Holders
from agent.holders.owners import Owners
from agent.holders.processes import Seen
from agent.journal import Journal, JournalSettings
from agent.node import Node
from agent.prober import Ended, Hung
from agent.release import ask
from agent.states import StateSettings
from agent.tick import Condition, Gpu, Process, State, Tick, Workload, reading_of
from agent.view import View
from exporters.page import Pages
from tests.command.journals import check_identity, rows

MIDNIGHT = 1_767_657_600_000
"""Tuesday 6 January 2026, 00:00 UTC."""
INTERVAL_MS = 10_000
NODE = "hall2-n017"
GPUS = tuple(
    Gpu(uuid=f"GPU-5c1b0e4a-{index:04d}", index=index, model="NVIDIA H200", driver="570.86.15")
    for index in range(2)
)
NO_DRIVER = "the NVIDIA driver's library libnvidia-ml.so.1 is not installed: install the driver"
WORK = {"busy_ratio": 0.9, "memory_used_bytes": 9e10, "memory_total_bytes": 1.5e11, "power_watts": 610.0}
SETTLE_MS = 350

Came = Frame | Ended | Hung | None


def tick(start_ms: int, end_ms: int | None = None, gpus: Sequence[Gpu] = GPUS) -> Tick:
    """Make the tick of an interval in which all GPUs worked."""
    end_ms = start_ms + INTERVAL_MS if end_ms is None else end_ms
    readings = tuple(
        reading_of(gpu.uuid, start_ms, end_ms, WORK, processes=(Process(pid=4000 + gpu.index),))
        for gpu in gpus
    )
    return Tick(
        node=NODE, start_ms=start_ms, end_ms=end_ms, gpus=tuple(gpus), readings=readings, driver_calls=80
    )


class Frames:
    """Frames of a probe by hand. A tick comes when it is settled; without a frame the time goes by."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.coming: list[Came] = []
        self.last: list[Tick] = []
        self.stuck = 0
        self._resting = False

    def next(self, timeout_seconds: float) -> Came:
        """Give the next frame; when there is none, wait and give None."""
        frame = self.coming.pop(0) if self.coming else None
        if frame is None:
            self._clock.wait(timeout_seconds)
        elif isinstance(frame, Tick):
            self._clock.wait((frame.end_ms + SETTLE_MS - self._clock.wall_ms()) / 1000)
        return frame

    def finish(self) -> list[Tick]:
        """Give what the probe had still to say."""
        last, self.last = self.last, []
        return last

    def rest(self) -> None:
        """Note that no probe may run."""
        self._resting = True

    def resume(self) -> None:
        """Note that a probe may run again."""
        self._resting = False

    def rests(self) -> bool:
        """Tell whether no probe may run."""
        return self._resting


class Host:
    """Answers for processes at once."""

    def __init__(self, ask: Callable[[int], Seen | None]) -> None:
        self._ask = ask

    def resolve(self, pids: Iterable[int]) -> Mapping[int, Seen | None]:
        """Tell of all of them."""
        return {pid: self._ask(pid) for pid in pids}

    def close(self) -> None:
        """End nothing."""


class Played:
    """A node, and all that is around it."""

    def __init__(
        self,
        path: Path,
        now_ms: int,
        drain_file: str,
        ask: Callable[[int], Seen | None],
        *,
        holders: Holders | None = None,
        most_holders: int = 512,
    ) -> None:
        self.clock = VirtualClock(now_ms)
        self.frames = Frames(self.clock)
        self.journal = Journal(path, JournalSettings(sync="normal"), now_ms)
        self.views: list[View] = []
        self.node = Node(
            name=NODE,
            frames=self.frames,
            books=Books(self.journal, StateSettings(), boot_id="boot-1", node=NODE, follow_holders=True),
            holders=holders or Holders(Host(ask), (), Owners((), Workload.BATCH, 100)),
            most_holders=most_holders,
            clock=self.clock,
            cadence=SamplerSettings(),
            publish=self.views.append,
            drain_file=drain_file,
        )
        self.node.let_go_through(self.frames, path)
        self.node.begin(MIDNIGHT - 86_400_000)

    def play(self, *frames: Came) -> None:
        """Let frames come, one step each; None is a silence that lasts until the node enters it."""
        for frame in frames:
            self.frames.coming.append(frame)
            views = len(self.views)
            self.node.step(3600)
            while frame is None and len(self.views) == views:
                self.node.step(3600)

    def passes(self, seconds: float) -> None:
        """Let so much time go by in which nothing comes."""
        end_ms = self.clock.wall_ms() + round(seconds * 1000)
        while self.clock.wall_ms() < end_ms:
            self.node.step((end_ms - self.clock.wall_ms()) / 1000)

    def works(self, count: int, from_ms: int = MIDNIGHT) -> int:
        """Let the GPUs work for some intervals; give the end."""
        self.play(*(tick(from_ms + number * INTERVAL_MS) for number in range(count)))
        return from_ms + count * INTERVAL_MS

    @property
    def view(self) -> View:
        """The latest view."""
        return self.views[-1]

    def limit(self, pages: int) -> None:
        """Let the journal's disk have room for so many pages more."""
        db = self.journal._db
        used = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {used + pages}")


def alice(_pid: int) -> Seen:
    """Say that every process is hers."""
    return Seen("alice", "python train.py", Place(), 0)


@contextmanager
def playing(
    path: Path,
    *,
    now_ms: int = MIDNIGHT,
    drain_file: str = "",
    ask: Callable[[int], Seen | None] = alice,
    holders: Holders | None = None,
    most_holders: int = 512,
) -> Iterator[Played]:
    """Run a node, and check in the end that its accounts add up."""
    played = Played(path, now_ms, drain_file, ask, holders=holders, most_holders=most_holders)
    try:
        yield played
    finally:
        played.journal.close()
    if played.views:
        check_identity(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a journal."""
    return tmp_path / "j.db"


def by_state(path: Path) -> dict[str, int]:
    """Give the milliseconds of all GPUs by state."""
    ask = "SELECT state, sum(elapsed_ms) FROM account GROUP BY state HAVING sum(elapsed_ms) > 0"
    return {str(state): int(elapsed_ms) for state, elapsed_ms in rows(path, ask)}


def kinds(path: Path) -> list[str]:
    """Give the kinds of the events of the node, in order."""
    return [str(kind) for (kind,) in rows(path, "SELECT kind FROM event ORDER BY id")]


def said(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    """Give what was logged at a level."""
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_ticks_become_accounts_and_views(path: Path) -> None:
    """Each tick is committed when its view is published, with states, holders and counts."""
    with playing(path) as played:
        played.works(3)

        assert rows(path, "SELECT count(*) FROM tick") == [(3,)]
        assert len(played.views) == 3
        assert played.view.states == dict.fromkeys((gpu.uuid for gpu in GPUS), State.ACTIVE)
        assert [one.owner for one, _ in played.view.holders[GPUS[0].uuid]] == ["alice"]
        health = played.view.health
        assert (health.ticks, health.blind_ticks, health.driver_calls, health.journal_pending) == (
            3,
            0,
            240,
            0,
        )
    assert by_state(path) == {"active": 60_000}


def test_signs_of_life_are_no_ticks(path: Path) -> None:
    """Between ticks a probe says that it lives; that publishes nothing."""
    with playing(path) as played:
        played.play(Alive(), Alive(), tick(MIDNIGHT), Alive())

        assert len(played.views) == 1


def test_silence_becomes_unknown_ticks(path: Path) -> None:
    """While the probe is silent the time is entered as unknown, interval by interval, and it is counted."""
    with playing(path) as played:
        end_ms = played.works(1)
        played.play(None, None, None)

        spans = [(view.tick.start_ms, view.tick.end_ms) for view in played.views[1:]]
        assert spans == [(end_ms + n * INTERVAL_MS, end_ms + (n + 1) * INTERVAL_MS) for n in range(3)]
        assert set(played.view.states.values()) == {State.UNKNOWN}
        assert played.view.readings == {}
        assert (played.view.health.ticks, played.view.health.blind_ticks) == (4, 3)
        played.works(1, end_ms + 4 * INTERVAL_MS)
        assert set(played.view.states.values()) == {State.ACTIVE}
    assert by_state(path) == {"active": 40_000, "unknown": 80_000}


def test_a_node_that_never_read_a_gpu_has_no_accounts(path: Path) -> None:
    """Without any GPU silence publishes views without GPUs, and nothing is owed."""
    with playing(path) as played:
        played.play(Absent(NO_DRIVER), Ended(NO_DRIVER, 1.0), None)

        assert played.view.gpus == {}
        assert played.view.health.absent == NO_DRIVER
        played.views.clear()
    assert by_state(path) == {}


def test_what_is_missing_is_said_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However often a probe finds no driver, it is logged once, and once again when the GPUs are back."""
    caplog.set_level(logging.DEBUG, "gputally")
    with playing(path) as played:
        for seconds in (1.0, 2.0, 4.0):
            played.play(Absent(NO_DRIVER), Ended(NO_DRIVER, seconds))
        assert said(caplog, logging.WARNING) == [
            f"the GPUs cannot be read now: {NO_DRIVER} (will go on trying)"
        ]
        assert "the GPUs are being read again" not in said(caplog, logging.INFO)

        played.works(2)
        assert said(caplog, logging.INFO).count("the GPUs are being read again") == 1
        assert played.view.health.absent == ""
        assert played.view.health.probe_restarts == 3

        played.play(Ended("it ended with exit code -9", 1.0), Alive())
        assert len(said(caplog, logging.WARNING)) == 2
        assert said(caplog, logging.INFO).count("the GPUs are being read again") == 2
        played.works(1, MIDNIGHT + 2 * INTERVAL_MS)
    assert kinds(path) == ["probe_absent", "probe_back", "probe_absent", "probe_back"]


def test_another_reason_is_said_as_well(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When the reason changes, the new one is logged."""
    with playing(path) as played:
        played.play(Absent(NO_DRIVER), Absent("the driver has another version"), Absent(NO_DRIVER))

        assert len(said(caplog, logging.WARNING)) == 3


def test_a_late_tick_is_not_counted_twice(path: Path) -> None:
    """A tick for time that was entered as unknown already adds nothing, and is told as an event."""
    with playing(path) as played:
        end_ms = played.works(1)
        played.play(None)
        assert by_state(path) == {"active": 20_000, "unknown": 20_000}
        played.play(tick(end_ms))
        assert by_state(path) == {"active": 20_000, "unknown": 20_000}
        played.works(1, end_ms + INTERVAL_MS)
    assert by_state(path) == {"active": 40_000, "unknown": 20_000}
    assert kinds(path) == ["time_already_entered"]


def test_a_tick_that_overlaps_adds_only_what_is_new(path: Path) -> None:
    """Of a tick that begins in time entered already, only the rest is counted."""
    with playing(path) as played:
        end_ms = played.works(1)
        played.play(None)
        played.play(tick(end_ms + 4_000, end_ms + 2 * INTERVAL_MS))
    assert by_state(path) == {"active": 40_000, "unknown": 20_000}


@pytest.mark.parametrize("back_seconds", [30, 3600])
def test_a_clock_that_is_set_back_counts_nothing_twice(path: Path, back_seconds: int) -> None:
    """After the clock went back no time is entered again, and ticks count when new time begins."""
    with playing(path) as played:
        end_ms = played.works(6)
        played.clock.step(-back_seconds)
        played.works(3, end_ms - back_seconds * 1000)
        assert sum(by_state(path).values()) == 120_000
        played.works(2, end_ms)
    assert by_state(path) == {"active": 160_000}


def test_silence_after_a_clock_was_set_back_counts_nothing_twice(path: Path) -> None:
    """When the probe is silent after the clock went back, time that is entered is not entered as unknown."""
    with playing(path) as played:
        played.works(6)
        played.clock.step(-3600)
        played.passes(200)

        assert played.view.health.blind_ticks > 10
    assert by_state(path) == {"active": 120_000}


def test_a_clock_that_is_set_forward_leaves_unknown_time(path: Path) -> None:
    """After the clock went forward the time in between is unknown."""
    with playing(path) as played:
        end_ms = played.works(1)
        played.clock.step(3600)
        played.works(1, end_ms + 3_600_000)
    assert by_state(path) == {"active": 40_000, "unknown": 7_200_000}


def test_a_long_silence_is_one_tick(path: Path) -> None:
    """When the agent itself did not run for hours, as in a stopped process, all of it is unknown."""
    with playing(path) as played:
        end_ms = played.works(1)
        played.clock.wait(5 * 3600 - SETTLE_MS / 1000)
        played.play(None)
        assert len(played.views) == 2
        assert played.view.tick.end_ms == end_ms + 5 * 3_600_000
    assert by_state(path) == {"active": 20_000, "unknown": 2 * 18_000_000}


def test_a_set_clock_is_no_silence(path: Path) -> None:
    """A tick that comes after the clock was set forward is waited for as if nobody had set it."""
    with playing(path) as played:
        end_ms = played.works(1)
        played.clock.step(3600)
        played.play(Alive(), tick(end_ms), tick(end_ms + 3_600_000))
    assert by_state(path) == {"active": 60_000, "unknown": 2 * 3_590_000}


def test_a_drain_file_drains_the_node(path: Path, tmp_path: Path) -> None:
    """While an empty drain file exists all GPUs are drained, from one tick to the next."""
    drain = tmp_path / "drain"
    with playing(path, drain_file=str(drain)) as played:
        end_ms = played.works(1)
        drain.touch()
        end_ms = played.works(2, end_ms)
        assert set(played.view.states.values()) == {State.DRAINED}
        drain.unlink()
        played.works(1, end_ms)
        assert set(played.view.states.values()) == {State.ACTIVE}
    assert by_state(path) == {"active": 40_000, "drained": 40_000}


@pytest.mark.parametrize("text", ["{0}\n", "  {0}\t\n\nGPU-of-another-node\n", "{0} {0}"])
def test_a_drain_file_drains_the_gpus_it_lists(path: Path, tmp_path: Path, text: str) -> None:
    """A drain file with UUIDs drains those GPUs and no others."""
    drain = tmp_path / "drain"
    drain.write_text(text.format(GPUS[1].uuid), encoding="utf-8")
    with playing(path, drain_file=str(drain)) as played:
        played.works(1)

        assert played.view.states == {GPUS[0].uuid: State.ACTIVE, GPUS[1].uuid: State.DRAINED}


@pytest.mark.parametrize("name", ["d" * 300, "folder", "latin"], ids=lambda name: name[:6])
def test_an_odd_drain_file_ends_nothing(path: Path, tmp_path: Path, name: str) -> None:
    """A drain file that cannot be asked for, a folder or one of odd bytes does not end the node."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin").write_bytes(b"GPU-\xff\xfe\n")
    with playing(path, drain_file=str(tmp_path / name)) as played:
        played.works(2)

        assert len(played.views) == 2
        if name != "folder":
            assert set(played.view.states.values()) == {State.ACTIVE}


def test_pages_go_on_while_the_journal_cannot_be_written(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """On a full disk ticks wait and are counted, the page is served; with space again nothing was lost."""
    pages = Pages({}, "1", lambda: 0.0)
    with playing(path) as played:
        end_ms = played.works(2)
        played.limit(0)
        end_ms = played.works(300, end_ms)
        health = played.view.health
        written = rows(path, "SELECT count(*) FROM tick")[0][0]
        assert health.journal_pending == 302 - written > 0
        assert health.journal_failures == health.journal_pending
        pages.publish(played.view)
        page = pages.metrics("")[0].decode()
        assert f"gputally_journal_pending_ticks {health.journal_pending}.0\n" in page
        assert 'state="active",' in page or 'state="active"' in page
        errors = said(caplog, logging.ERROR)
        assert len(errors) == 1
        assert "no space left for the journal" in errors[0]

        played.limit(10_000)
        played.works(1, end_ms)
        assert played.view.health.journal_pending == 0
        assert said(caplog, logging.WARNING)[-1] == "the journal is written again; nothing was lost"
        assert rows(path, "SELECT count(*) FROM tick") == [(303,)]
        assert rows(path, "SELECT count(*) FROM reading") == [(606,)]
    assert by_state(path) == {"active": 303 * 20_000}


def test_a_view_stays_as_it_was_published(path: Path) -> None:
    """The page of an interval shows that interval's accounts, however late it is asked for.

    Else a scrape during the next tick shows growth that is not committed yet, which a kill takes back.
    """
    with playing(path) as played:
        played.works(3)
        view = played.view
        before = {key: account.elapsed_ms for key, account in view.accounts}
        played.works(2, MIDNIGHT + 3 * INTERVAL_MS)

        assert {key: account.elapsed_ms for key, account in view.accounts} == before


def test_a_new_account_is_first_shown_as_zero(path: Path) -> None:
    """The first page with an account has it at 0, the second with all that it gained."""
    with playing(path) as played:
        played.works(2)
        pages = [
            {(key.state, key.owner): account.elapsed_ms for key, account in view.accounts}
            for view in played.views
        ]

        assert pages[0][State.ACTIVE, "alice"] == 0
        played.works(1, MIDNIGHT + 2 * INTERVAL_MS)


@pytest.mark.parametrize("user", ["j\udcf6rg", "a\0b", "", "x" * 10_000])
def test_an_odd_user_name_ends_nothing(path: Path, user: str) -> None:
    """A user whose name is no Unicode, as the host may have them, is accounted for like any other."""
    pages = Pages({}, "1", lambda: 0.0)
    with playing(path, ask=lambda _: Seen(user, "train.py", Place(), 0)) as played:
        played.works(2)
        pages.publish(played.view)

        assert b"gpu_holder_info{" in pages.metrics("")[0]
        assert b"gpu_holder_info{" in pages.metrics("application/openmetrics-text;version=1.0.0")[0]
    assert by_state(path) == {"active": 40_000}


def test_a_gpu_that_is_lost_is_said_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A GPU that falls off the bus is down, and logged when it begins and when it ends."""

    def lost(start_ms: int) -> Tick:
        whole = tick(start_ms)
        gone = reading_of(GPUS[1].uuid, start_ms, start_ms + INTERVAL_MS, {}, condition=Condition.LOST)
        return Tick(
            node=NODE,
            start_ms=start_ms,
            end_ms=start_ms + INTERVAL_MS,
            gpus=GPUS,
            readings=(whole.readings[0], gone),
        )

    with playing(path) as played:
        end_ms = played.works(1)
        played.play(*(lost(end_ms + number * INTERVAL_MS) for number in range(3)))
        assert played.view.states[GPUS[1].uuid] is State.DOWN
        played.works(1, end_ms + 3 * INTERVAL_MS)

        assert [GPUS[1].uuid in text for text in said(caplog, logging.WARNING)] == [True, True]
    assert by_state(path) == {"active": 70_000, "down": 30_000}


def test_a_restart_leaves_unknown_time(path: Path) -> None:
    """What passes between two runs of the agent on the same boot is unknown."""
    with playing(path) as played:
        end_ms = played.works(2)
    with playing(path, now_ms=end_ms + 60_000) as played:
        played.works(1, end_ms + 60_000)
    assert by_state(path) == {"active": 60_000, "unknown": 120_000}


def test_a_gpu_that_hangs_is_named_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """GPU and function are said, and kept as an event of that GPU; of an unknown one its index is said."""
    with playing(path) as played:
        played.works(1)
        played.play(
            Hung(1, GPUS[1], "nvmlDeviceGetTemperature", 5.6), Hung(7, None, "nvmlDeviceGetUUID", 5.5)
        )
        played.works(1, MIDNIGHT + INTERVAL_MS)
        assert played.view.health.probe_restarts == 2
    warnings = said(caplog, logging.WARNING)
    assert len(warnings) == 2
    assert (
        f"GPU {GPUS[1].uuid} does not answer: nvmlDeviceGetTemperature has been at work for 6 s"
        in warnings[0]
    )
    assert "GPU with index 7 does not answer" in warnings[1]
    events = rows(path, "SELECT kind, uuid FROM event LEFT JOIN gpu ON gpu.id = gpu_id ORDER BY event.id")
    assert events == [("gpu_hung", GPUS[1].uuid), ("gpu_hung", None)]


def test_probes_that_hang_are_on_the_page(path: Path) -> None:
    """How many were left behind is part of the node's health."""
    with playing(path) as played:
        played.frames.stuck = 2
        played.works(1)
        assert played.view.health.stuck_probes == 2


# Released


def test_the_time_of_a_release_is_drained_to_the_millisecond(path: Path) -> None:
    """From when the driver is let go of until it is taken up every GPU is drained, then it is read again."""
    with playing(path) as played:
        end_ms = played.works(2)
        played.frames.last = [tick(end_ms, end_ms + 1_400)]
        played.clock.wait((end_ms + 1_400 - played.clock.wall_ms()) / 1000)
        ask(path, end_ms + 65_000)
        played.node.step(0)
        assert played.frames.rests()
        released_ms = played.clock.wall_ms()
        played.passes(30)
        assert set(played.view.states.values()) == {State.DRAINED}
        assert played.view.tick.end_ms >= played.clock.wall_ms() - INTERVAL_MS - 1_000
        played.passes(40)
        assert not played.frames.rests()
        taken_ms = end_ms + 65_000
    states = by_state(path)
    assert states["active"] == 2 * (2 * INTERVAL_MS + 1_400)
    assert released_ms == end_ms + 1_400
    assert 0 <= states["drained"] - 2 * (taken_ms - released_ms) <= 2 * 1_000
    assert states.keys() == {"active", "drained"}
    assert kinds(path) == ["released", "taken_up"]


def test_what_was_unknown_before_a_release_stays_unknown(path: Path) -> None:
    """Time in which a probe hung, or was not there, is not drained because somebody asks for a release."""
    with playing(path) as played:
        end_ms = played.works(1)
        played.clock.wait(4)
        ask(path, end_ms + 3_600_000)
        played.node.step(0)
        released_ms = played.clock.wall_ms()
        played.passes(25)
    states = by_state(path)
    assert states["unknown"] == 2 * (released_ms - end_ms)
    assert states["drained"] == 2 * (played.view.tick.end_ms - released_ms)


def test_an_end_while_released_enters_the_time_until_then(path: Path) -> None:
    """An agent that is ended during a release accounts for all of it; the next one goes on with it."""
    with playing(path) as played:
        end_ms = played.works(1)
        ask(path, end_ms + 3_600_000)
        played.node.step(0)
        released_ms = played.clock.wall_ms()
        played.passes(17)
        played.node.end([])
        ended_ms = played.clock.wall_ms()
        assert by_state(path)["drained"] == 2 * (ended_ms - released_ms)
    with playing(path, now_ms=ended_ms + 60_000) as played:
        played.passes(31)
        assert played.frames.rests()
        assert set(played.view.states.values()) == {State.DRAINED}
    assert by_state(path)["unknown"] == 2 * (60_000 + released_ms - end_ms)


def test_a_release_that_was_asked_of_a_dead_agent_is_over_when_its_moment_is(path: Path) -> None:
    """The next agent keeps to the moment, and no longer."""
    with playing(path) as played:
        end_ms = played.works(1)
        ask(path, end_ms + 60_000)
        played.node.step(0)
    with playing(path, now_ms=end_ms + 30_000) as played:
        played.node.step(0)
        assert played.frames.rests()
        played.passes(31)
        assert not played.frames.rests()
    with playing(path, now_ms=end_ms + 90_000) as played:
        played.play(tick(end_ms + 90_000))
        assert not played.frames.rests()
        assert set(played.view.states.values()) == {State.ACTIVE}


def test_a_request_is_seen_soon_though_nothing_comes(path: Path) -> None:
    """While no probe can be started, as without a driver, a request does not wait for the next interval."""
    with playing(path) as played:
        played.play(Absent(NO_DRIVER))
        ask(path, MIDNIGHT + 3_600_000)
        began_ms = played.clock.wall_ms()
        while not played.frames.rests():
            played.node.step(3600)
        assert played.clock.wall_ms() - began_ms <= 1_000
