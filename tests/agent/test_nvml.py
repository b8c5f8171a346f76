"""NVML behind agent/nvml.py.

A refusal becomes None and costs one question, a GPU that is gone raises, an unusable driver says what to do.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from ctypes import CDLL
from functools import partial
from typing import Any

import pynvml
import pytest

from agent.errors import NvmlUnavailable
from agent.nvml import NOT_AVAILABLE, THROTTLE_FIELDS, Device, GpuGone, Nvml
from agent.simulated.calling import put_number, target
from agent.simulated.models import MODELS
from agent.simulated.scenario import parse_simulation
from agent.simulator import Library, install, uninstall
from agent.tick import Condition
from tests.agent.test_sampler import START_MS, Rig

NOW_US = START_MS * 1000
KINDS = (1, 2, 3, 4, 8, 9)
FIELD_WORDS = {"energy", *(f"field:{number}" for number in (*THROTTLE_FIELDS.values(), 75, 82, 190))}
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
    )
]


class Driver(Library):
    """A simulated driver that answers the codes the test gives, and writes down what it was asked.

    `asked` counts questions by function and first argument, so by field, kind of sample or threshold.
    """

    def __init__(self, text: str, *refuse: str, **codes: int) -> None:
        super().__init__(parse_simulation(text), lambda: NOW_US, refuse=frozenset(refuse))
        self.codes = codes
        self.asked: Counter[tuple[str, int]] = Counter()
        install(self)

    def count(self, gpus: int) -> None:
        """Tell another number of GPUs."""
        self._node_calls = {**self._node_calls, "nvmlDeviceGetCount_v2": partial(put_number, gpus)}

    def _about_node(self, name: str, *arguments: Any) -> int | bytes:  # noqa: ANN401  as ctypes passes them
        return self.codes[name] if name in self.codes else super()._about_node(name, *arguments)

    def _about_gpu(self, name: str, handle: Any, *arguments: Any) -> int:  # noqa: ANN401
        if name == "nvmlDeviceGetFieldValues":
            self.asked.update((name, field.fieldId) for field in target(arguments[1]))
        else:
            self.asked[name, getattr(arguments[0], "value", 0) if len(arguments) > 1 else 0] += 1
        return self.codes[name] if name in self.codes else super()._about_gpu(name, handle, *arguments)


class Garbling(Driver):
    """A driver of which one function fills its buffer with bytes that are no text."""

    garbled = ""

    def _about_gpu(self, name: str, handle: Any, *arguments: Any) -> int:  # noqa: ANN401
        if name != self.garbled:
            return super()._about_gpu(name, handle, *arguments)
        arguments[0].value = b"16\xff\xfe"
        return 0


def opened() -> tuple[Nvml, Device]:
    """Open NVML; give it with its first GPU."""
    nvml = Nvml()
    nvml.open()
    return nvml, nvml.devices()[0][0]


def read_all(device: Device) -> dict[str, object]:
    """Ask a GPU for everything that the sampler asks."""
    return {
        "fields": device.fields(),
        "power": device.power_watts(),
        "power_limit": device.power_limit_watts(),
        "temperature": device.temperature_celsius(),
        "memory": device.memory_bytes(),
        "sm_clock": device.sm_clock_hertz(),
        "memory_clock": device.memory_clock_hertz(),
        "utilization": device.utilization_ratio(),
        "processes": device.processes(),
        **{f"samples_{kind}": device.samples(kind, 0) for kind in KINDS},
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


def test_no_gpu_at_all_is_unavailable() -> None:
    """A driver that counts no GPU cannot be used."""
    Driver("h200x1").count(0)
    with pytest.raises(NvmlUnavailable, match="finds no GPU"):
        opened()


def test_no_permission_for_any_gpu_is_unavailable() -> None:
    """When every handle is forbidden, the permission is what is missing."""
    Driver("h200x2", nvmlDeviceGetHandleByIndex_v2=pynvml.NVML_ERROR_NO_PERMISSION)
    with pytest.raises(NvmlUnavailable, match="no permission"):
        opened()


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
    asked: Counter[tuple[str, int]] = Counter()
    inner = rig.driver._about_gpu

    def listen(name: str, handle: Any, *arguments: Any) -> int:  # noqa: ANN401  as ctypes passes them
        code = inner(name, handle, *arguments)
        if name == "nvmlDeviceGetFieldValues":
            asked.update((name, field.fieldId) for field in target(arguments[1]) if field.nvmlReturn)
        elif code == pynvml.NVML_ERROR_NOT_SUPPORTED:
            asked[name, getattr(arguments[0], "value", 0)] += 1
        return code

    rig.driver._about_gpu = listen  # type: ignore[method-assign]
    rig.run(60)
    assert set(asked.values()) <= {1}
    refused = rig.simulation.model.refused
    fields = {83 if word == "energy" else int(word.removeprefix("field:")) for word in refused & FIELD_WORDS}
    assert {field for name, field in asked if name == "nvmlDeviceGetFieldValues"} == fields


@pytest.mark.parametrize("model", MODELS)
def test_what_a_model_has_not_is_none(model: str) -> None:
    """Quantities that a model refuses are None, all others are told, also when asked again."""
    driver = Driver(f"{model}x1:bursty")
    _, device = opened()
    refused = driver.simulation.model.refused
    for _ in range(2):
        told = read_all(device)
        fields = device.fields()
        assert {number for number in fields if f"field:{number}" in refused} == set()
        assert (83 in fields) == ("energy" not in refused)
        assert {name for name, value in told.items() if value in (None, [])} == {
            word.replace(":", "_") for word in refused if word.startswith("samples:")
        }
        assert [device.has_samples(kind) for kind in KINDS] == [f"samples:{k}" not in refused for k in KINDS]


@pytest.mark.parametrize(
    ("code", "reason"), [(3, "unsupported"), (13, "unsupported"), (25, "unsupported"), (4, "no_permission")]
)
def test_a_lasting_refusal_is_counted_once(code: int, reason: str) -> None:
    """Not supported, no such symbol, another version and no permission are remembered with their reason."""
    driver = Driver("h200x1:training", nvmlDeviceGetPowerUsage=code)
    nvml, device = opened()
    assert [device.power_watts() for _ in range(3)] == [None, None, None]
    assert driver.asked["nvmlDeviceGetPowerUsage", 0] == 1
    assert nvml.failures == {(device.uuid, "power", reason): 1}


def test_a_passing_failure_is_counted_and_asked_again() -> None:
    """A timeout gives None this time only."""
    driver = Driver("h200x1:training", nvmlDeviceGetPowerUsage=pynvml.NVML_ERROR_TIMEOUT)
    nvml, device = opened()
    assert (device.power_watts(), device.power_watts()) == (None, None)
    assert nvml.failures == {(device.uuid, "power", "failed"): 2}
    driver.codes.clear()
    assert device.power_watts() is not None


def test_nothing_new_is_no_failure() -> None:
    """A ring without fresh samples is empty, and nothing is counted."""
    Driver("h200x1:training")
    nvml, device = opened()
    newest = device.samples(1, 0)[-1][0]
    assert device.samples(1, newest) == []
    assert nvml.failures == {}
    assert device.has_samples(1)


def test_an_older_driver_is_asked_the_older_way() -> None:
    """Without the newer calls temperature and memory come from the older ones; reserved is then not known."""
    Driver("h200x1:training", "function:nvmlDeviceGetTemperatureV", "memory_v2")
    nvml, device = opened()
    assert device.temperature_celsius() is not None
    memory = device.memory_bytes()
    assert memory is not None
    assert memory[1] is None
    assert set(nvml.failures.values()) == {1}
    assert {key[1] for key in nvml.failures} == {"temperature_v", "memory_v2"}


def test_fields_that_fail_alone_leave_the_others() -> None:
    """A batch in which one field is refused gives all others, as the truth has them."""
    driver = Driver("h200x1:hot", "field:82")
    nvml, device = opened()
    fields = device.fields()
    assert 82 not in fields
    counters = driver.simulation.counters(0, NOW_US)
    assert fields[83] == counters.energy_nj // 1_000_000
    assert fields[THROTTLE_FIELDS["sw_thermal"]] == counters.sw_thermal_us * 1000
    assert nvml.failures == {(device.uuid, "field_82", "unsupported"): 1}


# Units, identity, conditions


def test_what_comes_out_is_in_base_units() -> None:
    """Watts, hertz, bytes, ratios and celsius, as the simulation has them."""
    driver = Driver("h200x1:training")
    _, device = opened()
    truth = driver.simulation
    assert device.power_limit_watts() == 700.0
    assert 77 <= (device.power_watts() or 0) <= 692
    assert device.sm_clock_hertz() == truth.clock_hertz(0, NOW_US)
    assert device.memory_clock_hertz() == 3_201e6
    used, total = truth.memory_used_bytes(0, NOW_US), truth.model.memory_total_bytes
    assert device.memory_bytes() == (used, truth.model.memory_reserved_bytes, total)
    assert device.temperature_celsius() == round(truth.temperature_celsius(0, NOW_US))
    assert 0 <= (device.utilization_ratio() or 0) <= 1
    assert device.limits == {
        "temperature_slowdown_celsius": 89,
        "temperature_shutdown_celsius": 95,
        "sm_clock_max_hertz": 1_980e6,
    }


def test_identity_is_complete() -> None:
    """UUID, model, serial, board part, VBIOS, driver, CUDA and bus are what the driver says."""
    driver = Driver("h200x3")
    nvml = Nvml()
    nvml.open()
    devices, gone = nvml.devices()
    assert [device.gpu for device in devices] == [driver.simulation.gpu(index) for index in range(3)]
    assert gone == []


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
    assert [process.memory_used_bytes for process in device.processes() or ()] == [None]


@pytest.mark.parametrize(("code", "condition"), [(15, Condition.LOST), (16, Condition.RESET_REQUIRED)])
def test_a_gpu_that_is_gone_raises_from_every_question(code: int, condition: Condition) -> None:
    """GPU_IS_LOST and RESET_REQUIRED from any call raise GpuGone with the condition, and count no failure."""
    driver = Driver("h200x1:training")
    nvml, device = opened()
    asks: list[Callable[[], object]] = [
        device.fields,
        device.power_watts,
        device.power_limit_watts,
        device.temperature_celsius,
        device.memory_bytes,
        device.sm_clock_hertz,
        device.memory_clock_hertz,
        device.utilization_ratio,
        device.processes,
        lambda: device.samples(1, 0),
    ]
    driver.codes = dict.fromkeys(QUESTIONS, code)
    for ask in asks:
        with pytest.raises(GpuGone) as caught:
            ask()
        assert caught.value.condition is condition
    assert nvml.failures == {}


def test_a_lost_handle_is_told_beside_the_gpus_that_answer() -> None:
    """Enumeration gives those that answer, and one condition for each that does not."""

    class HalfLost(Driver):
        def _handle_by_index(self, index: Any, out: Any) -> int:  # noqa: ANN401
            return 15 if index.value == 1 else super()._handle_by_index(index, out)

    HalfLost("h200x3")
    nvml = Nvml()
    nvml.open()
    devices, gone = nvml.devices()
    assert [device.gpu.index for device in devices] == [0, 2]
    assert gone == [(None, Condition.LOST)]


@pytest.mark.parametrize("function", ["nvmlDeviceGetSerial", "nvmlDeviceGetBoardPartNumber"])
def test_garbled_text_is_no_text(function: str) -> None:
    """An InfoROM of bytes that are no text leaves one item of the identity empty, and is counted."""
    Garbling("h200x1").garbled = function
    nvml, device = opened()
    assert "" in (device.gpu.serial, device.gpu.board_part)
    assert [key[2] for key in nvml.failures] == ["garbled"]


def test_a_garbled_name_hides_no_gpu() -> None:
    """A GPU whose product name is no text is read all the same."""
    Garbling("h200x2").garbled = "nvmlDeviceGetName"
    nvml = Nvml()
    nvml.open()
    assert len(nvml.devices()[0]) == 2


def test_calls_and_time_are_counted() -> None:
    """Each question counts once, with the time that it took."""
    Driver("h200x1:training")
    nvml, device = opened()
    before = nvml.calls
    device.power_watts()
    device.fields()
    assert nvml.calls == before + 2
    assert nvml.seconds > 0
