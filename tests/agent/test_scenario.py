"""The truth of a simulation: its integrals are exact, and it depends on nothing but time."""

import random
from itertools import pairwise

import pytest

from agent.errors import SettingsError
from agent.quantities import QUANTITIES
from agent.sanity import believed
from agent.simulated.defects import SOUND, Defects
from agent.simulated.models import MODELS
from agent.simulated.phases import EPOCH_US, REASONS, WEEK_US, Pattern, pattern
from agent.simulated.playbook import SCENARIOS
from agent.simulated.scenario import Simulation, parse_simulation
from agent.tick import Condition, Part, check_part

SECOND = 1_000_000
HOUR = 3_600 * SECOND
MONDAY = EPOCH_US + 157 * WEEK_US
"""Monday 5 January 2026, 00:00 UTC."""


def moments(count: int, seed: int) -> list[int]:
    """Return random moments of a fortnight, in order."""
    source = random.Random(seed)  # noqa: S311  the same moments in every run
    return sorted(MONDAY + source.randrange(2 * WEEK_US) for _ in range(count))


def at(day: int, hour: float) -> int:
    """Return a moment of the week of 5 January 2026; day 0 is Monday."""
    return MONDAY + round((day * 24 + hour) * HOUR)


@pytest.mark.parametrize("offset", [0, 3, 1_234])
def test_a_pattern_is_on_for_as_many_moments_as_it_says(offset: int) -> None:
    """The integral of a pattern is the count of its microseconds that are on."""
    repeated = pattern(100, [(5, 11), (30, 31), (60, 95)]).shifted(offset)
    on = [repeated.is_on(moment) for moment in range(450)]
    assert [repeated.on_for(moment) for moment in range(450)] == [sum(on[:moment]) for moment in range(450)]


def test_a_pattern_without_spans_is_never_on() -> None:
    """Nothing sums to nothing."""
    empty: Pattern = pattern(1_000, [])
    assert (empty.on_for(123_456), empty.is_on(77)) == (0, False)


@pytest.mark.parametrize("scenario", ["training", "bursty", "held", "free", "hot"])
def test_busy_time_is_the_sum_of_busy_instants(scenario: str) -> None:
    """Looking every 100 microseconds for eight seconds finds the integral."""
    simulation = parse_simulation(f"h200x1:{scenario}")
    start, step = at(2, 10.123), 100
    seen = sum(simulation.busy_at(0, start + n * step) for n in range(80_000)) * step / SECOND
    assert simulation.busy_seconds(0, start, start + 8 * SECOND) == pytest.approx(seen, abs=0.005)


def test_integrals_of_parts_sum_to_the_whole() -> None:
    """Cutting a fortnight anywhere loses nothing: not time, not energy, not throttling."""
    simulation = parse_simulation("h200x8")
    cuts = moments(200, seed=1)
    for gpu in range(8):
        parts = sum(simulation.energy_joules(gpu, start, end) for start, end in pairwise(cuts))
        assert parts == pytest.approx(simulation.energy_joules(gpu, cuts[0], cuts[-1]), rel=1e-12)
        for reason in REASONS:
            each = [simulation.throttle_seconds(gpu, reason, start, end) for start, end in pairwise(cuts)]
            whole = simulation.throttle_seconds(gpu, reason, cuts[0], cuts[-1])
            assert sum(each) == pytest.approx(whole, abs=1e-5)


def test_energy_is_idle_power_and_the_power_of_busy_time() -> None:
    """A GPU in bursts uses its idle watts all the time and the rest while busy."""
    simulation = parse_simulation("h100x1:bursty")
    start, end = at(1, 3.3), at(1, 5.9)
    busy = simulation.busy_seconds(0, start, end)
    dynamic_watts = round((690 - 71) * 0.62, 3)
    expected = 71 * (end - start) / SECOND + dynamic_watts * busy
    assert simulation.energy_joules(0, start, end) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("text", ["h200x8", "a100x8:mixed", "t4x1:lost"])
def test_counters_never_go_down(text: str) -> None:
    """Whatever moments are asked for, a later one has no lower counter, nor ever more than time passed."""
    simulation = parse_simulation(text)
    for gpu in range(simulation.count):
        last, last_us = simulation.counters(gpu, MONDAY), MONDAY
        for moment in moments(300, seed=gpu):
            now = simulation.counters(gpu, moment)
            assert all(new >= old for new, old in zip(now, last, strict=True))
            assert now.busy_us - last.busy_us <= moment - last_us
            last, last_us = now, moment


def test_before_the_epoch_nothing_happened() -> None:
    """A clock that is years behind finds counters at zero."""
    assert set(parse_simulation("h200x1:training").counters(0, SECOND)) == {0}


