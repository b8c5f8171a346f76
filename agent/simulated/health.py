"""What calls tell of the health of a simulated GPU and of its modes: views of its defects."""

from collections.abc import Callable, Mapping

from agent.simulated.calling import (
    INVALID,
    OK,
    REFUSED,
    WRONG_VERSION,
    Argument,
    Look,
    plain,
    put_number,
    target,
)
from agent.simulated.defects import Defects
from agent.simulated.fields import FIELDS
from agent.simulated.parts import fabric_mask, spare_banks
from agent.simulated.portrait import pcie_generation

SRAM_V1, FABRIC_V2, FABRIC_V3 = 0x1000068, 0x2000024, 0x3000028
CLUSTER = bytes(range(0x51, 0x61))
"""Identity of the one NVLink fabric that the GPUs belong to."""

_LOCATIONS = {0: 0, 1: 2, 2: 4, 3: 6, 4: 8}
"""Place of memory by NVML → how many fields after the first its counters of corrected errors come."""
DRAM, CBU, SRAM = 2, 6, 7
_FIRST_FIELD = (7, 18)


def _defects(look: Look) -> Defects:
    return look.simulation.defects(look.gpu, look.at_us)


# Memory


def _remapped_rows(look: Look, *outs: Argument) -> int:
    defects = _defects(look)
    rows = defects.remapped_corrected, defects.remapped_uncorrected
    for value, out in zip((*rows, defects.remap_pending, defects.remap_failed), outs, strict=True):
        put_number(int(value), out)
    return OK


def _row_histogram(look: Look, out: Argument) -> int:
    answer = target(out)
    for spare, banks in spare_banks(look.simulation.model, _defects(look)).items():
        setattr(answer, spare, banks)
    return OK


def _retirement(look: Look, out: Argument) -> int:
    return put_number(int(_defects(look).retirement_pending), out)


def _ecc_mode(look: Look, now: Argument, pending: Argument) -> int:
    put_number(int(_defects(look).ecc_on), pending)
    return put_number(int(_defects(look).ecc_on), now)


def _error_counter(look: Look, kind: Argument, lifetime: Argument, location: Argument, out: Argument) -> int:
    """Answer as the field of the same counter does; SRAM as a whole has no field."""
    uncorrected, aggregate, place = plain(kind), plain(lifetime), plain(location)
    if uncorrected not in (0, 1) or aggregate not in (0, 1):
        return INVALID
    defects = _defects(look)
    if place == SRAM:
        if "sram" in look.refused or not defects.ecc_on:
            return REFUSED
        return put_number(defects.sram_uncorrected if uncorrected else defects.sram_corrected, out)
    first = _FIRST_FIELD[aggregate]
    number = first + _LOCATIONS[place] + uncorrected if place in _LOCATIONS else first + 10
    if (place not in _LOCATIONS and (place, uncorrected) != (CBU, 1)) or f"field:{number}" in look.refused:
        return REFUSED
    count = FIELDS[number].value(look, 0)
    return REFUSED if count is None else put_number(count, out)


def _sram(look: Look, out: Argument) -> int:
    status, defects = target(out), _defects(look)
    if status.version != SRAM_V1:
        return WRONG_VERSION
    status.aggregateUncParity = status.volatileUncParity = 0
    status.aggregateUncSecDed = status.volatileUncSecDed = defects.sram_uncorrected
    status.aggregateCor = status.volatileCor = defects.sram_corrected
    status.aggregateUncBucketL2 = defects.sram_uncorrected
    status.aggregateUncBucketSm = status.aggregateUncBucketPcie = 0
    status.aggregateUncBucketMcu = status.aggregateUncBucketOther = 0
    status.bThresholdExceeded = int(defects.sram_threshold)
    return OK


# Links


def _fabric(look: Look, out: Argument) -> int:
    answer, defects = target(out), _defects(look)
    if answer.version not in (FABRIC_V2, FABRIC_V3):
        return WRONG_VERSION
    answer.clusterUuid[:] = CLUSTER
    answer.status = OK
    answer.cliqueId = 0
    answer.state = defects.fabric_state
    answer.healthMask = fabric_mask(defects)
    if answer.version == FABRIC_V3:
        answer.healthSummary = defects.fabric_health
    return OK


def _pcie_generation(look: Look, out: Argument) -> int:
    phase = look.simulation.phase(look.gpu, look.at_us)
    return put_number(pcie_generation(look.simulation.model, phase, _defects(look)), out)


def _pcie_lanes(look: Look, out: Argument) -> int:
    return put_number(_defects(look).pcie_lanes or look.simulation.model.pcie_lanes, out)


def _most_pcie_generation(look: Look, out: Argument) -> int:
    return put_number(look.simulation.model.pcie_generation, out)


def _most_pcie_lanes(look: Look, out: Argument) -> int:
    return put_number(look.simulation.model.pcie_lanes, out)


# Modes


def _persistence_mode(look: Look, out: Argument) -> int:
    return put_number(int(_defects(look).persistence_on), out)


def _compute_mode(look: Look, out: Argument) -> int:
    return put_number(_defects(look).compute_mode, out)


HEALTH_CALLS: Mapping[str, tuple[str, Callable[..., int]]] = {
    "nvmlDeviceGetRemappedRows": ("remapped_rows", _remapped_rows),
    "nvmlDeviceGetRowRemapperHistogram": ("row_histogram", _row_histogram),
    "nvmlDeviceGetRetiredPagesPendingStatus": ("retirement", _retirement),
    "nvmlDeviceGetEccMode": ("ecc_mode", _ecc_mode),
    "nvmlDeviceGetMemoryErrorCounter": ("ecc_counter", _error_counter),
    "nvmlDeviceGetSramEccErrorStatus": ("sram", _sram),
    "nvmlDeviceGetGpuFabricInfoV": ("fabric", _fabric),
    "nvmlDeviceGetCurrPcieLinkGeneration": ("pcie_link", _pcie_generation),
    "nvmlDeviceGetCurrPcieLinkWidth": ("pcie_link", _pcie_lanes),
    "nvmlDeviceGetMaxPcieLinkGeneration": ("pcie_link", _most_pcie_generation),
    "nvmlDeviceGetMaxPcieLinkWidth": ("pcie_link", _most_pcie_lanes),
    "nvmlDeviceGetGpuMaxPcieLinkGeneration": ("pcie_link", _most_pcie_generation),
    "nvmlDeviceGetPersistenceMode": ("persistence_mode", _persistence_mode),
    "nvmlDeviceGetComputeMode": ("compute_mode", _compute_mode),
}
"""Rows of `agent.simulated.calls.DEVICE_CALLS`."""
