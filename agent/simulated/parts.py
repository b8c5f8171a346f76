"""What a GPU has several of, sound or defective: the rows that a perfect agent would have read."""

from collections.abc import Iterator, Mapping

from agent.simulated.defects import FABRIC_FAULTS, Defects
from agent.simulated.models import Model
from agent.tick import Part

LOCATIONS = ("l1", "l2", "device", "register", "texture")
"""Places of memory, in the order of their fields: two for each, from 7 on and from 18 on."""
FIRST_FIELD: Mapping[str, int] = {"volatile": 7, "aggregate": 18}
PCIE_ERRORS: Mapping[str, int] = {
    "correctable": 173,
    "naks_received": 174,
    "receiver": 175,
    "bad_tlp": 176,
    "naks_sent": 177,
    "bad_dllp": 178,
    "non_fatal": 179,
    "fatal": 180,
    "unsupported_request": 181,
    "lcrc": 182,
}


def fan_ratio(core_celsius: float) -> float:
    """Return how fast a fan turns to keep a core at that temperature."""
    return min(100, max(23, 23 + 2 * (round(core_celsius) - 45))) / 100


def spare_banks(model: Model, defects: Defects) -> dict[str, int]:
    """Count the banks of memory by the spare rows they have left: each remapped row is of another bank."""
    touched = min(defects.remapped_rows, model.spare_banks)
    failed = min(touched, 1) if defects.remap_failed else 0
    return {
        "max": model.spare_banks - touched,
        "high": touched - failed,
        "partial": 0,
        "low": 0,
        "none": failed,
    }


def fabric_mask(defects: Defects) -> int:
    """Return the faults of the fabric as the driver codes them: 1 yes, 2 no; configuration 1 is right."""
    mask = 1 << 8
    for fault, shift in FABRIC_FAULTS.items():
        mask |= (1 if fault in defects.fabric_faults else 2) << shift
    return mask


def parts_of(model: Model, defects: Defects) -> tuple[Part, ...]:
    """Return all parts of a GPU but its fans, as far as the model tells of them."""
    rows = [*_ecc(model, defects), *_pcie(model, defects)]
    if "nvlink" not in model.refused:
        rows += _links(model, defects)
    if "sram" not in model.refused and defects.ecc_on:
        rows += _sram(defects)
    if "row_histogram" not in model.refused:
        rows += [Part("remapper_banks", (spare,), n) for spare, n in spare_banks(model, defects).items()]
    if "fabric" not in model.refused:
        rows += [
            Part("fabric_fault_flag", (fault,), float(fault in defects.fabric_faults))
            for fault in (*FABRIC_FAULTS, "incorrect_configuration")
        ]
    return tuple(rows)


def _ecc(model: Model, defects: Defects) -> Iterator[Part]:
    if not defects.ecc_on:
        return
    errors = {
        ("device", "corrected", "volatile"): defects.ecc_corrected,
        ("device", "uncorrected", "volatile"): defects.ecc_uncorrected,
        ("device", "corrected", "aggregate"): defects.ecc_corrected + defects.earlier_corrected,
        ("device", "uncorrected", "aggregate"): defects.ecc_uncorrected + defects.earlier_uncorrected,
        ("l2", "corrected", "volatile"): defects.sram_corrected,
        ("l2", "uncorrected", "volatile"): defects.sram_uncorrected,
        ("l2", "corrected", "aggregate"): defects.sram_corrected,
        ("l2", "uncorrected", "aggregate"): defects.sram_uncorrected,
    }
    for lifetime, first in FIRST_FIELD.items():
        places = [(place, kind) for place in LOCATIONS for kind in ("corrected", "uncorrected")]
        for number, (place, kind) in enumerate([*places, ("cbu", "uncorrected")], first):
            if f"field:{number}" not in model.refused:
                count = float(errors.get((place, kind, lifetime), 0))
                yield Part("ecc_location_errors_total", (kind, lifetime, place), count)


def _sram(defects: Defects) -> Iterator[Part]:
    for lifetime in FIRST_FIELD:
        for kind, count in (("corrected", defects.sram_corrected), ("uncorrected", defects.sram_uncorrected)):
            yield Part("ecc_location_errors_total", (kind, lifetime, "sram"), float(count))


def _pcie(model: Model, defects: Defects) -> Iterator[Part]:
    errors = {
        "correctable": defects.pcie_correctable,
        "non_fatal": defects.pcie_non_fatal,
        "fatal": defects.pcie_fatal,
    }
    for kind, number in PCIE_ERRORS.items():
        if f"field:{number}" not in model.refused:
            yield Part("pcie_errors_total", (kind,), float(errors.get(kind, 0)))


def _links(model: Model, defects: Defects) -> Iterator[Part]:
    errors = {
        "replay": defects.link_replays,
        "recovery": defects.link_recoveries,
        "crc": defects.link_crc,
    }
    for link in range(model.links):
        yield Part("nvlink_up_flag", (str(link),), float(link not in defects.links_down))
        for kind, count in errors.items():
            faulty = link == defects.faulty_link
            yield Part("nvlink_link_errors_total", (str(link), kind), float(count if faulty else 0))
