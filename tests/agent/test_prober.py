"""The probe as a child process: whatever it does, the parent gets frames, an end with a reason, or None."""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from subprocess import PIPE, Popen

import psutil
import pytest

from agent import prober as parent_side
from agent.cadence import SamplerSettings
from agent.frames import MAX_BYTES, Absent, Alive, Frame, encode
from agent.prober import BACK_OFF_SECONDS, Ended, Prober
from agent.tick import Condition, Tick

ROOT = Path(__file__).parents[2]
QUICK = SamplerSettings(interval_seconds=1, poll_seconds=0.1)
SLOW_MACHINE_SECONDS = 60.0
"""Longer than anything here takes anywhere; only a failure waits so long."""

Start = Callable[..., Prober]


@pytest.fixture
def start() -> Iterator[Start]:
    """Make probers, and see to it that none of them leaves a process behind."""
    made: list[Prober] = []
    pids: set[int] = set()

    class Noting(Prober):
        def _start(self) -> Ended | None:
            failed = super()._start()
            pids.update({self.pid} if self.pid else ())
            return failed

    def make(code: str = "", *, simulation: str = "t4x2:training", wake: int | None = None) -> Prober:
        prober = Noting(QUICK, "hall2-n017", simulation, wake)
        if code:
            prober._arguments = stand_in(code)
        made.append(prober)
        return prober

    yield make
    for prober in made:
        prober.close()
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []


def stand_in(code: str) -> list[str]:
    """Give the command of a child that is no probe; `say` writes bytes to the parent."""
    says = "import os, select, signal, sys\nsay = lambda data: os.write(1, data)\n"
    return [sys.executable, "-c", says + code]


SILENT = "select.select([0], [], [], 20)"
"""Say nothing until the parent closes its end; a parent that waits for ever finds the end after all."""
ALIVE = f"say({encode(Alive())!r})"


def wait_for(prober: Prober, kind: type[Tick | Ended | Alive | Absent]) -> Frame | Ended:
    """Give the first frame of a kind; fail after a very long time."""
    until = time.monotonic() + SLOW_MACHINE_SECONDS
    while (left := until - time.monotonic()) > 0:
        frame = prober.next(left)
        if isinstance(frame, kind):
            return frame
    pytest.fail(f"no {kind.__name__} in {SLOW_MACHINE_SECONDS} s")


def ended(prober: Prober) -> Ended:
    """Give the end of a probe."""
    end = wait_for(prober, Ended)
    assert isinstance(end, Ended)
    return end


# A probe at work


def test_the_first_tick_arrives(start: Start) -> None:
    """A new prober starts a probe, and its tick tells all GPUs."""
    tick = wait_for(start(), Tick)
    assert isinstance(tick, Tick)
    assert tick.node == "hall2-n017"
    assert [reading.condition for reading in tick.readings] == [Condition.OK] * 2
    assert tick.end_ms % 1_000 == 0


def test_a_killed_probe_is_replaced(start: Start) -> None:
    """SIGKILL ends it with a reason, and after the back-off another one sends ticks."""
    prober = start()
    wait_for(prober, Alive)
    first = prober.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    end = ended(prober)
    assert end == Ended("it ended with exit code -9", BACK_OFF_SECONDS[0])
    assert prober.pid is None
    assert not psutil.pid_exists(first)
    wait_for(prober, Tick)
    assert prober.pid not in (None, first)


def test_a_probe_without_a_driver_says_why_it_ends(start: Start) -> None:
    """The sentence that the probe sent is the reason of its end."""
    frame = encode(Absent("the NVIDIA kernel driver is not loaded: load it"))
    prober = start(f"say({frame!r}); sys.exit(3)")
    assert wait_for(prober, Absent) == Absent("the NVIDIA kernel driver is not loaded: load it")
    assert ended(prober).reason == "the NVIDIA kernel driver is not loaded: load it"


def test_a_frame_in_pieces_arrives_whole(start: Start) -> None:
    """Bytes that come one by one, and two frames that come at once, are the same frames."""
    one, two = encode(Absent("piecewise")), encode(Alive()) * 2
    prober = start(f"[say(bytes([byte])) for byte in {one!r}]; say({two!r}); {SILENT}")
    got = [prober.next(SLOW_MACHINE_SECONDS) for _ in range(3)]
    assert got == [Absent("piecewise"), Alive(), Alive()]


def test_no_time_gives_no_frame(start: Start) -> None:
    """A prober that is asked for nothing starts its probe and returns."""
    prober = start(SILENT)
    assert prober.next(0.0) is None
    assert prober.pid is not None


def test_asking_takes_no_longer_than_told(start: Start) -> None:
    """Of a probe that says nothing the parent learns nothing, and has its own time back."""
    prober = start(SILENT)
    began = time.monotonic()
    assert prober.next(0.2) is None
    assert 0.2 <= time.monotonic() - began < 15


