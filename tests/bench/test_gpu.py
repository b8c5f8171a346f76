"""The whole check but its load, over the simulated driver and a stand-in for nvidia-smi."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.clock import VirtualClock
from agent.simulated.scenario import Simulation, parse_simulation
from agent.simulator import Library, install, uninstall
from bench import gpu
from bench.gpu_rows import Row, Verdict
from tests.bench.stand_in import StandIn

START_MS = 1_790_000_000_000


@pytest.fixture
def clock() -> VirtualClock:
    """Give time that passes at once."""
    return VirtualClock(START_MS)


@pytest.fixture
def simulation(clock: VirtualClock) -> Iterator[Simulation]:
    """Give two simulated H200, and put their driver in place."""
    made = parse_simulation("h200x2")
    install(Library(made, lambda: clock.wall_ms() * 1000))
    yield made
    uninstall()


def checked(
    simulation: Simulation, clock: VirtualClock, out: Path, spoil: tuple[str, str] = ("", "")
) -> tuple[list[Row], Path]:
    """Check without the load; `spoil` replaces a text in the stand-in's answer."""
    return gpu.check(clock, lambda: StandIn(simulation, clock, spoil), None, out)


def test_agent_and_simulation_agree(
    simulation: Simulation, clock: VirtualClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every family that both tell is compared, and nothing differs."""
    rows, path = checked(simulation, clock, tmp_path)
    wrong = [row for row in rows if row.verdict not in (Verdict.AGREE, Verdict.ONLY_OURS)]
    assert wrong == []
    agreed = {row.quantity for row in rows if row.verdict is Verdict.AGREE}
    assert agreed >= {
        "uuid",
        "serial",
        "pci_bus",
        "memory_used_bytes",
        "bar1_total_bytes",
        "power_limit_watts",
        "temperature_margin_shutdown_celsius",
        "throttle_power_cap_seconds_total",
        "ecc_uncorrected_aggregate_total",
        "persistence_mode_flag",
        "recovery_action_code",
        "fabric_state_code",
        "pcie_replays_total",
    }
    assert any(quantity.startswith("memory of process") for quantity in agreed)
    printed = capsys.readouterr().out
    assert "nvmlDeviceGetFieldValues" in printed
    assert path.name == "nvidia-h200-580.95.05.json"


def test_a_recording_holds_answers_and_no_names(
    simulation: Simulation, clock: VirtualClock, tmp_path: Path
) -> None:
    """Answers, fields, metrics, latencies and rings are there; serial numbers and UUIDs are not."""
    _, path = checked(simulation, clock, tmp_path)
    text = path.read_text(encoding="utf-8")
    for index in range(simulation.count):
        assert simulation.uuid(index) not in text
        assert simulation.serial(index) not in text
    told = json.loads(text)
    assert told["calls"]["nvmlDeviceGetUUID()"] == {"code": 0, "answer": ["…"]}
    assert told["fields"]["189"]["value"] == 700_000
    assert told["metrics"]["2"]["code"] == 0
    assert told["behaviour"]["rings"]["gpu"]["samples"] > 0
    assert told["reading"]["memory_total_bytes"] == simulation.model.memory_total_bytes
    assert {"date", "driver", "cuda", "latencies", "refusals", "at_rest"} <= told.keys()


@pytest.mark.parametrize(
    ("spoil", "quantity"),
    [
        (("700.00 W", "650.00 W"), "power_limit_watts"),
        (("96.00.BC.00.02", "96.00.BC.00.03"), "vbios"),
        (("143771 MiB", "143000 MiB"), "memory_total_bytes"),
    ],
)
def test_what_differs_is_found(
    simulation: Simulation, clock: VirtualClock, tmp_path: Path, spoil: tuple[str, str], quantity: str
) -> None:
    """One wrong figure of nvidia-smi is one quantity that differs."""
    rows, _ = checked(simulation, clock, tmp_path, spoil)
    assert quantity in {row.quantity for row in rows if row.verdict is Verdict.DIFFER}


def test_an_nvidia_smi_that_fails_was_not_checked(
    simulation: Simulation, clock: VirtualClock, tmp_path: Path
) -> None:
    """What it said instead is in the line."""
    rows, _ = checked(simulation, clock, tmp_path, ("<nvidia_smi_log>", "Unable to determine the device"))
    assert [row.verdict for row in rows] == [Verdict.NOT_CHECKED]


def test_without_a_driver_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, and code 1."""
    monkeypatch.setattr(gpu, "missing", lambda: "nvidia-smi is not in the PATH")
    assert gpu.main([]) == 1
    assert capsys.readouterr().err == "nvidia-smi is not in the PATH\n"


@pytest.mark.usefixtures("simulation")
def test_a_machine_without_nvidia_smi_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a driver and without its programs there is nothing to compare with."""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert gpu.missing().startswith("nvidia-smi is not in the PATH: install")


def test_a_gpu_in_use_gets_no_load(
    simulation: Simulation, clock: VirtualClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The simulated GPUs all work: the load is refused, and that is said."""
    rows, _ = gpu.check(clock, lambda: StandIn(simulation, clock), 20.0, tmp_path)
    (load,) = [row for row in rows if row.quantity == "load"]
    assert load.verdict is Verdict.NOT_CHECKED
    assert "in use" in load.theirs
    assert "What the load did: 1 NOT CHECKED" in capsys.readouterr().out
