"""What nvidia-smi says, understood: a hand-written answer of two H200, and texts that are none."""

from pathlib import Path

import pytest

from agent.quantities import QUANTITIES
from agent.tick import Gpu
from bench.gpu_smi import NUMBERS, TEXTS, WORDS, Power, SmiError, Told, number_of, parse, parse_power

ANSWER = Path(__file__).with_name("h200.xml")
FIRST, SECOND = "GPU-00112233-4455-6677-8899-aabbccddeeff", "GPU-ffeeddcc-bbaa-9988-7766-554433221100"
MIB = 1 << 20


@pytest.fixture
def told() -> dict[str, Told]:
    """Give the answer, understood."""
    return parse(ANSWER.read_text(encoding="utf-8"))


def test_only_names_of_ours_are_used() -> None:
    """Every quantity and every identity is one that the agent has too."""
    assert NUMBERS.keys() | WORDS.keys() <= QUANTITIES.keys()
    assert TEXTS.keys() <= set(Gpu.__dataclass_fields__)


@pytest.mark.parametrize(
    ("quantity", "value"),
    [
        ("memory_total_bytes", 143_771 * MIB),
        ("memory_reserved_bytes", 613 * MIB),
        ("bar1_used_bytes", 4 * MIB),
        ("power_watts", 75.43),
        ("memory_power_watts", 46.06),
        ("power_limit_watts", 700.0),
        ("temperature_celsius", 28.0),
        ("temperature_margin_celsius", 59.0),
        ("temperature_margin_shutdown_celsius", -8.0),
        ("sm_clock_hertz", 345e6),
        ("sm_clock_max_hertz", 1.98e9),
        ("performance_state_code", 2.0),
        ("throttle_power_cap_seconds_total", 1.5),
        ("pcie_link_lanes", 8.0),
        ("pcie_link_max_lanes", 16.0),
        ("pcie_link_generation", 4.0),
        ("pcie_replays_total", 3.0),
        ("persistence_mode_flag", 1.0),
        ("mig_mode_flag", 0.0),
        ("compute_mode_code", 3.0),
        ("recovery_action_code", 4.0),
        ("fabric_state_code", 3.0),
        ("fabric_health_code", 3.0),
        ("row_remap_pending_flag", 1.0),
        ("row_remap_failure_flag", 0.0),
        ("sram_threshold_exceeded_flag", 0.0),
        ("remapped_rows_uncorrected_total", 1.0),
    ],
)
def test_a_value_comes_out_in_its_base_unit(told: dict[str, Told], quantity: str, value: float) -> None:
    """Numbers, words and units of the answer are those of our quantities."""
    assert told[FIRST].values[quantity] == pytest.approx(value)


def test_what_is_not_told_is_left_out(told: dict[str, Told]) -> None:
    """N/A, a sentence instead of a value and a missing section are ignorance, never 0."""
    silent = {
        "module_power_watts",
        "throttle_power_brake_seconds_total",
        "throttle_hw_thermal_seconds_total",
        "retired_pages_single_bit_total",
        "retired_pages_pending_flag",
        "temperature_shutdown_celsius",
        "energy_joules_total",
    }
    assert not silent & told[FIRST].values.keys()
    assert told[SECOND].values == {"ecc_corrected_volatile_total": 7.0}
    assert told[SECOND].processes == {}


def test_errors_of_all_places_make_the_total(told: dict[str, Told]) -> None:
    """A total is the sum of what is told; each place is told besides."""
    values, parts = told[FIRST].values, told[FIRST].parts
    assert values["ecc_corrected_volatile_total"] == 41
    assert values["ecc_uncorrected_volatile_total"] == 10
    assert values["ecc_corrected_aggregate_total"] == 60
    assert "ecc_uncorrected_aggregate_total" not in values
    assert parts["ecc_location_errors_total", ("uncorrected", "volatile", "sram")] == 5
    assert parts["remapper_banks", ("max",)] == 3_071
    assert ("fan_speed_ratio", ("0",)) not in parts


def test_a_gpu_is_known_by_its_texts(told: dict[str, Told]) -> None:
    """Identity comes as text; a place that says N/A tells nothing."""
    texts = told[FIRST].texts
    assert texts["serial"] == "1650000000017"
    assert texts["module"] == "4"
    assert texts["chassis"] == texts["slot"] == texts["tray"] == ""
    assert texts["driver"] == "580.95.05"
    assert told[FIRST].processes == {4242: 512 * MIB, 4243: None}


def test_an_energy_is_found_wherever_it_stands() -> None:
    """Newer versions may tell the energy counter; its tag and unit say what it is."""
    gpu = "<gpu><uuid>GPU-1</uuid><a><total_energy>1500 mJ</total_energy></a></gpu>"
    assert parse(f"<nvidia_smi_log>{gpu}</nvidia_smi_log>")["GPU-1"].values["energy_joules_total"] == 1.5


@pytest.mark.parametrize("text", ["", "NVIDIA-SMI has failed because it could not reach the driver.\nMore"])
def test_no_xml_is_said_in_a_sentence(text: str) -> None:
    """What nvidia-smi complains of is passed on."""
    with pytest.raises(SmiError, match=r"^nvidia-smi -q -x gave no XML: (nothing|NVIDIA-SMI has failed)"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [("-2 C", -2.0), ("3072 bank(s)", 3072.0), ("P0", 0.0), ("12 %", 0.12), ("N/A", None), (None, None)],
)
def test_a_number_is_read_with_its_unit(text: str | None, number: float | None) -> None:
    """What has no number first is none."""
    assert number_of(text) == (None if number is None else pytest.approx(number))


def test_the_log_of_power_leaves_out_what_is_unfinished() -> None:
    """A line without a date, or with too few cells, is not taken; a cell that is N/A is None."""
    text = "2026/11/23 06:00:00.500, 75.43, [N/A]\nnonsense, 1, 2\n2026/11/23 06:00:01.0"
    (one,) = parse_power(text)
    assert one == Power(one.at_ms, 75.43, None)
    assert one.at_ms % 1000 == 500