def test_two_runs_tell_the_same_history() -> None:
    """A restart changes no UUID, no pid and no counter."""
    one, other = parse_simulation("h200x8"), parse_simulation("h200x8")
    assert [one.gpu(gpu) for gpu in range(8)] == [other.gpu(gpu) for gpu in range(8)]
    assert one.people() == other.people()
    assert [one.counters(gpu, at(3, 7.7)) for gpu in range(8)] == [
        other.counters(gpu, at(3, 7.7)) for gpu in range(8)
    ]


def test_gpus_are_told_apart() -> None:
    """Of 64 GPUs no two share a UUID, a serial number or a PCI address."""
    simulation = parse_simulation("h200x64")
    for identities in (simulation.uuid, simulation.serial, simulation.pci_bus):
        assert len({identities(gpu) for gpu in range(64)}) == 64


def test_the_weeks_of_the_demo_are_alike() -> None:
    """What a GPU does on a Wednesday it does on the next."""
    simulation = parse_simulation("h200x8")
    for gpu in range(8):
        week, start, end = WEEK_US, at(2, 9.4), at(2, 17.2)
        assert simulation.busy_seconds(gpu, start, end) == simulation.busy_seconds(
            gpu, start + week, end + week
        )


def test_the_demo_shows_each_kind_of_gpu() -> None:
    """One is held and idle for days, one is hot of an afternoon, one free at night, one lost on Wednesday."""
    simulation = parse_simulation("h200x8")
    assert simulation.busy_seconds(2, at(1, 0), at(4, 0)) == 0
    assert [one.user for one in simulation.processes(2, at(2, 3))] == ["bob"]
    assert simulation.throttle_seconds(3, "hw_thermal", at(1, 13), at(1, 17.5)) > 1_000
    assert simulation.throttle_seconds(3, "hw_thermal", at(1, 0), at(1, 13)) == 0
    assert (simulation.processes(4, at(1, 2)), len(simulation.processes(4, at(1, 12)))) == ((), 1)
    assert [simulation.lost(5, at(2, hour)) for hour in (12.99, 13.01, 15.3, 15.4)] == [
        False,
        True,
        True,
        False,
    ]


def test_a_lost_gpu_uses_nothing() -> None:
    """While a GPU is off the bus the truth has no busy time and no energy."""
    simulation = parse_simulation("h200x2:lost")
    start, end = MONDAY + 120 * SECOND, MONDAY + 240 * SECOND
    assert simulation.busy_seconds(0, start, end) == simulation.energy_joules(0, start, end) == 0
    assert simulation.energy_joules(1, start, end) > 0


def test_temperature_never_jumps() -> None:
    """Within a second a core warms or cools by less than two degrees, whatever the act."""
    simulation = parse_simulation("h200x8")
    for gpu in range(8):
        around = [at(day, hour) + offset for day in range(7) for hour in (0, 13, 17.5) for offset in (-1, 1)]
        for moment in [*around, *moments(100, seed=9)]:
            step = simulation.temperature_celsius(gpu, moment + SECOND)
            step -= simulation.temperature_celsius(gpu, moment)
            assert abs(step) < 2


def test_a_hot_gpu_is_slower_and_near_its_limit() -> None:
    """Heat lowers the clock, and stays below what switches the device off."""
    simulation = parse_simulation("h200x1:hot")
    clocks = {round(simulation.clock_hertz(0, MONDAY + n * SECOND) / 1e6) for n in range(30)}
    assert clocks == {1_785, 1_285}
    assert 89 < simulation.temperature_celsius(0, MONDAY + HOUR) < 95


@pytest.mark.parametrize("model", MODELS)
def test_a_reading_tells_the_truth(model: str) -> None:
    """Ratios, power, counters and memory of a reading are those of the integrals."""
    simulation = parse_simulation(f"{model}x8")
    for gpu in range(8):
        for start in moments(20, seed=gpu):
            start_ms, end_ms = start // 1_000, start // 1_000 + 60_000
            reading = simulation.reading(gpu, start_ms, end_ms)
            if reading.condition is Condition.LOST:
                assert simulation.lost(gpu, start_ms * 1_000)
                continue
            busy = simulation.busy_seconds(gpu, start_ms * 1_000, end_ms * 1_000)
            joules = simulation.energy_joules(gpu, start_ms * 1_000, end_ms * 1_000)
            assert reading.busy_ratio == pytest.approx(busy / 60)
            assert reading.power_watts == pytest.approx(joules / 60)
            assert reading.uuid == simulation.uuid(gpu)
            assert reading.memory_used_max_bytes is not None
            assert reading.memory_used_bytes is not None
            assert reading.memory_used_bytes <= reading.memory_used_max_bytes


