"""The known load: its program, its kernels over a stand-in for libcuda, and what it is held against."""

import json
from ctypes import c_void_p
from typing import Any

import pytest

from agent.clock import VirtualClock
from agent.tick import Reading, reading_of
from bench.gpu_cuda import MULTIPLY, SPIN, Cuda, CudaError, Kernel, ptx
from bench.gpu_load import PHASES, Phase, Played, begun, lines, main, play, played
from bench.gpu_phases import busy_seconds, inside, judge, mean_watts
from bench.gpu_programs import Program, cuda_bus
from bench.gpu_rows import Verdict
from bench.gpu_smi import Power

SECOND_NS = 1_000_000_000
MULTIPROCESSORS = 132
GPU = "GPU-1"


class Runner:
    """Runs kernels in no time but that of a virtual clock."""

    def __init__(self, clock: VirtualClock) -> None:
        self.multiprocessors = MULTIPROCESSORS
        self.blocks: list[int] = []
        self._clock = clock

    def run(self, name: str, blocks: int, nanoseconds: int) -> Kernel:
        """Let the kernel's time pass."""
        assert name in (SPIN, MULTIPLY)
        self.blocks.append(blocks)
        began_ns = self._clock.monotonic_ns()
        self._clock.wait(nanoseconds / 1e9)
        return Kernel(began_ns, self._clock.monotonic_ns(), nanoseconds / 1e6)


class FakeCuda:
    """Has every function of libcuda that is asked for; each succeeds, but those of `codes`."""

    def __init__(self, **codes: int) -> None:
        self.codes = codes
        self.called: list[str] = []
        self.launched: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        def call(*arguments: Any) -> int:  # noqa: ANN401
            self.called.append(name)
            if name == "cuDeviceGetAttribute":
                arguments[0]._obj.value = MULTIPROCESSORS
            if name == "cuEventElapsedTime":
                arguments[0]._obj.value = 50.0
            if name == "cuLaunchKernel":
                self.launched.append(arguments)
            return self.codes.get(name, 0)

        return call


def reading(start_ms: int, end_ms: int, **values: float | None) -> Reading:
    """Make a reading."""
    return reading_of(GPU, start_ms, end_ms, values)


def test_the_program_has_both_kernels() -> None:
    """It is plain text that ends with a NUL, with an entry for each kernel and no place left open."""
    text = ptx().decode()
    assert text.endswith("\0")
    assert text.count(".visible .entry") == 2
    assert "@work@" not in text


def test_a_kernel_is_launched_on_so_many_multiprocessors() -> None:
    """One block goes to each; its length is what the GPU's events say."""
    library = FakeCuda()
    cuda = Cuda("0000:19:00.0", library)
    kernel = cuda.run(SPIN, 66, 50_000_000)
    cuda.close()
    assert cuda.multiprocessors == MULTIPROCESSORS
    assert [number.value for number in library.launched[0][1:4]] == [66, 1, 1]
    assert isinstance(library.launched[0][0], c_void_p)
    assert kernel.event_ms == 50.0
    assert kernel.began_ns <= kernel.ended_ns
    assert library.called[-1] == "cuDevicePrimaryCtxRelease_v2"


def test_a_refusal_of_libcuda_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """The load ends with code 1 and says which call failed."""
    with pytest.raises(CudaError, match="cuInit failed with code 100"):
        Cuda("0000:19:00.0", FakeCuda(cuInit=100))

    code = main(["0000:19:00.0", "1"], lambda bus: Cuda(bus, FakeCuda(cuModuleLoadData=218)))
    assert code == 1
    assert capsys.readouterr().err == "cuModuleLoadData failed with code 218\n"


def test_phases_keep_their_rhythm() -> None:
    """Bursts of 50 ms in every 250 ms fill a fifth of the time, on the share of multiprocessors asked for."""
    clock = VirtualClock(0)
    runner = Runner(clock)
    bursts = play(runner, Phase("bursts", SPIN, 0.5, 0.05, 0.25), 10.0, clock)
    assert len(bursts.kernels) == 40
    assert bursts.share == 0.5
    assert runner.blocks[0] == 66
    assert busy_seconds(bursts.kernels, 0, 10 * SECOND_NS) == pytest.approx(2.0)


