"""The probe as a child process: whatever it does, the parent gets frames, an end with a reason, or None."""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from agent import prober as parent_side
from agent.cadence import SamplerSettings
from agent.cell import Cell
from agent.child import command
from agent.frames import MAX_BYTES, Absent, Alive, Frame, encode
from agent.mission import Mission
from agent.prober import BACK_OFF_SECONDS, Ended, Hung, Prober
from agent.simulated.faults import resolve
from agent.tick import Condition, Tick
from tests.agent.children import LENIENT_SECONDS, Kept, lives, stand_in
from tests.command.waiting import until

ROOT = Path(__file__).parents[2]
QUICK = SamplerSettings(interval_seconds=1, poll_seconds=0.1)
SLOW_MACHINE_SECONDS = LENIENT_SECONDS

Start = Callable[..., Prober]


@pytest.fixture
def kept() -> Iterator[Kept]:
    """Know every child that is started; those that may be left behind are ended by the test."""
    kept = Kept()
    yield kept
    kept.end()


@pytest.fixture
def start(kept: Kept) -> Iterator[Start]:
    """Make probers, and see to it that none of them leaves a process behind."""
    made: list[Prober] = []

    def make(code: str = "", *, simulation: str = "t4x2:training", wake: int | None = None) -> Prober:
        prober = Prober(QUICK, "hall2-n017", simulation, wake)
        prober._command = kept.noting(stand_in(code) if code else prober._command)
        made.append(prober)
        return prober

    yield make
    for prober in made:
        prober.close()


SILENT = "select.select([0], [], [], 20)"
"""Say nothing until the parent closes its end; a parent that waits for ever finds the end after all."""
ALIVE = f"say({encode(Alive())!r})"
DEAF = "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())"
"""Take no signal but SIGKILL, as in a driver call that does not come back."""
NAP = "select.select([], [], [], 0.1)[0]"
FOR_EVER = "[select.select([], [], [], 20) for _ in iter(int, 1)]"


def wait_for(prober: Prober, kind: type[Tick | Ended | Hung | Alive | Absent]) -> Frame | Ended | Hung:
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
    """A new prober starts a probe, its first tick tells all GPUs soon, and the next ends with an interval."""
    prober = start()
    tick, second = wait_for(prober, Tick), wait_for(prober, Tick)
    assert isinstance(tick, Tick)
    assert isinstance(second, Tick)
    assert tick.node == "hall2-n017"
    assert [reading.condition for reading in tick.readings] == [Condition.OK] * 2
    assert tick.end_ms % 100 == 0
    assert (second.start_ms, second.end_ms % 1_000) == (tick.end_ms, 0)


def test_a_killed_probe_is_replaced(start: Start) -> None:
    """SIGKILL ends it with a reason, and after the back-off another one sends ticks."""
    prober = start()
    wait_for(prober, Tick)
    first = prober.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    end = ended(prober)
    assert end == Ended("it ended with exit code -9", BACK_OFF_SECONDS[0])
    assert prober.pid is None
    assert not lives(first)
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


