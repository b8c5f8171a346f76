"""NVML behind agent/nvml.py, and what a device is asked through it.

A refusal becomes None and costs one question, a GPU that is gone raises, an unusable driver says what to do.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from ctypes import CDLL
from typing import Any

import pynvml
import pytest

from agent.cell import Cell
from agent.device import COUNTED, NOT_AVAILABLE, POLLED, Device, scrambles_v3
from agent.errors import NvmlUnavailable
from agent.inventory import enumerate_devices
from agent.nvml import Caller, GpuGone, Nvml
from agent.simulated.calling import put_number, target
from agent.simulated.models import MODELS
from agent.simulator import uninstall
from agent.tick import Condition
from agent.watch import RINGS
from tests.agent import driven
from tests.agent.driven import START_MS, BentClock, Rig

NOW_US = START_MS * 1000
QUESTIONS = [
    f"nvmlDeviceGet{name}"
    for name in (
        "FieldValues",
        "PowerUsage",
        "EnforcedPowerLimit",
        "TemperatureV",
        "MemoryInfo_v2",
        "ClockInfo",
        "UtilizationRates",
        "ComputeRunningProcesses_v3",
        "Samples",
        "ProcessUtilization",
    )
]


class Driver(driven.Driver):
    """A simulated driver at a fixed moment that answers the codes the test gives."""

    def __init__(self, text: str, *refuse: str, **codes: int) -> None:
        super().__init__(text, BentClock(START_MS), frozenset(refuse))
        self.codes.update(codes)


def opened() -> tuple[Nvml, Device]:
    """Open NVML; give it with its first GPU."""
    nvml = Nvml()
    nvml.open()
    return nvml, enumerate_devices(nvml, {})[0][0]


def fresh(nvml: Nvml) -> Counter[tuple[str, str]]:
    """Count what failed since the last time, by quantity and reason."""
    counts = Counter({key[1:]: times for key, times in nvml.failures.items()})
    nvml.failures.clear()
    return counts


def read_all(device: Device) -> dict[str, object]:
    """Ask a GPU for everything that the sampler asks all the time."""
    return {
        "polled": device.polled.read(),
        "counted": device.counted.read(),
        "power": device.power_watts(),
        "power_limit": device.power_limit_watts(),
        "temperature": device.temperature_celsius(),
        "memory": device.memory_bytes(),
        "sm_clock": device.clock_hertz("sm_clock_hertz", 1),
        "memory_clock": device.clock_hertz("memory_clock_hertz", 2),
        "utilization": device.utilization_ratio(),
        "processes": device.processes(),
        **{f"samples_{kind}": device.samples(kind, 0) for kind in RINGS.values()},
    }


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


# The driver as a whole


@pytest.mark.parametrize(
    ("code", "missing", "advice"),
    [
        (9, "kernel driver is not loaded", "modprobe nvidia"),
        (4, "no permission", "read and write /dev/nvidiactl"),
        (18, "different versions", "reload the module or reboot"),
        (28, "finds no GPU", "lspci"),
        (12, "libnvidia-ml.so.1 is not installed", "install the driver"),
        (999, "Unknown Error", "dmesg"),
    ],
)
def test_a_driver_that_cannot_be_used_says_what_to_do(code: int, missing: str, advice: str) -> None:
    """What nvmlInit refuses becomes one sentence: what is missing, and what to do about it."""
    driver = Driver("h200x1", nvmlInitWithFlags=code)
    with pytest.raises(NvmlUnavailable, match=missing) as caught:
        Nvml().open()
    del driver.asked["nvmlInitWithFlags", 0]
    del driver.asked["nvmlErrorString", 0]
    assert advice in str(caught.value)
    assert "\n" not in str(caught.value)
    assert driver.asked == Counter()


def test_a_code_that_nobody_knows_is_told_with_its_number() -> None:
    """A newer driver's code is said in the driver's own words."""
    Driver("h200x1", nvmlInitWithFlags=4711)
    with pytest.raises(NvmlUnavailable, match="4711"):
        Nvml().open()


def test_a_machine_without_the_library_says_so() -> None:
    """Without libnvidia-ml the sentence names it and how to see a simulation."""
    try:
        CDLL("libnvidia-ml.so.1")
    except OSError:
        with pytest.raises(NvmlUnavailable, match=r"libnvidia-ml\.so\.1 is not installed.*--simulate"):
            Nvml().open()
    else:
        pytest.skip("this machine has libnvidia-ml.so.1")


def test_closing_twice_is_harmless() -> None:
    """A driver that is closed stays closed, and may be opened again."""
    Driver("h200x1")
    nvml, _ = opened()
    nvml.close()
    nvml.close()
    _, device = opened()
    assert device.power_watts() is not None


def test_a_driver_that_went_away_is_unavailable() -> None:
    """A question after shutdown is no failure of the GPU, but the end of NVML."""
    Driver("h200x1")
    nvml, device = opened()
    nvml.close()
    with pytest.raises(NvmlUnavailable, match="NVML cannot be used"):
        device.power_watts()


# Refusals


@pytest.mark.parametrize("model", MODELS)
def test_what_a_model_has_not_is_asked_once(model: str) -> None:
    """Over a minute each function, field and ring that answers NOT_SUPPORTED is asked a single time."""
    rig = Rig(f"{model}x1:bursty")
    asked: Counter[tuple[str, int, int]] = Counter()

    def listen(name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        if name == "nvmlDeviceGetFieldValues":
            refused = [field for field in target(arguments[1]) if field.nvmlReturn]
            asked.update((name, field.fieldId, field.scopeId) for field in refused)
        elif code == pynvml.NVML_ERROR_NOT_SUPPORTED:
            asked[name, getattr(arguments[0], "value", 0), 0] += 1
        return code

    rig.driver.meddle = listen
    rig.run(70)
    by_name = {name for name, _, _ in asked}
    shared = {"nvmlDeviceGetGpuFabricInfoV": 2}  # a second struct is tried after the first
    assert {name for name, times in asked.items() if times > shared.get(name[0], 1)} == set()
    assert "nvmlDeviceGetFieldValues" in by_name


@pytest.mark.parametrize("model", MODELS)
def test_what_a_model_has_not_is_none(model: str) -> None:
    """Quantities that a model refuses are None, all others are told, also when asked again."""
    driver = Driver(f"{model}x1:bursty")
    _, device = opened()
    refused = driver.simulation.model.refused
    for _ in range(2):
        told = read_all(device)
        assert device.counts_energy() == ("energy" not in refused)
        assert {name for name, value in told.items() if value in (None, [])} == {
            word.replace(":", "_") for word in refused if word.startswith("samples:")
        }
        kinds = list(RINGS.values())
        assert [device.has_samples(kind) for kind in kinds] == [f"samples:{k}" not in refused for k in kinds]


@pytest.mark.parametrize(
    ("code", "reason"), [(3, "unsupported"), (13, "unsupported"), (25, "unsupported"), (4, "no_permission")]
)
def test_a_lasting_refusal_is_counted_once(code: int, reason: str) -> None:
    """Not supported, no such symbol, another version and no permission are remembered with their reason."""
    driver = Driver("h200x1:training", nvmlDeviceGetPowerUsage=code)
    nvml, device = opened()
    assert [device.power_watts() for _ in range(3)] == [None, None, None]
    assert driver.asked["nvmlDeviceGetPowerUsage", 0] == 1
    assert nvml.failures[device.uuid, "power_watts_now", reason] == 1


def test_a_passing_failure_is_counted_and_asked_again() -> None:
    """A timeout gives None this time only."""
    driver = Driver("h200x1:training", nvmlDeviceGetPowerUsage=pynvml.NVML_ERROR_TIMEOUT)
    nvml, device = opened()
    assert (device.power_watts(), device.power_watts()) == (None, None)
    assert nvml.failures[device.uuid, "power_watts_now", "failed"] == 2
    driver.codes.clear()
    assert device.power_watts() is not None


def test_nothing_new_is_no_failure() -> None:
    """A ring without fresh samples is empty, and nothing is counted."""
    Driver("h200x1:training")
    nvml, device = opened()
    fresh(nvml)
    newest = device.samples(1, 0)[-1][0]
    assert device.samples(1, newest) == []
    assert fresh(nvml) == {}
    assert device.has_samples(1)


def test_an_older_driver_is_asked_the_older_way() -> None:
    """Without the newer calls temperature and memory come from the older ones; reserved is then not known."""
    Driver("h200x1:training", "function:nvmlDeviceGetTemperatureV", "memory_v2")
    nvml, device = opened()
    fresh(nvml)
    assert device.temperature_celsius() is not None
    memory = device.memory_bytes()
    assert {name for name, value in memory.items() if value is None} == {"memory_reserved_bytes"}
    assert fresh(nvml) == {("temperature_v", "unsupported"): 1, ("memory_v2", "unsupported"): 1}


@pytest.mark.parametrize("function", ["nvmlDeviceGetTemperatureV", "nvmlDeviceGetMemoryInfo_v2"])
def test_a_newer_call_that_fails_once_is_not_given_up(function: str) -> None:
    """A timeout of the newer call is no reason to go over to the older one."""
    driver = Driver("h200x1:training", **{function: pynvml.NVML_ERROR_TIMEOUT})
    _, device = opened()
    assert (device.temperature_celsius() is None, device.memory_bytes() == {}) in (
        (True, False),
        (False, True),
    )
    driver.codes.clear()
    assert device.temperature_celsius() is not None
    assert device.memory_bytes()["memory_reserved_bytes"] is not None
    assert {driver.asked[f"nvmlDeviceGet{name}", 0] for name in ("Temperature", "MemoryInfo")} == {0}


# Units, identity, conditions


def test_what_comes_out_is_in_base_units() -> None:
    """Watts, hertz, bytes, ratios and celsius, as the simulation has them."""
    driver = Driver("h200x1:training")
    _, device = opened()
    truth = driver.simulation
    assert device.power_limit_watts() == 700.0
    assert 77 <= (device.power_watts() or 0) <= 692
    assert device.clock_hertz("sm_clock_hertz", 1) == truth.clock_hertz(0, NOW_US)
    assert device.clock_hertz("memory_clock_hertz", 2) == 3_201e6
    model, used_bytes = truth.model, truth.memory_used_bytes(0, NOW_US)
    assert device.memory_bytes() == {
        "memory_used_bytes": used_bytes,
        "memory_reserved_bytes": model.memory_reserved_bytes,
        "memory_total_bytes": model.memory_total_bytes,
        "memory_free_bytes": model.memory_total_bytes - model.memory_reserved_bytes - used_bytes,
    }
    assert device.temperature_celsius() == round(truth.temperature_celsius(0, NOW_US))
    assert 0 <= (device.utilization_ratio() or 0) <= 1


def test_batches_are_in_base_units() -> None:
    """What comes in batches is what the simulation counts, in joules, watts and seconds."""
    driver = Driver("h200x1:hot")
    _, device = opened()
    counters = driver.simulation.counters(0, NOW_US)
    counted, polled = device.counted.read(), device.polled.read()
    assert counted["energy_joules_total"] == pytest.approx(counters.energy_nj / 1e9, abs=0.001)
    assert counted["throttle_sw_thermal_seconds_total"] == pytest.approx(counters.sw_thermal_us / 1e6)
    assert counted["power_limit_watts"] == 700.0
    assert (
        counted["nvlink_tx_bytes_total"] == driver.simulation.work(0, NOW_US).nvlink_tx_bytes // 1024 * 1024
    )
    assert 77 <= polled["power_watts"] <= polled["power_max_watts"] <= 692
    assert counted.keys() == COUNTED.keys() - {name for name in COUNTED if name.startswith("retired")}
    assert polled.keys() == POLLED.keys() - {"module_power_watts"}


class UnknownMemory(Driver):
    """A driver that does not know how much memory a process uses, as in containers."""

    def _about_gpu(self, name: str, handle: Any, *arguments: Any) -> int:  # noqa: ANN401
        code = super()._about_gpu(name, handle, *arguments)
        if name == "nvmlDeviceGetComputeRunningProcesses_v3" and arguments[1] is not None:
            target(arguments[1])[0].usedGpuMemory = NOT_AVAILABLE
        return code


def test_unknown_memory_of_a_process_is_none() -> None:
    """What NVML writes for unknown is not 16 exabytes."""
    UnknownMemory("h200x1:training")
    _, device = opened()
    assert [one.process.memory_used_bytes for one in device.processes() or ()] == [None]


@pytest.mark.parametrize(("code", "condition"), [(15, Condition.LOST), (16, Condition.RESET_REQUIRED)])
def test_a_gpu_that_is_gone_raises_from_every_question(code: int, condition: Condition) -> None:
    """GPU_IS_LOST and RESET_REQUIRED from any call raise GpuGone with the condition, and count no failure."""
    driver = Driver("h200x1:training")
    nvml, device = opened()
    fresh(nvml)
    asks: list[Callable[[], object]] = [
        device.polled.read,
        device.counted.read,
        device.power_watts,
        device.power_limit_watts,
        device.temperature_celsius,
        device.memory_bytes,
        lambda: device.clock_hertz("sm_clock_hertz", 1),
        device.utilization_ratio,
        device.processes,
        lambda: device.samples(1, 0),
        lambda: list(device.process_samples(0)),
    ]
    driver.codes |= dict.fromkeys(QUESTIONS, code)
    for ask in asks:
        with pytest.raises(GpuGone) as caught:
            ask()
        assert caught.value.condition is condition
    assert fresh(nvml) == {}


@pytest.mark.parametrize(
    ("codes", "gone"),
    [
        ([999, 999, 999], True),
        ([999, 999, 0, 999, 999], False),
        ([999, 999, 10, 999, 999], False),
        ([999, 999, 3, 999, 999], False),
        ([999, 999, 6, 999], False),
        ([0, 999, 999, 999], True),
    ],
)
def test_three_unknown_errors_in_a_row_are_a_loss(codes: list[int], gone: bool) -> None:  # noqa: FBT001
    """Code 999 is often the first sign of a GPU that fell off the bus; twice, or now and then, it is not."""
    driver = Driver("h200x1:training")
    nvml, device = opened()
    fresh(nvml)
    caller, raised = device.caller, False
    for number, code in enumerate(codes):
        driver.codes["nvmlDeviceGetPowerUsage"] = code
        try:
            caller.number(f"question {number}", "nvmlDeviceGetPowerUsage")
        except GpuGone as error:
            raised = number == len(codes) - 1 and error.condition is Condition.LOST
    assert raised == gone
    assert sum(times for (_, reason), times in fresh(nvml).items() if reason == "failed") == len(
        [code for code in codes if code in (999, 10)]
    )


def test_a_question_is_named_in_the_cell_while_it_lasts() -> None:
    """A parent that hears nothing reads which function is at work on which GPU; between calls, none is."""
    cell = Cell()
    driver = Driver("h200x2:training")
    seen: list[tuple[int, str]] = []

    def look(_name: str, _gpu: int, _arguments: tuple[Any, ...], code: int) -> int:
        call = cell.read()
        assert call is not None
        seen.append((call.gpu, call.function))
        return code

    driver.meddle = look
    nvml = Nvml(cell)
    nvml.open()
    device = enumerate_devices(nvml, {})[0][1]
    seen.clear()
    device.power_watts()
    device.polled.read()
    assert seen[:2] == [(1, "nvmlDeviceGetPowerUsage"), (1, "nvmlDeviceGetFieldValues")]
    assert cell.read() is None
    cell.close()


@pytest.mark.parametrize(
    ("driver", "scrambled"),
    [("535.54.03", True), ("535.98", True), ("535.43.02", True), ("535.104.05", False), ("535.288.01", False)]
    + [
        (version, False)
        for version in ("470.57.02", "525.60.13", "550.54.15", "580.95.05", "", "535", "535.x")
    ],
)
def test_drivers_that_scramble_lists_of_processes_are_asked_for_the_older_list(
    driver: str,
    scrambled: bool,  # noqa: FBT001
) -> None:
    """535.43 to 535.98 fill the third version of the list with a struct of their own."""
    assert scrambles_v3(driver) == scrambled


def test_such_a_driver_is_asked_so() -> None:
    """The version that the driver tells decides it, for every list."""
    driver = Driver("h200x1:training")

    def older(name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        if name == "nvmlSystemGetDriverVersion":
            arguments[0].value = b"535.54.03"
        return code

    driver.meddle = older
    _, device = opened()
    for kind in ("compute", "graphics", "mps"):
        device.processes(kind)
    assert {name for name in driver.names if "RunningProcesses" in name} == {
        f"nvmlDeviceGet{kind}RunningProcesses_v2" for kind in ("Compute", "Graphics", "MPSCompute")
    }


def test_a_list_of_processes_grows_until_they_fit() -> None:
    """A GPU with more processes than there was room for is asked once more, with room."""
    driver = Driver("h200x1:training")
    _, device = opened()

    def crowd(name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        if name != "nvmlDeviceGetComputeRunningProcesses_v3":
            return code
        count, buffer = arguments
        room = len(buffer)
        put_number(100, count)
        for place in range(min(room, 100)):
            target(buffer)[place].pid = 4_000 + place
            target(buffer)[place].gpuInstanceId = 0xFFFFFFFF
        return 0 if room >= 100 else 7

    driver.meddle = crowd
    assert [one.process.pid for one in device.processes() or ()] == list(range(4_000, 4_100))


def test_a_list_of_four_billion_processes_is_no_list() -> None:
    """A count that cannot be is no reason to ask for the memory of it."""
    driver = Driver("h200x1:training")
    nvml, device = opened()
    fresh(nvml)

    def boast(name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        if name != "nvmlDeviceGetComputeRunningProcesses_v3":
            return code
        put_number(2**32 - 1, arguments[0])
        return 7

    driver.meddle = boast
    assert device.processes() is None
    assert fresh(nvml) == {("processes_compute", "failed"): 1}


def test_a_text_of_many_tongues_is_text() -> None:
    """UTF-8 passes; a caller remembers nothing of it."""
    Driver("h200x1")
    nvml, device = opened()
    caller = Caller(nvml, device.caller.handle, 0)
    assert caller.text("name", "nvmlDeviceGetName") == "NVIDIA H200"
    assert caller.refused == {}


def test_calls_and_time_are_counted() -> None:
    """Each question counts once, with the time that it took, and is told once."""
    Driver("h200x1:training")
    nvml, device = opened()
    nvml.spent()
    device.power_watts()
    device.utilization_ratio()
    calls, seconds = nvml.spent()
    assert calls == 2
    assert 0 < seconds < 1
    assert nvml.spent() == (0, 0.0)