def test_readings_chain_to_the_counters() -> None:
    """The energy counter grows from reading to reading by mean power times the time."""
    simulation = parse_simulation("h200x1:bursty")
    first, second = (
        simulation.reading(0, MONDAY // 1_000 + n, MONDAY // 1_000 + n + 7_000) for n in (0, 7_000)
    )
    assert first.energy_joules_total is not None
    assert second.energy_joules_total is not None
    assert second.power_watts is not None
    grown = second.energy_joules_total - first.energy_joules_total
    assert grown == pytest.approx(second.power_watts * 7, rel=1e-6)


def test_a_reading_over_several_acts_weighs_them() -> None:
    """Half an hour free and half an hour at work hold half the memory in the mean, all of it at most."""
    simulation = parse_simulation("h200x8")
    begin_ms, half_hour_ms = at(1, 8.5) // 1_000, 1_800_000
    reading = simulation.reading(4, begin_ms - half_hour_ms, begin_ms + half_hour_ms)
    held = simulation.memory_used_bytes(4, at(1, 9))
    assert (reading.memory_used_bytes, reading.memory_used_max_bytes) == (held / 2, held)
    week = simulation.reading(4, at(0, 0) // 1_000, at(0, 0) // 1_000 + 7 * 86_400_000)
    assert week.memory_used_max_bytes == held


def test_a_reading_of_a_lost_gpu_says_nothing() -> None:
    """Lost means: the condition, and no quantity."""
    reading = parse_simulation("h200x1:lost").reading(0, MONDAY // 1_000 + 130_000, MONDAY // 1_000 + 140_000)
    assert (reading.condition, reading.energy_joules_total, reading.busy_ratio) == (
        Condition.LOST,
        None,
        None,
    )


def test_a_reading_has_none_where_the_model_refuses() -> None:
    """A GeForce of 2017 has no energy counter, a T4 no memory temperature; an H200 has all that there is."""
    start = MONDAY // 1_000
    geforce, t4, h200 = (
        parse_simulation(f"{model}x1").reading(0, start, start + 60_000)
        for model in ("geforce", "t4", "h200")
    )
    assert geforce.energy_joules_total is geforce.throttle_reliability_seconds_total is None
    assert geforce.throttle_power_cap_seconds_total is not None
    assert geforce.ecc_mode_flag is geforce.ecc_corrected_volatile_total is geforce.sm_active_ratio is None
    assert t4.memory_temperature_celsius is t4.throttle_hw_thermal_seconds_total is None
    assert t4.energy_joules_total is not None
    assert (t4.retired_pages_single_bit_total, t4.remapped_rows_corrected_total) == (0, None)
    assert (h200.retired_pages_single_bit_total, h200.remapped_rows_corrected_total) == (None, 0)
    unknown = {name for name in QUANTITIES if getattr(h200, name) is None}
    of_others = ("retired_", "fan_speed_")
    assert unknown == {"module_power_watts"} | {name for name in QUANTITIES if name.startswith(of_others)}


def test_what_the_units_did_is_that_of_the_truth() -> None:
    """Shares and traffic of a reading are differences of the exact sums; an idle GPU's are 0."""
    simulation = parse_simulation("h200x8")
    for gpu in range(8):
        for start in moments(20, seed=gpu):
            start_us, end_us = start // 1_000_000 * SECOND, start // 1_000_000 * SECOND + 60 * SECOND
            reading = simulation.reading(gpu, start_us // 1_000, end_us // 1_000)
            if reading.condition is Condition.LOST:
                continue
            span = gpu, start_us, end_us
            assert reading.sm_active_ratio == pytest.approx(simulation.sm_active_seconds(*span) / 60)
            assert reading.tensor_active_ratio == pytest.approx(simulation.tensor_active_seconds(*span) / 60)
            assert reading.dram_active_ratio == pytest.approx(simulation.dram_active_seconds(*span) / 60)
            assert reading.graphics_active_ratio == reading.busy_ratio
            assert (reading.sm_active_ratio == 0) == (reading.busy_ratio == 0)


def test_bytes_over_links_grow_by_the_truth() -> None:
    """Counters of two readings differ by what went over the links between their ends."""
    simulation = parse_simulation("h200x1:training")
    ends_us = MONDAY + 60 * SECOND, MONDAY + 127 * SECOND
    first, last = (simulation.reading(0, MONDAY // 1_000, end_us // 1_000) for end_us in ends_us)
    assert first.nvlink_tx_bytes_total is not None
    assert last.nvlink_tx_bytes_total is not None
    grown = last.nvlink_tx_bytes_total - first.nvlink_tx_bytes_total
    assert grown == simulation.nvlink_bytes(0, "tx", *ends_us) > 0
    assert first.pcie_rx_bytes_total is not None
    assert last.pcie_rx_bytes_total is not None
    grown = last.pcie_rx_bytes_total - first.pcie_rx_bytes_total
    assert grown == simulation.pcie_bytes(0, "rx", *ends_us) > 0


def test_a_model_without_links_sends_nothing_over_them() -> None:
    """A T4 has PCIe only."""
    simulation = parse_simulation("t4x1:training")
    assert simulation.nvlink_bytes(0, "tx", MONDAY, MONDAY + HOUR) == 0
    assert simulation.pcie_bytes(0, "tx", MONDAY, MONDAY + HOUR) > 0


@pytest.mark.parametrize("model", MODELS)
def test_a_reading_is_believable(model: str) -> None:
    """Every quantity and part lies within the bounds of what the agent believes."""
    simulation = parse_simulation(f"{model}x8")
    for gpu in range(8):
        for start in moments(10, seed=gpu):
            reading = simulation.reading(gpu, start // 1_000, start // 1_000 + 60_000)
            for name in QUANTITIES:
                value = getattr(reading, name)
                assert value is None or believed(name, value), name
            for part in reading.parts or ():
                assert believed(check_part(part).quantity, part.value)


def test_parts_are_read_once_a_minute() -> None:
    """A reading that ends a minute tells the parts of the GPU, others do not."""
    simulation, start = parse_simulation("h100x1"), MONDAY // 1_000
    assert simulation.reading(0, start, start + 30_000).parts is None
    parts = simulation.reading(0, start + 30_000, start + 60_000).parts
    assert parts is not None
    assert [part.labels[0] for part in parts if part.quantity == "nvlink_up_flag"] == [
        str(link) for link in range(18)
    ]
    assert Part("remapper_banks", ("max",), 2_560) in parts
    fans = parse_simulation("geforcex1:free").reading(0, start, start + 60_000).parts
    assert fans == (Part("fan_speed_ratio", ("0",), 0.23),)


def test_a_reading_shows_what_is_wrong() -> None:
    """Defects of the moment stand in the reading: errors, a narrow link, a link that is down."""
    simulation, start = parse_simulation("h200x2"), MONDAY // 1_000
    wrong = Defects(ecc_corrected=3, earlier_corrected=4, pcie_lanes=8, links_down=frozenset({5}))
    simulation.defects_at = lambda index, _at_us: wrong if index else SOUND
    sound, ill = (simulation.reading(gpu, start, start + 60_000) for gpu in (0, 1))
    assert (sound.ecc_corrected_volatile_total, sound.pcie_link_lanes, sound.nvlink_active_links) == (
        0,
        16,
        18,
    )
    assert (ill.ecc_corrected_volatile_total, ill.ecc_corrected_aggregate_total) == (3, 7)
    assert (ill.pcie_link_lanes, ill.nvlink_active_links) == (8, 17)
    assert ill.parts is not None
    assert Part("nvlink_up_flag", ("5",), 0.0) in ill.parts


def test_a_partitioned_gpu_has_no_rings_but_metrics() -> None:
    """With MIG on nothing is known of busy time, while the units inside are still counted."""
    simulation, start = parse_simulation("h200x1:training"), MONDAY // 1_000
    simulation.partitioned_at = lambda _index, _at_us: True
    reading = simulation.reading(0, start, start + 60_000)
    assert reading.busy_ratio is reading.encoder_ratio is None
    assert reading.sm_active_ratio is not None
    assert reading.mig_mode_flag == 1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_process_belongs_to_someone(model: str, scenario: str) -> None:
    """A pid has one user and command, and the processes of a GPU fit into its memory."""
    simulation = parse_simulation(f"{model}x9:{scenario}")
    people = simulation.people()
    for gpu in range(9):
        for moment in moments(20, seed=gpu):
            listed = simulation.processes(gpu, moment)
            assert all(people[one.pid] == (one.user, one.command) for one in listed)
            used = simulation.memory_used_bytes(gpu, moment)
            assert used == sum(one.memory_bytes for one in listed)
            assert used <= simulation.model.memory_total_bytes - simulation.model.memory_reserved_bytes


def test_demo_is_the_scenario_unless_another_is_named() -> None:
    """The short form names the model and the count."""
    simulation: Simulation = parse_simulation("a100x4")
    assert (simulation.name, simulation.count, simulation.model.name) == ("demo", 4, "NVIDIA A100-SXM4-80GB")


@pytest.mark.parametrize(
    "text",
    ["", "h200", "h200x", "h200x0", "h200x65", "v100x8", "h200x8:", "h200x8:party", "h200x-1", "h200x\uff18"],
)
def test_other_text_is_refused_with_the_choices(text: str) -> None:
    """The one sentence names the models and the scenarios."""
    with pytest.raises(
        SettingsError, match=r"h200, h100, a100, t4, geforce.*1 to 64.*demo, training, bursty"
    ):
        parse_simulation(text)
