"""Kills at any moment: nothing that a page ever showed is lost, nothing is counted twice, nothing remains."""

import http.client
import random
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.command.journals import check_identity, rows, seconds
from tests.command.processes import MIXED, Agent, Series, is_gone, running
from tests.command.waiting import until

TALLY = "gpu_tally_"


def test_the_probe_ends_with_its_agent(tmp_path: Path) -> None:
    """A killed agent leaves no probe behind: it ends within seconds by itself."""
    with running(tmp_path, *MIXED, "--journal", "j.db") as agent:
        agent.shows_gpus()
        probe = agent.probe()
        agent.kill()

        until(lambda: is_gone(probe), "the end of the probe", 20)
    check_identity(tmp_path / "j.db")


def test_the_agent_outlives_its_probe(tmp_path: Path) -> None:
    """A killed probe is replaced; the time in between is unknown, and every second is accounted for."""
    with running(tmp_path, *MIXED, "--journal", "j.db") as agent:
        agent.shows_gpus()
        first = agent.probe()
        first.kill()

        until(lambda: any(probe.pid != first.pid for probe in agent.probes()), "another probe")
        until(lambda: agent.value("gputally_probe_restarts_total") == 1, "the restart on the page")
        agent.shows_gpus()
        pages = agent.samples()
        assert agent.end() == 0
        assert agent.said.count("WARNING the GPUs cannot be read now: it ended with exit code -9") == 1
        assert agent.said.count("INFO the GPUs are being read again") == 1
    assert pages["gputally_probe_up", frozenset()] == 1
    check_identity(tmp_path / "j.db")
    assert seconds(tmp_path / "j.db", "unknown") > 0
    kinds = rows(tmp_path / "j.db", "SELECT kind FROM event ORDER BY id")
    assert kinds[:2] == [("probe_absent",), ("probe_back",)]


def watch(agent: Agent, highest: dict[Series, float], seconds: float) -> None:
    """Read the page again and again for so long; fail when a counter is lower than it ever was.

    Accounts must be there as soon as there are any; other counters come with their GPU's first reading.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = {key: value for key, value in agent.samples("gpu_").items() if key[0].endswith("_total")}
        lower = {key: (highest[key], value) for key, value in found.items() if value < highest.get(key, 0)}
        assert lower == {}
        if found:
            assert {key for key in highest if key[0].startswith(TALLY)} <= found.keys()
        highest.update(found)


@pytest.mark.parametrize("kills", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_no_kill_makes_a_counter_go_down(tmp_path: Path, kills: int) -> None:
    """Killed and started again at random moments, the node never shows less of any counter than before."""
    dice = random.Random(kills)  # noqa: S311  reproducible
    highest: dict[Series, float] = {}
    for _ in range(kills):
        with running(tmp_path, *MIXED, "--journal", "j.db") as agent:
            agent.shows_gpus()
            watch(agent, highest, dice.uniform(1.2, 3.2))
            agent.kill()
        check_identity(tmp_path / "j.db")
    with running(tmp_path, *MIXED, "--journal", "j.db") as agent:
        agent.shows_gpus()
        watch(agent, highest, 1.5)
        assert agent.end() == 0

    assert {"gpu_tally_seconds_total", "gpu_energy_joules_total", "gpu_pcie_tx_bytes_total"} <= {
        name for name, _ in highest
    }
    assert min(value for (name, _), value in highest.items() if name == "gpu_pcie_tx_bytes_total") > 0
    check_identity(tmp_path / "j.db")
    assert rows(tmp_path / "j.db", "SELECT count(*) FROM place") == [(2,)]


def test_a_kill_while_it_starts_does_no_harm(tmp_path: Path) -> None:
    """Killed at moments of its very start, the node starts again, and its accounts add up."""
    dice = random.Random(7)  # noqa: S311  reproducible
    for _ in range(4):
        with running(tmp_path, *MIXED, "--journal", "j.db") as agent:
            end = time.monotonic() + dice.uniform(0.05, 0.6)

            def over(end: float = end) -> bool:
                return time.monotonic() > end

            until(over, "the moment of the kill")
            agent.kill()
    with running(tmp_path, *MIXED, "--journal", "j.db") as agent:
        agent.shows_gpus()
        with suppress(OSError, http.client.HTTPException):
            agent.page()
        assert agent.end() == 0
    check_identity(tmp_path / "j.db")
    assert list(tmp_path.glob("*.broken-*")) == []