# Children that misbehave


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("say(b'NVRM: something that a driver printed')", "announced a frame of"),
        (f"say({(MAX_BYTES + 1).to_bytes(4)!r}); {SILENT}", f"announced a frame of {MAX_BYTES + 1} bytes"),
        (f"say(b'\\xff' * 100); {SILENT}", "announced a frame of 4294967295 bytes"),
        (f"say(b'\\0\\0\\0\\5hello'); {SILENT}", "cannot be read"),
        (f"say(b'\\0\\0\\0\\0'); {SILENT}", "cannot be read"),
        ("say(b'\\0\\0\\1\\0half a frame')", "ended with exit code 0"),
        ("", "ended with exit code 0"),
        ("sys.exit(5)", "ended with exit code 5"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "ended with exit code -11"),
        ("os.close(1); sys.stdin.read()", "ended with exit code 0"),
    ],
    ids=[
        "text",
        "too long",
        "ones",
        "no JSON",
        "empty",
        "half",
        "at once",
        "with a code",
        "crash",
        "closed pipe",
    ],
)
def test_a_child_that_is_no_probe_ends_with_a_reason(start: Start, code: str, reason: str) -> None:
    """Garbage, a huge length, half a frame, or no word at all: an end that says why, never a hang."""
    prober = start(code or "pass")
    assert reason in ended(prober).reason
    assert prober.pid is None


