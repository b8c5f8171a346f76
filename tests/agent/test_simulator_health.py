"""Health, modes and identity as the simulated driver tells them by single calls."""

from collections.abc import Callable, Iterator
from ctypes import byref, c_int, c_uint, c_ulonglong
from dataclasses import replace
from typing import Any

import pynvml
import pytest

from agent.simulated.defects import Defects
from agent.simulated.identity import CHASSIS
from agent.simulated.models import MODELS
from agent.simulated.scenario import Simulation
from agent.simulator import uninstall
from tests.agent.test_simulator import NOON, SECOND, Bench, code_of

HOPPER = ("h200", "h100")
VIOLATIONS = (0, 1, 2, 3, 4, 5, 10, 11)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


def with_defects(text: str, defects: Defects) -> Any:  # noqa: ANN401  pynvml has no types
    """Return the handle of a GPU that has these defects."""
    bench = Bench(text)
    bench.simulation.defects_at = lambda _gpu, _at_us: defects
    return bench.handle()


def fabric(version: int, handle: object) -> tuple[int, Any]:
    """Ask for the state of the fabric in a version of the struct: the code, and the struct."""
    newest = version != pynvml.nvmlGpuFabricInfo_v2
    asked = pynvml.c_nvmlGpuFabricInfo_v3_t() if newest else pynvml.c_nvmlGpuFabricInfo_v2_t()
    asked.version = version
    return code_of(pynvml.nvmlDeviceGetGpuFabricInfoV, handle, byref(asked)), asked


def test_the_margin_is_what_is_left_to_the_operating_maximum() -> None:
    """Temperature and margin add up to 87 degrees, also beyond it; an A100 does not tell."""
    for scenario in ("training", "hot"):
        handle = Bench(f"h200x1:{scenario}").handle()
        celsius = pynvml.nvmlDeviceGetTemperature(handle, 0)
        assert pynvml.nvmlDeviceGetMarginTemperature(handle) == 87 - celsius
    assert celsius > 87
    asked = pynvml.c_nvmlMarginTemperature_v1_t()
    asked.version = 0x2000008
    function = pynvml._nvmlGetFunctionPointer("nvmlDeviceGetMarginTemperature")
    assert function(handle, byref(asked)) == 25
    assert code_of(pynvml.nvmlDeviceGetMarginTemperature, Bench("a100x1").handle()) == 3


@pytest.mark.parametrize("model", MODELS)
def test_only_memory_in_the_package_has_a_limit(model: str) -> None:
    """Threshold 2 is that of HBM; the others every model tells."""
    handle = Bench(f"{model}x1").handle()
    codes = [code_of(pynvml.nvmlDeviceGetTemperatureThreshold, handle, kind) for kind in range(5)]
    assert codes == [0, 0, 3 if model in ("t4", "geforce") else 0, 0, 3]


def test_what_is_sold_together_is_told_together() -> None:
    """BAR1 is of a size by model, and has all but a little free."""
    for model, size in {"h200": 262_144, "h100": 131_072, "t4": 256}.items():
        memory = pynvml.nvmlDeviceGetBAR1MemoryInfo(Bench(f"{model}x1").handle())
        assert memory.bar1Total == size * 2**20
        assert memory.bar1Used + memory.bar1Free == memory.bar1Total
        assert 0 < memory.bar1Used < 16 * 2**20


def test_an_idle_gpu_rests() -> None:
    """Without work the P-state is slow and an older card's link too; an SXM module's link stays up."""
    links = {}
    for text in ("geforcex1:free", "geforcex1:training", "h200x1:free"):
        handle = Bench(text).handle()
        links[text] = (
            pynvml.nvmlDeviceGetPerformanceState(handle),
            pynvml.nvmlDeviceGetCurrPcieLinkGeneration(handle),
            pynvml.nvmlDeviceGetMaxPcieLinkGeneration(handle),
        )
    assert links == {
        "geforcex1:free": (8, 1, 3),
        "geforcex1:training": (0, 3, 3),
        "h200x1:free": (8, 5, 5),
    }


def test_a_narrow_link_shows() -> None:
    """Width and generation come from the defects, their maxima from the model."""
    handle = with_defects("h200x1:training", Defects(pcie_lanes=8, pcie_generation=4))
    assert pynvml.nvmlDeviceGetCurrPcieLinkWidth(handle) == 8
    assert pynvml.nvmlDeviceGetMaxPcieLinkWidth(handle) == 16
    assert pynvml.nvmlDeviceGetCurrPcieLinkGeneration(handle) == 4
    assert pynvml.nvmlDeviceGetGpuMaxPcieLinkGeneration(handle) == 5


