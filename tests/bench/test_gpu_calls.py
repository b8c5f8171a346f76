"""The driver with a stopwatch, and what it answered first."""

import itertools
import json
from collections.abc import Iterator
from ctypes import byref, c_uint, create_string_buffer

import pytest

from agent.clock import VirtualClock
from agent.inventory import enumerate_devices
from agent.nvml import Caller, FieldValue, Sample
from agent.simulated.scenario import parse_simulation
from agent.simulator import Library, install, uninstall
from bench import gpu_traits as traits
from bench.gpu_calls import Answers, TimedNvml, field_key, latencies, plain

START_MS = 1_790_000_000_000
CODE_UNSUPPORTED = 3


@pytest.fixture
def clock() -> VirtualClock:
    """Give time that passes at once."""
    return VirtualClock(START_MS)


@pytest.fixture
def answers() -> Answers:
    """Give a place for answers."""
    return Answers()


@pytest.fixture
def nvml(clock: VirtualClock, answers: Answers) -> Iterator[TimedNvml]:
    """Give an open driver of two simulated H200."""
    install(Library(parse_simulation("h200x2"), lambda: clock.wall_ms() * 1000))
    opened = TimedNvml(answers)
    opened.open()
    yield opened
    uninstall()


@pytest.fixture
def caller(nvml: TimedNvml) -> Caller:
    """Give the first GPU."""
    return enumerate_devices(nvml, {})[0][0].caller


def test_every_call_is_timed(nvml: TimedNvml, caller: Caller) -> None:
    """Each function has its count, its median and its longest, the costliest first."""
    for _ in range(3):
        nvml.call(caller.index, "nvmlDeviceGetPersistenceMode", caller.handle, byref(c_uint()))
    found = {one.function: one for one in latencies(nvml.times_us)}
    assert found["nvmlDeviceGetPersistenceMode"].calls == 3
    assert found["nvmlInit"].calls == 1
    assert all(0 <= one.median_us <= one.largest_us for one in found.values())


def test_latencies_come_the_costliest_first() -> None:
    """What took the most time together leads; the median is no mean."""
    (first, second) = latencies({"seldom": [9.0], "often": [1.0, 2.0, 30.0]})
    assert first == ("often", 3, 2.0, 30.0)
    assert second == ("seldom", 1, 9.0, 9.0)


@pytest.mark.usefixtures("caller")
def test_texts_structs_and_numbers_are_kept_as_they_came(answers: Answers) -> None:
    """What a function filled in stands under its name, and all of it is JSON."""
    assert answers.calls["nvmlDeviceGetName()"] == {"code": 0, "answer": ["NVIDIA H200"]}
    (pci,) = answers.calls["nvmlDeviceGetPciInfo_v3()"]["answer"]
    assert pci["busId"] == "00000000:04:00.0"
    assert answers.calls["nvmlDeviceGetPlatformInfo()"]["code"] == CODE_UNSUPPORTED
    assert json.dumps(answers.calls)


def test_the_first_answer_stays(nvml: TimedNvml, caller: Caller, answers: Answers) -> None:
    """Later answers to the same question change nothing; another question is another entry."""
    name = "nvmlDeviceGetTemperatureThreshold"
    for number, code in ((0, 0), (0, 0), (7, CODE_UNSUPPORTED)):
        assert nvml.call(caller.index, name, caller.handle, c_uint(number), byref(c_uint())) == code
    assert answers.calls[f"{name}(0)"] == {"code": 0, "answer": [95]}
    assert answers.calls[f"{name}(7)"] == {"code": CODE_UNSUPPORTED}


def test_the_length_of_a_text_is_no_question(nvml: TimedNvml, caller: Caller, answers: Answers) -> None:
    """A buffer's length does not make another question of the same."""
    for length in (64, 96):
        buffer = create_string_buffer(length)
        nvml.call(caller.index, "nvmlDeviceGetVbiosVersion", caller.handle, buffer, c_uint(length))
    assert [key for key in answers.calls if "Vbios" in key] == ["nvmlDeviceGetVbiosVersion()"]


