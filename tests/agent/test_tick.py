"""The list of quantities: names carry units, each is documented, and a reading knows no other."""

import sys
from dataclasses import fields
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from agent import pieces, quantities
from agent.pieces import PARTS, SLICE_QUANTITIES
from agent.quantities import QUANTITIES, Metric, check_name
from agent.tick import (
    Condition,
    Holder,
    Part,
    Process,
    Reading,
    Slice,
    State,
    Workload,
    check_part,
    reading_of,
    slice_of,
)

ORIGINS = {"driver", "device", "probe"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("busy_percent", "gauge"),
        ("power_milliwatts", "gauge"),
        ("power_kilowatts_total", "gauge"),
        ("memory_used_mib", "gauge"),
        ("sm_clock_mhz", "gauge"),
        ("temperature", "gauge"),
        ("energy_joules", "counter"),
        ("energy_millijoules", "counter"),
        ("busy_ratio", "counter"),
        ("ecc_mode_flag", "counter"),
        ("pcie_replays_total", "gauge"),
        ("nvlink_links_count", "gauge"),
        ("", "gauge"),
        ("", "counter"),
    ],
)
def test_a_name_without_a_base_unit_is_refused(name: str, kind: str) -> None:
    """The error names the quantity and the units that it may end in."""
    with pytest.raises(TypeError, match=r"does not end in a base unit.*_"):
        check_name(name, kind)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("busy_ratio", "gauge"),
        ("memory_used_bytes", "gauge"),
        ("power_watts", "gauge"),
        ("temperature_celsius", "gauge"),
        ("sm_clock_hertz", "gauge"),
        ("energy_joules_total", "counter"),
        ("pcie_sent_bytes_total", "counter"),
        ("ecc_errors_total", "counter"),
        ("ecc_mode_flag", "gauge"),
        ("performance_state_code", "gauge"),
        ("pcie_link_generation", "gauge"),
        ("pcie_link_lanes", "gauge"),
        ("nvlink_active_links", "gauge"),
        ("remapper_banks", "gauge"),
    ],
)
def test_a_name_with_a_base_unit_is_taken(name: str, kind: str) -> None:
    """Gauges end in a unit, counters in a unit and `total`, or in `total` where they count things."""
    check_name(name, kind)


def sentences() -> dict[str, str]:
    """Give the text that says what a metric is: of a family, the first one's."""
    return {metric.family or name: metric.help for name, metric in reversed(list(QUANTITIES.items()))}


@pytest.mark.parametrize("name", QUANTITIES)
def test_every_quantity_is_documented(name: str) -> None:
    """Each has a kind, an origin and a text, its metric a sentence, and a name that fits both."""
    metric = QUANTITIES[name]
    assert metric.kind in ("gauge", "counter")
    assert metric.origin in ORIGINS
    assert metric.help.isascii()
    assert not metric.help.endswith(".")
    assert len(sentences()[metric.family or name]) > 15
    check_name(name, metric.kind)
    check_name(metric.family or name, metric.kind)


@pytest.mark.parametrize("name", [*SLICE_QUANTITIES, *PARTS])
def test_slices_and_parts_are_documented(name: str) -> None:
    """Each has a kind and a sentence, and a name that fits."""
    metric = SLICE_QUANTITIES.get(name) or PARTS[name]
    assert metric.kind in ("gauge", "counter")
    assert metric.help.isascii()
    assert len(metric.help) > 10
    check_name(name, metric.kind)


def test_every_field_but_the_frame_is_a_quantity() -> None:
    """All fields of a reading or a slice that are not who, when and how are quantities, in their order."""
    frame = ["uuid", "start_ms", "end_ms", "condition", "processes", "parts", "slices"]
    assert [field.name for field in fields(Reading)] == [*QUANTITIES, *frame]
    assert [field.name for field in fields(Slice)] == [*SLICE_QUANTITIES, "uuid", "profile", "weight_ratio"]


def test_a_slice_repeats_nothing_that_is_of_the_gpu_alone() -> None:
    """Energy, power, heat, clocks and errors are the whole GPU's."""
    units = ("_joules_total", "_watts", "_celsius", "_hertz", "_total", "_code", "_flag")
    assert not [name for name in SLICE_QUANTITIES if name.endswith(units)]
    assert SLICE_QUANTITIES.keys() <= QUANTITIES.keys()