def test_remapped_rows_use_up_spare_ones() -> None:
    """Rows are told by cause, and each takes a bank from those that have all their spare rows."""
    handle = with_defects("h200x1", Defects(remapped_corrected=2, remapped_uncorrected=1, remap_pending=True))
    assert list(pynvml.nvmlDeviceGetRemappedRows(handle)) == [2, 1, 1, 0]
    banks = pynvml.nvmlDeviceGetRowRemapperHistogram(handle)
    assert (banks.max, banks.high, banks.partial, banks.low, banks.none) == (3_069, 3, 0, 0, 0)
    handle = with_defects("h100x1", Defects(remapped_uncorrected=1, remap_failed=True))
    banks = pynvml.nvmlDeviceGetRowRemapperHistogram(handle)
    assert (banks.max, banks.none) == (2_559, 1)


def test_retired_pages_wait_for_a_reset() -> None:
    """A T4 tells whether a page waits."""
    assert pynvml.nvmlDeviceGetRetiredPagesPendingStatus(Bench("t4x1").handle()) == 0
    handle = with_defects("t4x1", Defects(retirement_pending=True))
    assert pynvml.nvmlDeviceGetRetiredPagesPendingStatus(handle) == 1


def test_sram_has_a_status_of_its_own() -> None:
    """Hopper tells its errors and whether they are too many, in one version of the struct."""
    handle = with_defects("h200x1", Defects(sram_uncorrected=6, sram_corrected=2, sram_threshold=True))
    status = pynvml.c_nvmlEccSramErrorStatus_v1_t()
    pynvml.nvmlDeviceGetSramEccErrorStatus(handle, byref(status))
    assert (status.volatileUncSecDed, status.volatileCor, status.bThresholdExceeded) == (6, 2, 1)
    status.version = 0x2000068
    assert code_of(pynvml.nvmlDeviceGetSramEccErrorStatus, handle, byref(status)) == 25
    status = pynvml.c_nvmlEccSramErrorStatus_v1_t()
    assert code_of(pynvml.nvmlDeviceGetSramEccErrorStatus, Bench("a100x1").handle(), byref(status)) == 3


def test_an_error_counter_is_that_of_the_field() -> None:
    """By kind, lifetime and place; SRAM as a whole on Hopper only, and CBU has no corrected errors."""
    wrong = Defects(ecc_corrected=3, earlier_corrected=4, sram_uncorrected=5)

    def count(handle: object, *numbers: int) -> tuple[int, int]:
        out = c_ulonglong()
        function = pynvml._nvmlGetFunctionPointer("nvmlDeviceGetMemoryErrorCounter")
        return function(handle, *map(c_int, numbers), byref(out)), out.value

    handle = with_defects("h200x1", wrong)
    assert [count(handle, 0, lifetime, 2) for lifetime in (0, 1)] == [(0, 3), (0, 7)]
    assert [count(handle, kind, 0, 7) for kind in (0, 1)] == [(0, 0), (0, 5)]
    assert count(handle, 0, 0, 1)[0] == count(handle, 0, 0, 6)[0] == 3
    assert count(handle, 2, 0, 2)[0] == 2
    handle = with_defects("t4x1", wrong)
    assert [count(handle, 1, 0, place) for place in (1, 6)] == [(0, 5), (0, 0)]
    assert count(handle, 0, 0, 6)[0] == count(handle, 0, 0, 7)[0] == 3
    assert count(Bench("geforcex1").handle(), 0, 0, 2)[0] == 3


@pytest.mark.parametrize("version", [pynvml.nvmlGpuFabricInfo_v2, pynvml.nvmlGpuFabricInfo_v3])
def test_the_fabric_is_told_in_two_versions(version: int) -> None:
    """A sound fabric is complete and has no fault; the third version says in a word that it is healthy."""
    code, told = fabric(version, Bench("h200x1").handle())
    assert (code, told.state, told.healthMask) == (0, 3, 0b1_10_10_10_10)
    assert bytes(told.clusterUuid) != bytes(16)
    if version == pynvml.nvmlGpuFabricInfo_v3:
        assert told.healthSummary == 1


def test_a_fault_of_the_fabric_shows() -> None:
    """The mask says which fault there is, and state and health follow."""
    wrong = Defects(fabric_state=2, fabric_health=2, fabric_faults=frozenset({"route_unhealthy"}))
    code, told = fabric(pynvml.nvmlGpuFabricInfo_v3, with_defects("h200x1", wrong))
    assert (code, told.state, told.healthSummary) == (0, 2, 2)
    assert [told.healthMask >> shift & 3 for shift in (0, 2, 4, 6)] == [2, 2, 1, 2]
    with pytest.raises(ValueError, match="the faults of the fabric are degraded_bandwidth"):
        Defects(fabric_faults=frozenset({"moths"}))


@pytest.mark.parametrize(("model", "code"), [("h200", 25), ("h100", 25), ("a100", 3), ("t4", 3)])
def test_another_version_of_the_fabric_is_refused(model: str, code: int) -> None:
    """A struct of the future is told from a model without a fabric."""
    assert fabric(0x4000030, Bench(f"{model}x1").handle())[0] == code