def test_what_the_load_writes_is_read_again() -> None:
    """Beginnings and phases come back as they were; a line in the making is left out."""
    clock = VirtualClock(0)
    told = list(lines(Runner(clock), PHASES, 2.0, clock))
    text = "".join(json.dumps(line) + "\n" for line in told) + '{"begins": "lat'
    assert list(begun(text)) == [phase.name for phase in PHASES]
    assert [one.name for one in played(text)] == [phase.name for phase in PHASES]
    steady = played(text)[1]
    assert steady.kernels[0] == Kernel(2 * SECOND_NS, 2 * SECOND_NS + 200_000_000, 200.0)
    assert begun(text)["steady"] == steady.began_ns


def test_kernels_are_cut_at_the_interval() -> None:
    """Only what lies within counts, and a kernel is as long as the GPU's events say."""
    kernels = [Kernel(0, 100, 50e-6), Kernel(900, 1_100, 200e-6)]
    assert busy_seconds(kernels, 0, 1_000) == pytest.approx(150e-9)


def test_only_whole_intervals_of_a_phase_count() -> None:
    """An interval that begins before a phase, or ends after it, is left out."""
    phase = Played("steady", 2 * SECOND_NS, 8 * SECOND_NS, 1.0, ())
    readings = [reading(start, start + 2_000) for start in range(10_000, 20_000, 2_000)]
    assert inside(readings, phase, 10 * SECOND_NS) == readings[1:4]


def test_the_mean_of_the_log_falls_back_on_the_moment() -> None:
    """Where the driver keeps no average, power right then is taken."""
    log = [Power(0.0, 100.0, 1.0), Power(500.0, None, 200.0), Power(900.0, None, None), Power(1e3, 9.0, 9.0)]
    assert mean_watts(log, 0, 1_000) == 150.0
    assert mean_watts([], 0, 1_000) is None


def judged(**spoilt: float | None) -> dict[str, Verdict]:
    """Judge a steady load of 10 s on half of the multiprocessors, as told but for what is spoilt."""
    phase = Played("half", 0, 10 * SECOND_NS, 0.5, (Kernel(0, 10 * SECOND_NS, 10_000.0),))
    values: dict[str, float | None] = {"busy_ratio": 1.0, "sm_active_ratio": 0.5, "power_watts": 300.0}
    readings = [
        reading(at, at + 2_000, **{**values, "energy_joules_total": (at + 2_000) * 0.3, **spoilt})
        for at in range(0, 10_000, 2_000)
    ]
    log = [Power(float(at), 301.0, None) for at in range(0, 10_000, 500)]
    return {row.quantity: row.verdict for row in judge([phase], readings, log, 0)}


def test_a_load_that_is_told_well_agrees() -> None:
    """Busy time, activity, power and energy are what the kernels and the log say."""
    found = judged()
    assert set(found.values()) == {Verdict.AGREE}
    assert found.keys() >= {"busy_seconds", "sm_active_ratio", "power_watts", "energy_joules_total"}


@pytest.mark.parametrize(
    ("quantity", "value", "row"),
    [
        ("busy_ratio", 0.8, "busy_seconds"),
        ("sm_active_ratio", 1.0, "sm_active_ratio"),
        ("power_watts", 200.0, "power_watts"),
        ("energy_joules_total", 7.0, "energy_joules_total"),
    ],
)
def test_a_load_that_is_told_wrongly_differs(quantity: str, value: float, row: str) -> None:
    """Each figure is judged for itself."""
    assert judged(**{quantity: value})[row] is Verdict.DIFFER


def test_what_is_not_told_does_not_fail() -> None:
    """A GPU without these metrics has no line for them; one without samples shows that."""
    found = judged(sm_active_ratio=None, busy_ratio=None)
    assert "sm_active_ratio" not in found
    assert found["busy_seconds"] is Verdict.ONLY_THEIRS


def test_a_phase_without_intervals_was_not_checked() -> None:
    """Nothing seen is nothing checked."""
    (row,) = judge([Played("steady", 0, SECOND_NS, 1.0, ())], [], [], 0)
    assert row.fails


def test_a_bus_is_written_as_cuda_takes_it() -> None:
    """The domain has four digits there."""
    assert cuda_bus("00000000:1B:00.0") == "0000:1B:00.0"


def test_a_program_is_read_while_it_runs_and_ended_after() -> None:
    """Output comes as it is written; what it complains of is told once it failed."""
    with Program(("/bin/sh", "-c", "echo one; echo broken >&2; exit 3")) as program:
        program._process.wait()
        assert program.ready()
        assert program.text() == "one\n"
        assert program.failure() == "broken"
    with Program(("/bin/sh", "-c", "exec sleep 60")) as program:
        assert not program.ready()
        assert program.failure() == ""
    assert program.ready()