def test_a_child_that_polls_is_not_silent(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between ticks a probe says nothing: what it notes in the cell at each poll is its sign of life."""
    monkeypatch.setattr(parent_side, "SILENCE_SECONDS", 0.3)
    prober = start(
        f"{ALIVE}; [(beat(), {NAP}) for _ in range(20)]; say({encode(Absent('so long'))!r}); {SILENT}"
    )
    wait_for(prober, Alive)
    assert prober.next(SLOW_MACHINE_SECONDS) == Absent("so long")


def test_a_child_that_will_not_end_is_left_alone(
    start: Start, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that heeds neither the end of its input nor SIGTERM is not killed: that has frozen GPUs."""
    monkeypatch.setattr(parent_side, "FAREWELL_SECONDS", 0.1)
    prober = start(f"{DEAF}; {ALIVE}; {FOR_EVER}")
    wait_for(prober, Alive)
    child = prober.pid
    assert child is not None
    prober.rest()
    assert (prober.pid, prober.stuck) == (None, 1)
    began = time.monotonic()
    prober.close()
    assert time.monotonic() - began < SLOW_MACHINE_SECONDS / 4
    assert lives(child)
    kept.may_live(child)


def test_a_stuck_child_that_ends_after_all_is_counted_no_more(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the driver lets go of a probe, it ends, is reaped, and counts no more."""
    monkeypatch.setattr(parent_side, "FAREWELL_SECONDS", 0.0)
    prober = start(f"{DEAF}; {ALIVE}; sys.stdin.read(); signal.sigtimedwait([], 0.5)")
    wait_for(prober, Alive)
    child = prober.pid
    assert child is not None
    prober.rest()
    until(lambda: prober.stuck == 0, "the end of the child")
    assert not lives(child)


def test_a_command_that_cannot_be_started_is_an_end(start: Start) -> None:
    """When the host has no process to give, the parent lives on and tries again later."""
    prober = start()
    prober._command = lambda _: ["/nonexistent/python3"]
    assert ended(prober).retry_seconds == BACK_OFF_SECONDS[0]


def test_frames_that_wait_in_the_pipe_are_signs_of_life(start: Start) -> None:
    """When the parent itself was held up, what the probe sent meanwhile counts as sent in time."""
    prober = start(f"{ALIVE}; {SILENT}")
    prober.next(0.0)
    child = prober._child
    assert child is not None
    assert select.select([child.out], [], [], SLOW_MACHINE_SECONDS)[0]
    prober._deadline = time.monotonic() - 1
    assert prober.next(SLOW_MACHINE_SECONDS) == Alive()


# Back-off


def test_back_off_grows_and_ends_with_a_good_frame(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failure waits longer, up to a limit; one sign of life, and the next wait is the shortest again."""
    monkeypatch.setattr(parent_side, "BACK_OFF_SECONDS", (0.01, 0.02, 0.03))
    prober = start("sys.exit(1)")
    assert [ended(prober).retry_seconds for _ in range(4)] == [0.01, 0.02, 0.03, 0.03]
    prober._command = stand_in(ALIVE)
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
    wait_for(prober, Tick)
    pid = prober.pid
    assert pid is not None
    prober.close()
    prober.close()
    assert not lives(pid)


def test_the_interval_in_progress_is_given_at_the_end(start: Start) -> None:
    """A probe that is let go closes its interval at once, however long that was to be."""
    prober = start()
    tick = wait_for(prober, Tick)
    assert isinstance(tick, Tick)
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
        wait_for(prober, Tick)
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
    with probe_alone() as probe:
        assert probe.stdin is not None
        assert probe.stdout is not None
        assert len(probe.stdout.read(8)) == 8
        probe.stdin.close()
        probe.stdout.read()
        assert probe.wait(SLOW_MACHINE_SECONDS) == 0


def test_a_probe_ends_when_its_output_closes() -> None:
    """A parent that closes its end of the pipe, but not the input, is gone as well."""
    with probe_alone() as probe:
        assert probe.stdout is not None
        probe.stdout.close()
        assert probe.wait(SLOW_MACHINE_SECONDS) == 0


@contextmanager
def probe_alone(simulation: str = "t4x1:held") -> Iterator[Popen[bytes]]:
    """Start a probe as its parent does, with pipes to this test."""
    with closing(Cell()) as cell:
        mission = Mission(node="hall2-n017", settings=QUICK, cell=cell.descriptor, simulation=simulation)
        with Popen(command(mission), stdin=PIPE, stdout=PIPE, cwd=ROOT, pass_fds=(cell.descriptor,)) as probe:
            yield probe


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


# GPUs that hang


HUNG_CHILD = f"{DEAF}; {ALIVE}; enter(1); {FOR_EVER}"
"""Goes into a call on the GPU at index 1, and never comes back."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let what takes seconds or minutes take moments."""
    for name, seconds in {"HUNG_SECONDS": 0.3, "SURE_SECONDS": 0.1, "FAREWELL_SECONDS": 0.1}.items():
        monkeypatch.setattr(parent_side, name, seconds)
    return monkeypatch


@pytest.fixture
def brisk(impatient: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Be less impatient: a real probe on a busy machine may be slow."""
    impatient.setattr(parent_side, "HUNG_SECONDS", 1.2)
    impatient.setattr(parent_side, "SURE_SECONDS", 0.3)
    return impatient


def hung(prober: Prober) -> Hung:
    """Give the news that a GPU hangs."""
    found = wait_for(prober, Hung)
    assert isinstance(found, Hung)
    return found


def played(faults: str) -> str:
    """Write a simulation of two GPUs with faults; times after + are from now."""
    return resolve(f"t4x2:training{faults}", time.time_ns() / 1e9)


@pytest.mark.usefixtures("impatient")
def test_a_call_that_does_not_come_back_names_its_gpu(start: Start, kept: Kept) -> None:
    """The parent tells GPU and function, leaves that probe alone, and the next one shuns the GPU."""
    prober = start(HUNG_CHILD)
    found = hung(prober)
    first = kept.new()
    assert (found.index, found.gpu, found.function) == (1, None, "nvmlDeviceGetFieldValues")
    assert found.seconds >= 0.3
    assert (prober.pid, prober.stuck, len(first)) == (None, 1, 1)
    prober._command = kept.noting(stand_in(f"{ALIVE}; {SILENT}"))
    assert wait_for(prober, Alive) == Alive()
    assert kept.missions[-1].shunned == {1: None}
    assert prober.pid not in first
    assert all(lives(pid) for pid in first)
    kept.may_live(*first)


def test_a_gpu_that_hangs_is_left_out_and_taken_in_again(
    start: Start, kept: Kept, brisk: pytest.MonkeyPatch
) -> None:
    """The others are read on; once the GPU answers, the same probe takes it in, and nothing is stuck."""
    brisk.setattr(parent_side, "TRY_AGAIN_SECONDS", (0.5,))
    prober = start(simulation=played("!hang=1@+2..+5"))
    tick = wait_for(prober, Tick)
    assert isinstance(tick, Tick)
    assert tick.gpus is not None
    found = hung(prober)
    assert found.gpu == tick.gpus[1]

    without = wait_for(prober, Tick)
    pid = prober.pid
    assert isinstance(without, Tick)
    assert [reading.condition for reading in without.readings] == [Condition.OK, Condition.HUNG]
    assert without.gpus == tick.gpus

    def whole() -> bool:
        again = wait_for(prober, Tick)
        assert isinstance(again, Tick)
        assert again.readings[0].condition is Condition.OK
        return [reading.condition for reading in again.readings] == [Condition.OK] * 2

    until(whole, "a tick with both GPUs")
    assert prober.pid == pid
    until(lambda: prober.stuck == 0, "the end of those that hung")
    assert kept.new() == {pid}


def test_a_gpu_that_hangs_at_the_very_start_is_taken_in_as_well(
    start: Start, brisk: pytest.MonkeyPatch
) -> None:
    """A GPU that never told who it is hangs without a name, and is there once it answers."""
    brisk.setattr(parent_side, "TRY_AGAIN_SECONDS", (0.3,))
    prober = start(simulation=played("!hang=0@0..+3"))
    found = hung(prober)
    assert (found.index, found.gpu) == (0, None)
    tick = wait_for(prober, Tick)
    assert isinstance(tick, Tick)
    assert [gpu.index for gpu in tick.gpus or ()] == [1]

    def whole() -> bool:
        again = wait_for(prober, Tick)
        assert isinstance(again, Tick)
        return [gpu.index for gpu in again.gpus or ()] == [0, 1]

    until(whole, "a tick with both GPUs")


def test_trials_of_a_gpu_that_hangs_leave_few_processes(
    start: Start, kept: Kept, brisk: pytest.MonkeyPatch
) -> None:
    """However often it is tried, no more probes hang than the limit, and the other GPU is read on."""
    brisk.setattr(parent_side, "TRY_AGAIN_SECONDS", (0.1,))
    brisk.setattr(parent_side, "MOST_STUCK_TO_TRY", 2)
    prober = start(simulation=played("!hang=1@+1"))
    hung(prober)
    most = 0

    def at_the_limit() -> bool:
        nonlocal most
        assert isinstance(wait_for(prober, Tick), Tick)
        most = max(most, len(kept.new()))
        return prober.stuck == 2

    until(at_the_limit, "a trial that hangs")
    told = len(kept.missions)
    for _ in range(2):
        wait_for(prober, Tick)
    assert (prober.stuck, len(kept.missions)) == (2, told)
    assert most <= 3
    assert len(kept.new()) == 3
    prober.rest()
    kept.may_live(*kept.new())


def test_with_many_probes_stuck_no_other_is_started(
    start: Start, kept: Kept, impatient: pytest.MonkeyPatch
) -> None:
    """GPU after GPU may hang: the probes left behind are bounded, and the end of one makes room."""
    impatient.setattr(parent_side, "MOST_STUCK", 3)
    impatient.setattr(parent_side, "BACK_OFF_SECONDS", (0.05,))
    prober = start()
    prober._command = kept.noting(
        lambda mission: stand_in(f"{DEAF}; {ALIVE}; enter({len(mission.shunned)}); {FOR_EVER}")(mission)
    )
    assert [hung(prober).index for _ in range(3)] == [0, 1, 2]
    for _ in range(3):
        assert ended(prober).reason.startswith("3 probes hang in the driver")
    stuck = kept.new()
    assert (len(stuck), len(kept.missions)) == (3, 3)
    os.kill(min(stuck), signal.SIGKILL)
    assert hung(prober).index == 3
    assert len(kept.new()) == 3
    kept.may_live(*kept.new())


def test_a_gpu_is_tried_more_and_more_rarely(start: Start, kept: Kept, impatient: pytest.MonkeyPatch) -> None:
    """Between two trials there is more time than between the two before."""
    waits = (0.1, 0.4, 0.8)
    impatient.setattr(parent_side, "TRY_AGAIN_SECONDS", waits)
    trials: list[float] = []

    def command_of(mission: Mission) -> Sequence[str]:
        if 1 in mission.shunned:
            return stand_in(f"[say({encode(Alive())!r}) for _ in iter(int, 1) if not {NAP}]")(mission)
        if prober._sick:
            trials.append(time.monotonic())
        return stand_in("sys.exit(1)" if prober._sick else HUNG_CHILD)(mission)

    prober = start()
    prober._command = kept.noting(command_of)
    hung(prober)
    kept.may_live(*kept.new())

    def four() -> bool:
        wait_for(prober, Alive)
        return len(trials) == 4

    until(four, "four trials")
    gaps = [later - earlier for earlier, later in pairwise(trials)]
    assert [gap >= wait for gap, wait in zip(gaps, (0.4, 0.8, 0.8), strict=True)] == [True] * 3


@pytest.mark.usefixtures("impatient")
def test_many_calls_on_one_gpu_are_no_hang(start: Start) -> None:
    """A probe that goes from call to call on the same GPU, slow as each may be, does not hang."""
    prober = start(f"[(enter(1), {NAP}) for _ in range(8)]; {ALIVE}; {SILENT}")
    assert prober.next(SLOW_MACHINE_SECONDS) == Alive()


def test_a_call_on_no_gpu_that_does_not_come_back_ends_the_probe(
    start: Start, kept: Kept, impatient: pytest.MonkeyPatch
) -> None:
    """When the driver as a whole hangs, the end tells in which function, and no GPU is blamed."""
    impatient.setattr(parent_side, "FIRST_FRAME_SECONDS", 1.0)
    prober = start(f"{DEAF}; enter(-1, 'nvmlInit'); {FOR_EVER}")
    assert "nvmlInit does not come back" in ended(prober).reason
    assert prober.stuck == 1
    kept.may_live(*kept.new())


def test_a_gpu_whose_calls_take_all_the_time_is_left_out(
    start: Start, kept: Kept, impatient: pytest.MonkeyPatch
) -> None:
    """Calls that come back, but so late that nothing else gets its turn, cost only their GPU."""
    impatient.setattr(parent_side, "HUNG_SECONDS", SLOW_MACHINE_SECONDS)
    impatient.setattr(parent_side, "FIRST_FRAME_SECONDS", 1.0)
    prober = start(f"enter(1); {SILENT}")
    assert hung(prober).index == 1
    prober._command = kept.noting(stand_in(f"{ALIVE}; {SILENT}"))
    wait_for(prober, Alive)
    assert kept.missions[-1].shunned == {1: None}
    until(lambda: prober.stuck == 0, "the end of the slow probe")


# A rest


def test_a_rest_leaves_no_process_until_it_is_over(start: Start, kept: Kept) -> None:
    """While the driver is let go of nothing of ours runs; afterwards a probe sends ticks again."""
    prober = start()
    wait_for(prober, Tick)
    prober.finish()
    prober.rest()
    assert (kept.new(), prober.next(0.2), kept.new()) == (set(), None, set())
    prober.resume()
    wait_for(prober, Tick)
    assert kept.new() == {prober.pid}


def test_a_rest_ends_a_trial_as_well(start: Start, kept: Kept, impatient: pytest.MonkeyPatch) -> None:
    """No handle is held while the driver is let go of, not even by a probe on trial."""
    impatient.setattr(parent_side, "TRY_AGAIN_SECONDS", (0.1,))
    prober = start()
    prober._command = kept.noting(stand_in(HUNG_CHILD))
    hung(prober)
    stuck = kept.new()
    prober._command = kept.noting(stand_in(f"{ALIVE}; {SILENT}"))

    def tried() -> bool:
        prober.next(0.2)
        return len(kept.missions) == 3

    until(tried, "a trial")
    prober.finish()
    prober.rest()
    until(lambda: kept.new() == stuck, "the end of all that can end")
    kept.may_live(*stuck)