@pytest.mark.parametrize("code", [SILENT, f"say(b'\\0\\0\\0'); {SILENT}", f"say(b'\\0\\0\\1\\0x'); {SILENT}"])
def test_a_silent_child_is_ended(start: Start, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says nothing, or begins a frame and stops, is given up after its time."""
    monkeypatch.setattr(parent_side, "FIRST_FRAME_SECONDS", 0.2)
    assert "no sign of life" in ended(start(code)).reason


def test_a_child_that_falls_silent_is_ended(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a sign of life, silence beyond a poll and a stuck call is a hang."""
    monkeypatch.setattr(parent_side, "SILENCE_SECONDS", 0.1)
    prober = start(f"{ALIVE}; {SILENT}")
    assert prober.next(SLOW_MACHINE_SECONDS) == Alive()
    assert "no sign of life" in ended(prober).reason


def test_a_child_that_will_not_end_is_killed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ignores the end of its input and SIGTERM is killed, and reaped."""
    monkeypatch.setattr(parent_side, "PATIENCE_SECONDS", 0.2)
    code = f"signal.signal(signal.SIGTERM, signal.SIG_IGN); {ALIVE}; [signal.pause() for _ in iter(int, 1)]"
    prober = start(code)
    wait_for(prober, Alive)
    child = prober.pid
    assert child is not None
    prober.close()
    assert prober.pid is None
    with pytest.raises(psutil.NoSuchProcess):
        psutil.Process(child).wait(SLOW_MACHINE_SECONDS)


def test_a_command_that_cannot_be_started_is_an_end(start: Start) -> None:
    """When the host has no process to give, the parent lives on and tries again later."""
    prober = start()
    prober._arguments = ["/nonexistent/python3"]
    assert ended(prober).retry_seconds == BACK_OFF_SECONDS[0]


def test_frames_that_wait_in_the_pipe_are_signs_of_life(start: Start) -> None:
    """When the parent itself was held up, what the probe sent meanwhile counts as sent in time."""
    prober = start(f"{ALIVE}; {SILENT}")
    prober.next(0.0)
    child = prober._child
    assert child is not None
    assert child.stdout is not None
    assert select.select([child.stdout], [], [], SLOW_MACHINE_SECONDS)[0]
    prober._deadline = time.monotonic() - 1
    assert prober.next(SLOW_MACHINE_SECONDS) == Alive()


# Back-off


def test_back_off_grows_and_ends_with_a_good_frame(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failure waits longer, up to a limit; one sign of life, and the next wait is the shortest again."""
    monkeypatch.setattr(parent_side, "BACK_OFF_SECONDS", (0.01, 0.02, 0.03))
    prober = start("sys.exit(1)")
    assert [ended(prober).retry_seconds for _ in range(4)] == [0.01, 0.02, 0.03, 0.03]
    prober._arguments = stand_in(ALIVE)
    assert ended(prober).retry_seconds == 0.01


def test_absence_is_no_good_frame(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe that only says why it cannot work is started ever more rarely."""
    monkeypatch.setattr(parent_side, "BACK_OFF_SECONDS", (0.01, 0.02, 0.03))
    prober = start(f"say({encode(Absent('no driver'))!r})")
    assert [ended(prober).retry_seconds for _ in range(3)] == [0.01, 0.02, 0.03]


def test_waits_grow_up_to_a_minute() -> None:
    """The first retry comes after a second, the last after a minute."""
    assert tuple(sorted(BACK_OFF_SECONDS)) == BACK_OFF_SECONDS
    assert (BACK_OFF_SECONDS[0], BACK_OFF_SECONDS[-1]) == (1.0, 60.0)


def test_nothing_is_started_before_its_time(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """During the back-off asking gives None, and there is no child."""
    monkeypatch.setattr(parent_side, "BACK_OFF_SECONDS", (3_600.0,))
    prober = start("sys.exit(1)")
    ended(prober)
    assert (prober.next(0.01), prober.next(0.0), prober.pid) == (None, None, None)


# Waking


@pytest.mark.parametrize("code", [SILENT, "sys.exit(1)"], ids=["waiting for a frame", "backing off"])
def test_wake_ends_waiting_at_once(start: Start, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte on the descriptor ends the wait for a frame, and the wait for the next start."""
    monkeypatch.setattr(parent_side, "BACK_OFF_SECONDS", (3_600.0,))
    reader, writer = os.pipe()
    try:
        prober = start(code, wake=reader)
        if code != SILENT:
            ended(prober)
        os.write(writer, b"!")
        began = time.monotonic()
        assert prober.next(10 * SLOW_MACHINE_SECONDS) is None
        assert time.monotonic() - began < SLOW_MACHINE_SECONDS
    finally:
        prober.close()
        os.close(reader)
        os.close(writer)


# The end


def test_closing_ends_the_probe_and_closing_twice_is_harmless(start: Start) -> None:
    """After close there is no process and no zombie."""
    prober = start()
    wait_for(prober, Alive)
    pid = prober.pid
    assert pid is not None
    prober.close()
    prober.close()
    assert not psutil.pid_exists(pid)


def test_the_interval_in_progress_is_given_at_the_end(start: Start) -> None:
    """A probe that is let go closes its interval at once, however long that was to be."""
    prober = start()
    tick = wait_for(prober, Tick)
    assert isinstance(tick, Tick)
    wait_for(prober, Alive)
    last = prober.finish()
    assert last != []
    assert last[0].start_ms >= tick.end_ms
    assert len(last[-1].readings) == 2
    assert prober.pid is None
    assert prober.finish() == []


def test_finishing_waits_for_a_wake_no_longer_than_for_the_probe(start: Start) -> None:
    """What ended the parent's waiting does not keep it from hearing the probe out."""
    reader, writer = os.pipe()
    try:
        prober = start(wake=reader)
        wait_for(prober, Alive)
        os.write(writer, b".")
        assert prober.finish() != []
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("code", [SILENT, f"say(b'half'); {SILENT}", "import time; time.sleep(60)"])
def test_a_probe_that_says_nothing_at_the_end_is_not_waited_for(
    start: Start, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe that hangs, or stops within a frame, ends the parent's patience and nothing else."""
    monkeypatch.setattr(parent_side, "PATIENCE_SECONDS", 0.2)
    prober = start(f"{ALIVE}; {code}")
    wait_for(prober, Alive)
    assert prober.finish() == []


def test_a_probe_ends_when_its_input_closes() -> None:
    """End of file on standard input is the end of the probe, with exit code 0."""
    command = [sys.executable, "-m", "agent.probe", "hall2-n017", "1", "0.1", "t4x1:held"]
    with Popen(command, stdin=PIPE, stdout=PIPE, cwd=ROOT) as probe:
        assert probe.stdin is not None
        assert probe.stdout is not None
        assert len(probe.stdout.read(8)) == 8
        probe.stdin.close()
        probe.stdout.read()
        assert probe.wait(SLOW_MACHINE_SECONDS) == 0


def test_a_probe_ends_when_its_output_closes() -> None:
    """A parent that closes its end of the pipe, but not the input, is gone as well."""
    command = [sys.executable, "-m", "agent.probe", "hall2-n017", "1", "0.1", "t4x1:held"]
    with Popen(command, stdin=PIPE, stdout=PIPE, cwd=ROOT) as probe:
        assert probe.stdout is not None
        probe.stdout.close()
        assert probe.wait(SLOW_MACHINE_SECONDS) == 0


PARENT = """
import os, signal
from agent.cadence import SamplerSettings
from agent.prober import Prober
prober = Prober(SamplerSettings(interval_seconds=1, poll_seconds=0.1), "hall2-n017", "t4x1:held")
assert prober.next(60) is not None
os.write(1, b"%d" % prober.pid)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_probe_ends_when_its_parent_is_killed() -> None:
    """An agent that is killed leaves no probe: the pipe of errors that both hold reaches its end."""
    with Popen([sys.executable, "-c", PARENT], stdout=PIPE, stderr=PIPE, cwd=ROOT) as agent:
        told, errors = agent.communicate(timeout=SLOW_MACHINE_SECONDS)
    assert agent.returncode == -signal.SIGKILL
    assert (int(told) > 0, errors) == (True, b"")


def test_a_prober_that_never_started_closes() -> None:
    """Nothing to end is no error."""
    with closing(Prober(QUICK, "hall2-n017")) as prober:
        assert prober.pid is None
