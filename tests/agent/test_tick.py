"""The list of quantities: names carry units, each is documented, and a reading knows no other."""

import sys
from dataclasses import fields
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from agent import tick as vocabulary
from agent.tick import (
    QUANTITIES,
    Condition,
    Holder,
    Metric,
    Process,
    Reading,
    State,
    Workload,
    check_name,
    reading_of,
)


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
    ],
)
def test_a_name_with_a_base_unit_is_taken(name: str, kind: str) -> None:
    """Gauges end in a unit, counters in a unit and `total`, or in `total` where they count things."""
    check_name(name, kind)


@pytest.mark.parametrize("name", QUANTITIES)
def test_every_quantity_is_documented(name: str) -> None:
    """Each has a kind and a sentence, and a name that fits both."""
    metric = QUANTITIES[name]
    assert metric.kind in ("gauge", "counter")
    assert len(metric.help) > 15
    assert metric.help.isascii()
    assert not metric.help.endswith(".")
    check_name(name, metric.kind)
    check_name(metric.family or name, metric.kind)


def test_every_field_but_the_frame_is_a_quantity() -> None:
    """All fields of a reading that are not who, when and how are quantities, in their order."""
    frame = ["uuid", "start_ms", "end_ms", "condition", "processes"]
    assert [field.name for field in fields(Reading)] == frame + list(QUANTITIES)


def test_members_of_a_family_differ_in_their_label() -> None:
    """Several fields make one metric only with different values of the same label."""
    families: dict[str, list[Metric]] = {}
    for metric in QUANTITIES.values():
        if metric.family:
            families.setdefault(metric.family, []).append(metric)
    for members in families.values():
        labels = [member.label for member in members]
        assert None not in labels
        assert len({label[0] for label in labels if label}) == 1
        assert len(set(labels)) == len(labels)
    assert families.keys() & QUANTITIES.keys() == set()


def test_a_reading_with_a_wrong_name_does_not_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quantity whose name has no base unit stops the import of the vocabulary."""
    source = Path(vocabulary.__file__).read_text(encoding="utf-8")
    altered = tmp_path / "altered_tick.py"
    altered.write_text(source.replace("    busy_ratio: ", "    busy_percent: "), encoding="utf-8")
    spec = spec_from_file_location("altered_tick", altered)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "altered_tick", module)
    with pytest.raises(TypeError, match="'busy_percent' does not end in a base unit"):
        spec.loader.exec_module(module)


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