def test_members_of_a_family_differ_in_their_labels() -> None:
    """Several fields make one metric only with different values of the same labels, and one origin."""
    families: dict[str, list[Metric]] = {}
    for metric in QUANTITIES.values():
        if metric.family:
            families.setdefault(metric.family, []).append(metric)
    assert families
    for members in families.values():
        names = {tuple(name for name, _ in member.labels) for member in members}
        assert len(names) == 1
        assert names != {()}
        assert len({member.labels for member in members}) == len(members)
        assert len({(member.kind, member.origin) for member in members}) == 1
    assert families.keys() & QUANTITIES.keys() == set()


def test_labels_are_said_of_families_only() -> None:
    """A quantity that is a metric of its own has none."""
    assert not [name for name, metric in QUANTITIES.items() if metric.labels and not metric.family]


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        (quantities, "    busy_ratio: ", "    busy_percent: "),
        (pieces, '    "fan_speed_ratio": ', '    "fan_speed_rpm": '),
        (pieces, "    memory_used_bytes: ", "    memory_mib: "),
    ],
)
def test_a_wrong_name_does_not_import(
    module: ModuleType, old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quantity, part or slice's quantity whose name has no base unit stops the import of the list."""
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    assert old in source
    altered = tmp_path / "altered_quantities.py"
    altered.write_text(source.replace(old, new), encoding="utf-8")
    spec = spec_from_file_location("altered_quantities", altered)
    assert spec is not None
    assert spec.loader is not None
    made = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "altered_quantities", made)
    with pytest.raises(TypeError, match="does not end in a base unit"):
        spec.loader.exec_module(made)


def test_a_reading_is_made_of_what_is_known() -> None:
    """What is not given is None, and what is given comes through."""
    process = Process(pid=4711, memory_used_bytes=2**30)
    reading = reading_of(
        "GPU-1", 1_000, 11_000, {"busy_ratio": 0.25, "power_watts": None}, processes=(process,)
    )
    assert (reading.uuid, reading.start_ms, reading.end_ms) == ("GPU-1", 1_000, 11_000)
    assert (reading.condition, reading.processes) == (Condition.OK, (process,))
    assert {name for name in QUANTITIES if getattr(reading, name) is not None} == {"busy_ratio"}


@pytest.mark.parametrize("name", ["busy", "busy_percent", "uuid", "start_ms", "condition"])
def test_a_reading_refuses_unknown_names(name: str) -> None:
    """A name that is no quantity is a KeyError that names it."""
    with pytest.raises(KeyError, match=name):
        reading_of("GPU-1", 0, 1, {"busy_ratio": 0.5, name: 1.0})


def test_a_slice_is_made_of_what_is_known() -> None:
    """What is not given is None; a name that only a GPU has is refused."""
    made = slice_of("MIG-1", "3g.71gb", 3 / 7, {"memory_used_bytes": 2.0**30})
    assert (made.uuid, made.profile, made.weight_ratio) == ("MIG-1", "3g.71gb", 3 / 7)
    assert {name for name in SLICE_QUANTITIES if getattr(made, name) is not None} == {"memory_used_bytes"}
    with pytest.raises(KeyError, match="power_watts"):
        slice_of("MIG-1", "", 0.0, {"power_watts": 71.0})


def test_a_part_has_the_labels_of_its_quantity() -> None:
    """One that is not listed, or has another number of labels, is refused."""
    part = Part("nvlink_link_errors_total", ("3", "replay"), 2.0)
    assert check_part(part) == part
    with pytest.raises(ValueError, match=r"nvlink_up_flag has labels \('link',\)"):
        check_part(Part("nvlink_up_flag", ("3", "replay"), 1.0))
    with pytest.raises(KeyError, match="nvlink_mood"):
        check_part(Part("nvlink_mood", (), 1.0))


def test_holders_with_the_same_name_differ() -> None:
    """A holder is all of its fields, though its hash is of the name alone."""
    first = Holder(kind="process", name="python train.py", owner="ada", user="ada")
    second = Holder(kind="process", name="python train.py", owner="bob", user="bob")
    assert hash(first) == hash(second)
    assert first != second
    assert len({first, second}) == 2


def test_words_are_those_of_the_design() -> None:
    """States, conditions and workloads are named as users meet them."""
    assert [str(state) for state in State] == (
        ["active", "held_gap", "held_idle", "free", "service", "drained", "down", "unknown"]
    )
    assert {str(condition) for condition in Condition} == {"ok", "lost", "reset_required", "hung", "missing"}
    assert {str(workload) for workload in Workload} == {"batch", "interactive", "serving"}