def test_modes_are_those_of_the_defects() -> None:
    """Persistence and ECC are on unless something is wrong, and everybody may compute."""
    handle = Bench("h200x1").handle()
    assert pynvml.nvmlDeviceGetPersistenceMode(handle) == 1
    assert list(pynvml.nvmlDeviceGetEccMode(handle)) == [1, 1]
    assert pynvml.nvmlDeviceGetComputeMode(handle) == 0
    handle = with_defects("h200x1", Defects(persistence_on=False, ecc_on=False, compute_mode=3))
    assert pynvml.nvmlDeviceGetPersistenceMode(handle) == 0
    assert list(pynvml.nvmlDeviceGetEccMode(handle)) == [0, 0]
    assert pynvml.nvmlDeviceGetComputeMode(handle) == 3


@pytest.mark.parametrize("model", MODELS)
def test_a_model_says_what_it_is(model: str) -> None:
    """Architecture, capability and image are of the model; only a module on a baseboard has a place there."""
    bench = Bench(f"{model}x2")
    handle, gpu = bench.handle(1), bench.simulation.gpu(1)
    assert pynvml.nvmlDeviceGetArchitecture(handle) == bench.simulation.model.architecture
    capability = tuple(pynvml.nvmlDeviceGetCudaComputeCapability(handle))
    assert capability == bench.simulation.model.compute_capability
    assert _text(pynvml.nvmlDeviceGetInforomImageVersion(handle)) == gpu.inforom
    assert str(pynvml.nvmlDeviceGetMinorNumber(handle)) == gpu.minor == "1"
    is_module = model in (*HOPPER, "a100")
    assert code_of(pynvml.nvmlDeviceGetModuleId, handle) == (0 if is_module else 3)
    assert gpu.module == ("2" if is_module else "")
    if is_module:
        assert pynvml.nvmlDeviceGetModuleId(handle, c_uint()) == 2
    events = 0xC10A if model in HOPPER else 0xA
    assert pynvml.nvmlDeviceGetSupportedEventTypes(handle) == events


def _text(told: bytes | str) -> str:
    return told.decode() if isinstance(told, bytes) else told


def test_no_model_tells_its_platform_unless_made_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chassis and tray are refused by all models, and told by one that does not refuse the word."""
    asked = pynvml.c_nvmlPlatformInfo_v2_t()
    for model in MODELS:
        handle = Bench(f"{model}x1").handle()
        assert code_of(pynvml.nvmlDeviceGetPlatformInfo, handle, byref(asked)) == 3
    told = replace(MODELS["h200"], refused=MODELS["h200"].refused - {"platform"})
    monkeypatch.setitem(dict_of(MODELS), "h200", told)
    handle = Bench("h200x8").handle(5)
    pynvml.nvmlDeviceGetPlatformInfo(handle, byref(asked))
    assert asked.chassisSerialNumber == CHASSIS
    assert (asked.slotNumber, asked.trayIndex, asked.moduleId) == ("\x02", "\x01", "\x06")
    asked.version = pynvml.nvmlPlatformInfo_v1
    assert code_of(pynvml.nvmlDeviceGetPlatformInfo, handle, byref(asked)) == 25


def dict_of(mapping: object) -> dict[str, Any]:
    """Return a mapping as the dictionary that it is."""
    assert isinstance(mapping, dict)
    return mapping


@pytest.mark.parametrize("model", MODELS)
def test_violations_are_told_by_policy(model: str) -> None:
    """A GeForce tells power and heat only; a policy that does not exist is an invalid argument."""
    handle = Bench(f"{model}x1:hot").handle()
    codes = [code_of(pynvml.nvmlDeviceGetViolationStatus, handle, policy) for policy in VIOLATIONS]
    assert codes == ([0, 0] + [3] * 6 if model == "geforce" else [0] * 8)
    assert code_of(pynvml.nvmlDeviceGetViolationStatus, handle, 6) == 2


@pytest.mark.parametrize(
    ("policy", "truth"),
    [(0, "power_cap"), (1, "sw_thermal"), (2, "sync_boost"), (5, "reliability"), (11, "sw_thermal")],
)
def test_violations_grow_by_the_truth(policy: int, truth: str) -> None:
    """Nanoseconds of a policy, and microseconds of its reference, are those that passed."""
    bench = Bench("a100x1:hot")
    told: Callable[[], Any] = lambda: pynvml.nvmlDeviceGetViolationStatus(bench.handle(), policy)  # noqa: E731
    before = told()
    bench.now_us += 95 * SECOND
    after = told()
    simulation: Simulation = bench.simulation
    grown = (after.violationTime - before.violationTime) / 1e9
    assert grown == pytest.approx(simulation.throttle_seconds(0, truth, NOON, bench.now_us))
    assert after.referenceTime - before.referenceTime == 95 * SECOND