def test_only_the_chosen_gpu_is_noted(nvml: TimedNvml, answers: Answers) -> None:
    """A recording is of one GPU; what is asked of the node is noted too."""
    heard = Answers()
    chosen = TimedNvml(heard, index=1)
    chosen.open()
    enumerate_devices(chosen, {})
    (uuid,) = heard.calls["nvmlDeviceGetUUID()"]["answer"]
    assert "nvmlDeviceGetCount_v2()" in heard.calls
    enumerate_devices(nvml, {})
    assert answers.calls["nvmlDeviceGetUUID()"]["answer"] != [uuid]


def test_the_sweep_asks_for_fields_of_all_scopes(nvml: TimedNvml, caller: Caller, answers: Answers) -> None:
    """Every field is known by number and scope, with its type and value, or its code."""
    traits.sweep(nvml, caller, 18)
    assert answers.fields["91"] == {"code": 0, "type": 1, "value": 18, "dated": True}
    assert answers.fields["196"]["code"] == 0
    assert answers.fields["193"]["value"] < 0
    assert answers.fields[field_key(165, 17)]["value"] == 1
    assert answers.fields[field_key(165, 18)] == {"code": CODE_UNSUPPORTED}
    assert answers.fields["138:0xffffffff"]["code"] == 0
    assert {str(number) for number in range(1, traits.LAST_FIELD + 1)} <= answers.fields.keys()


def test_what_json_has_not_becomes_text() -> None:
    """NaN is told as text; a sample's union as the whole word."""
    sample = Sample(timeStamp=7)
    sample.sampleValue.ullVal = 50
    assert plain(float("nan")) == "nan"
    assert plain(sample) == {"timeStamp": 7, "sampleValue": 50}
    assert plain((FieldValue * 1)())[0]["fieldId"] == 0


def test_libcuda_is_found_among_the_mappings(nvml: TimedNvml) -> None:
    """It is told after which step the library came into the process."""
    told = iter(["", "7f00-7f01 r-xp 0 00:00 1 /usr/lib/libcuda.so.580.95.05\n", "libcudart.so\n"])
    found = traits.mapping_of_libcuda(nvml, lambda: next(told))
    assert found == {"after_init": False, "after_cuda_version": True, "after_cuda_version_v2": False}


def test_a_ring_tells_period_capacity_and_age(nvml: TimedNvml, caller: Caller, clock: VirtualClock) -> None:
    """The samples of the simulated driver lie 1/6 s apart and are fresh."""
    found = traits.ring(nvml, caller, 1, clock.wall_ms() * 1000)
    assert found.code == 0
    assert found.samples > 10
    assert found.period_ms == pytest.approx(1000 / 6, abs=0.01)
    assert found.age_ms is not None
    assert 0 <= found.age_ms < 200
    assert traits.ring(nvml, caller, 7, clock.wall_ms() * 1000).code


def test_spacing_is_a_median() -> None:
    """One hole among the samples does not count; one sample has no spacing."""
    assert traits.spacing_ms([0, 20_000, 40_000, 900_000]) == 20.0
    assert traits.spacing_ms([5]) is None


def test_the_quantum_of_a_counter_is_its_smallest_step() -> None:
    """Readings between two steps say nothing new."""
    points = [(0.0, 100), (1.0, 100), (2.0, 130), (3.0, 130), (4.0, 150), (6.0, 150), (7.0, 200)]
    assert traits.quantum(points) == (20, 2.5, 3)
    assert traits.quantum([]) == (None, None, 0)


def test_the_energy_counter_is_read_fast(nvml: TimedNvml, caller: Caller, clock: VirtualClock) -> None:
    """The simulated counter moves at least once in 3 s, and never back."""
    points = traits.energy_points(nvml, caller, clock, 0.5)
    assert len(points) > 400
    assert traits.quantum(points).steps > 0
    assert all(late >= early for (_, early), (_, late) in itertools.pairwise(points))


def test_metrics_and_events_are_tried(nvml: TimedNvml, caller: Caller, clock: VirtualClock) -> None:
    """A metric out of range has a code of its own or fails the call; waiting for no time returns."""
    codes = traits.metric_out_of_range(nvml, caller, clock)
    assert codes["alone"] == codes["alone:2"] == 0
    assert "with_one_out_of_range" in codes
    waited = traits.event_wait(nvml, caller, clock)
    assert waited is not None
    assert waited.code == 10
