"""What is wrong with GPUs as the dashboard tells it, against what the nodes wrote."""

from collections.abc import Mapping

import pytest

from agent.store import Store
from agent.xid_catalogue import numbers_of
from dashboards.boards.health import CRITICAL, health
from dashboards.outline import Config
from tests.dashboards.ailing import DOWN, LINKED, LOST, MINUTE_MS, SICK
from tests.dashboards.asking import IDS, WAYS, Looker, by
from tests.dashboards.filled import Filled

pytestmark = pytest.mark.parametrize(("server", "config"), WAYS, ids=IDS)
FIRST = "n1", "0"
"""The GPU with a finding and two XIDs 79."""
DOWN_HOURS = (DOWN[1] - DOWN[0]) / 60
EARLY = "n1", "5"
RATE_HOURS = 5 / 60
"""A rate over five minutes is too high while an account is younger."""


@pytest.fixture
def look(servers: Mapping[str, Store], filled: Filled, server: str, config: Config) -> Looker:
    """Look at the end, at all GPUs."""
    return Looker(servers[server], health(config), filled.end_ms)


def test_findings_are_told_by_severity_and_by_gpu(look: Looker) -> None:
    """One warning, and nothing critical."""
    assert look.told("Findings by severity", "severity") == {("warning",): 1.0}
    found = look.told("Findings that are open", "severity", "rule", "node", "gpu")
    assert found == {("warning", "thermal_margin_low", *FIRST): 1.0}
    assert look.one("Critical findings") == 0.0
    assert look._replace(chosen={"pool": "nowhere"}).one("Critical findings") is None


def test_xids_by_number_gpu_and_severity(look: Looker, filled: Filled) -> None:
    """Two within an hour, the second half an hour before the end; 79 is critical."""
    assert 79 in numbers_of("critical")
    assert "79" in CRITICAL.split("|")
    told = look.told("XIDs in the time shown", "xid", "node", "gpu")
    assert told == {("79", *FIRST): pytest.approx(2.0, rel=0.05)}
    assert look.told("XIDs within an hour", "xid") == {("79",): pytest.approx(2.0, rel=0.05)}
    times, last = look.columns("Repeat offenders", "node", "gpu")
    assert times == {FIRST: 2.0}
    assert last == {FIRST: pytest.approx(filled.end_ms - 30 * MINUTE_MS)}


def test_who_had_one_critical_xid_is_no_repeat_offender(look: Looker) -> None:
    """Before the second there is none."""
    before = look._replace(at_ms=look.at_ms - 40 * MINUTE_MS)
    assert before.columns("Repeat offenders", "node", "gpu") == [{}, {}]


def test_signs_are_counted_and_listed(look: Looker) -> None:
    """A reset asked, ECC errors and a row on two GPUs; a link and a row of lanes."""
    asking = {
        ("row remap waits", *LINKED): 1.0,
        ("PCIe lanes missing", *LINKED): 1.0,
        ("driver asks for a drain and a reset", *SICK): 1.0,
        ("uncorrected ECC errors", *SICK): 1.0,
        ("NVLinks down", *SICK): 1.0,
    }
    told = look.told("Waiting for a reset or a look", "flag", "node", "gpu")
    assert set(told) == set(asking)
    returned = {"row remap failed", "SRAM errors past the threshold"}
    assert look.told("Signs over time", "flag") == {
        (sign,): 1.0 for sign in {*returned, *(key[0] for key in asking)}
    }
    assert (look.one("Resets waited for"), look.one("Signs to return")) == (3.0, 2.0)
    healthy = look._replace(chosen={"pool": "train"})
    assert (healthy.one("Resets waited for"), healthy.one("Signs to return")) == (0.0, 0.0)
    assert look._replace(chosen={"pool": "nowhere"}).one("Signs to return") is None


def test_a_board_to_return_has_its_serial(look: Looker, filled: Filled) -> None:
    """Both signs of it, each once, with what the maker asks for."""
    told = look.told("Boards to return", "flag", "node", "gpu", "serial", "board_part", "vbios")
    cards = by(filled, "info", "node", "gpu", "serial", "board_part", "vbios")
    (card,) = (one for one in cards if one[:2] == SICK)
    assert all(card)
    assert set(told) == {("row remap failed", *card), ("SRAM errors past the threshold", *card)}


def test_downtime_is_an_integral(look: Looker, filled: Filled) -> None:
    """Twenty minutes of one GPU, and another was down when its node began; both work now."""
    hours = {
        (which["node"], which["gpu"]): seconds / 3600
        for labels, seconds in filled.latest("tally_seconds_total").items()
        if seconds and (which := dict(labels))["state"] == "down"
    }
    assert hours == {LOST: DOWN_HOURS, EARLY: 0.4}
    told = look.told("Longest down in 7 days", "node", "gpu")
    assert told == {LOST: pytest.approx(DOWN_HOURS, rel=0.01), EARLY: pytest.approx(0.4, abs=RATE_HOURS)}
    assert look.one("GPU-hours down in 7 days") == pytest.approx(sum(told.values()))
    assert look.one("Down") == 0.0
    assert look.told("GPUs that do not answer", "node", "gpu") == {}


def test_a_gpu_that_does_not_answer_is_named(look: Looker) -> None:
    """In the middle of it, with the reason."""
    then = look._replace(at_ms=look.at_ms + (DOWN[0] + 10) * MINUTE_MS)
    assert then.told("GPUs that do not answer", "condition", "node", "gpu") == {("lost", *LOST): 1.0}
    assert then.one("Down") == pytest.approx(1.0, rel=0.01)
    assert then.told("Nodes with GPUs missing", "node") == {("n2",): 2.0}


def test_gpus_are_missing_against_what_is_expected(look: Looker) -> None:
    """n2 should have five and has four; who looks at n1 only does not see it."""
    assert look.told("Nodes with GPUs missing", "node") == {("n2",): 1.0}
    assert look.one("Missing") == 1.0
    assert look._replace(chosen={"pool": "serve"}).one("Missing") == 1.0
    other = look._replace(chosen={"pool": "train"})
    assert (other.told("Nodes with GPUs missing", "node"), other.one("Missing")) == ({}, 0.0)


def test_links_are_told_by_kind(look: Looker) -> None:
    """Six CRC errors and three replays in a minute, nothing else."""
    by_kind, replays = look.columns("Errors of links", "kind")
    assert by_kind == {("crc_data",): pytest.approx(0.1)}
    assert replays == {("",): pytest.approx(0.05)}


def test_versions_are_counted(look: Looker) -> None:
    """Eight H200 and four H100, each of one driver."""
    assert look.told("Drivers and VBIOS", "model", "driver") == {
        ("NVIDIA H200", "580.95.05"): 8.0,
        ("NVIDIA H100 80GB HBM3", "580.95.05"): 4.0,
    }
