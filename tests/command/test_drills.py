"""What goes wrong with GPUs and drivers, drilled with real processes on the simulated driver.

A test chooses the moments of its faults as it goes, and judges pages by the ends of their intervals.
"""

import json
import math
import re
import time
from pathlib import Path

import pytest

from agent.prober import MOST_STUCK_TO_TRY
from tests.command.journals import check_identity, rows, seconds
from tests.command.moments import PATCH, happen, moment
from tests.command.pages import Page, Pages, check_kept, of_gpu, ups, value
from tests.command.processes import gputally, is_gone, is_stuck, running
from tests.command.waiting import until

OTHERS = (0, 1, 2, 4, 5, 6, 7)
"""All GPUs but the one at index 3, to which things happen here."""
SOON = f"""{PATCH}
from agent import prober, sampler
prober.HUNG_SECONDS, prober.SURE_SECONDS = 1.0, 0.3
prober.TRY_AGAIN_SECONDS = (2.0,)
prober.BACK_OFF_SECONDS = (0.3,)
sampler.REOPEN_MS = (2_000,)
"""
"""What takes seconds and minutes takes moments."""


def simulated(*faults: str, gpus: int = 8, interval: float = 1, model: str = "h200") -> tuple[str, ...]:
    """Give the arguments of an agent on a simulated node; its journal is j.db."""
    text = "!".join((f"{model}x{gpus}:training", *faults))
    return ("--simulate", text, "--interval", str(interval), "--port", "0", "--journal", "j.db")


def test_a_gpu_that_is_lost_is_down_alone_and_comes_back(tmp_path: Path) -> None:
    """It is down at the end of the interval, the others keep all they show, and no counter ever goes down.

    Meanwhile another GPU is reset, and at last the probe is killed.
    """
    faults = f"lost=3@{moment(0)}..{moment(2)}", f"restart=5@{moment(1)}"
    with running(tmp_path, *simulated(*faults), patch=SOON) as agent:
        agent.shows_gpus(8)
        pages = Pages(agent)
        pages.look()
        at = happen(tmp_path, 0)
        gone = pages.until_page(lambda page: value(page, "gpu_up", 3) == 0, "the loss")
        pages.until(happen(tmp_path, 1) + 1)
        end = happen(tmp_path, 2)
        back = pages.until_page(lambda page: ups(page) == 8 and max(pages.taken) > end, "all GPUs again")
        first = agent.probe()
        first.kill()
        until(lambda: any(probe.pid != first.pid for probe in agent.probes()), "another probe")
        pages.until(time.time() + 3)
        pages.until_page(lambda page: ups(page) == 8, "all GPUs once more")
        assert agent.end() == 0

    before, after = pages.between(0, at - 0.5), pages.between(back)
    down = pages.between(gone, end - 0.5)
    assert down
    for page in down:
        assert value(page, "gpu_up", 3) == 0
        assert value(page, "gpu_state", 3, state="down") == 1
        assert value(page, "gpu_power_watts", 3) is None
    assert of_gpu(before[-1], 3).keys() <= of_gpu(after[0], 3).keys() | of_gpu(after[-1], 3).keys()
    check_kept(pages.between(0, back), *(index for index in OTHERS if index != 5))
    pages.check_counters()
    joules = [value(page, "gpu_energy_joules_total", 5) for page in (before[-1], after[0], after[-1])]
    assert joules == sorted(joules, key=lambda one: one or 0.0)
    assert joules[0] != joules[-1]
    anew = rows(
        tmp_path / "j.db",
        """SELECT position FROM counter JOIN place ON place.gpu_id = counter.gpu_id
           WHERE name = 'energy_joules_total' AND base > 0""",
    )
    assert anew == [(5,)]
    check_identity(tmp_path / "j.db")
    assert seconds(tmp_path / "j.db", "down") >= 2
    conditions = rows(tmp_path / "j.db", "SELECT text FROM event WHERE kind = 'gpu_condition' ORDER BY id")
    assert conditions == [("the GPU is lost, it was ok",), ("the GPU is ok, it was lost",)]


# A call that blocks


def test_a_gpu_that_hangs_is_named_and_costs_the_others_nothing(tmp_path: Path) -> None:
    """The others are read on, no page is old, and once the GPU answers it is taken in again."""
    interval = 2.0
    arguments = simulated(f"hang=3@{moment(0)}..{moment(1)}", interval=interval)
    with running(tmp_path, *arguments, patch=SOON) as agent:
        agent.shows_gpus(8)
        pages = Pages(agent)
        happen(tmp_path, 0)
        named = pages.until_page(lambda page: value(page, "gpu_up", 3) == 0, "the GPU that hangs")
        page = pages.taken[named]
        assert value(page, "gpu_state", 3, state="down") == 1
        assert page["gputally_stuck_probes", frozenset()] >= 1
        pages.until(named + 2 * interval)
        happen(tmp_path, 1)
        pages.until_page(lambda page: ups(page) == 8, "all GPUs again")
        until(lambda: agent.value("gputally_stuck_probes") == 0, "the end of those that hung")
        assert len(agent.probes()) == 1
        assert agent.end() == 0
        assert agent.said.count(" does not answer: nvmlDeviceGet") == 1
    assert pages.oldest <= 2 * interval + 2  # a short interval leaves less time than that to find out
    check_kept(pages.between(0), *OTHERS)
    pages.check_counters()
    check_identity(tmp_path / "j.db")
    told = rows(
        tmp_path / "j.db",
        """SELECT kind, position FROM event JOIN place ON place.gpu_id = event.gpu_id
           WHERE kind IN ('gpu_hung', 'gpu_condition') ORDER BY event.id""",
    )
    assert told[0] == ("gpu_hung", 3)
    assert set(told) == {("gpu_hung", 3), ("gpu_condition", 3)}


@pytest.mark.parametrize("named", [False, True], ids=["just begun", "named"])
def test_an_end_does_not_wait_for_a_probe_that_hangs(tmp_path: Path, named: bool) -> None:  # noqa: FBT001
    """SIGTERM ends the agent within 5 s; the probe that hangs is not killed, and lives on."""
    fault = f"hang=1@{moment(0)}"
    with running(tmp_path, *simulated(fault, gpus=2), patch=SOON if named else PATCH) as agent:
        agent.shows_gpus()
        happen(tmp_path, 0)
        stuck = until(lambda: [probe for probe in agent.probes() if is_stuck(probe)], "a probe that hangs")[0]
        if named:
            until(lambda: agent.value("gputally_stuck_probes") == 1, "its name on the page")
        began = time.monotonic()
        assert agent.end() == 0
        assert time.monotonic() - began < 5
        assert agent.said.endswith("gputally ends\n")
        assert is_stuck(stuck)
        assert not is_gone(stuck)
        stuck.kill()
        until(lambda: is_gone(stuck), "the end of the probe")
    check_identity(tmp_path / "j.db")


@pytest.mark.slow
def test_many_gpus_that_hang_leave_few_processes(tmp_path: Path) -> None:
    """However many GPUs hang one after the other, what is left is read, and processes are few."""
    with running(tmp_path, *simulated(f"hang=0-4@{moment(0)}"), patch=SOON) as agent:
        agent.shows_gpus(8)
        happen(tmp_path, 0)
        pages, most = Pages(agent), 0

        def few() -> bool:
            nonlocal most
            most = max(most, len(agent.probes()))
            return ups(pages.taken.get(pages.look(), {})) == 3

        until(few, "a page with the three that are left")
        assert agent.said.count(" does not answer: nvmlDeviceGet") == 5
        later = max(pages.taken) + 4
        until(lambda: few() and max(pages.taken) > later, "more pages")
        assert 6 <= most <= 5 + MOST_STUCK_TO_TRY + 1
        assert agent.end() == 0
    check_identity(tmp_path / "j.db")


@pytest.mark.slow
@pytest.mark.parametrize("phase", [0.2, 5.0, 9.9])
def test_no_page_is_older_than_two_intervals_though_a_gpu_hangs(tmp_path: Path, phase: float) -> None:
    """As shipped, wherever within an interval the GPU begins to hang, and the others lose no series."""
    interval = 10
    at = math.ceil((time.time() + 25) / interval) * interval + phase
    with running(tmp_path, *simulated(f"hang=3@{at:.1f}", interval=interval)) as agent:
        agent.shows_gpus(8)
        pages = Pages(agent)
        pages.until(at)
        pages.until_page(lambda page: value(page, "gpu_up", 3) == 0, "the GPU that hangs")
        pages.until(at + 4 * interval)
        (tmp_path / "oldest").write_text(f"{phase}: {pages.oldest:.2f} s\n", encoding="ascii")
        began = time.monotonic()
        assert agent.end() == 0
        assert time.monotonic() - began < 5
    assert pages.oldest < 2 * interval
    check_kept(pages.between(at - 20), *OTHERS)
    check_identity(tmp_path / "j.db")


# A probe that dies, a driver that goes


@pytest.mark.slow
def test_a_probe_that_crashes_is_replaced(tmp_path: Path) -> None:
    """A driver call that ends the probe leaves unknown time, and every second is accounted for."""
    with running(tmp_path, *simulated(f"crash=1@{moment(0)}..{moment(1)}", gpus=2), patch=SOON) as agent:
        agent.shows_gpus()
        happen(tmp_path, 0)
        until(lambda: (agent.value("gputally_probe_restarts_total") or 0) >= 1, "the end of the probe")
        pages = Pages(agent)
        pages.until(happen(tmp_path, 1) + 1)
        pages.until_page(lambda page: ups(page) == 2, "both GPUs again")
        assert agent.end() == 0
        assert agent.said.count("WARNING the GPUs cannot be read now: it ended with exit code -11") == 1
        assert agent.said.count("INFO the GPUs are being read again") == 1
    pages.check_counters()
    check_identity(tmp_path / "j.db")
    assert 0 < seconds(tmp_path / "j.db", "unknown") < 2 * 15
    assert seconds(tmp_path / "j.db", "down") == 0


WORDS = {
    "nolibrary": "libnvidia-ml.so.1 is not installed: install the driver",
    "mismatch": "are of different versions: reload the module or reboot",
    "unloaded": "is not loaded: load it (modprobe nvidia)",
}


@pytest.mark.parametrize(
    "fault",
    [
        "nolibrary",
        pytest.param("mismatch", marks=pytest.mark.slow),
        pytest.param("unloaded", marks=pytest.mark.slow),
    ],
)
def test_a_driver_that_is_not_there_at_first_is_found_when_it_comes(tmp_path: Path, fault: str) -> None:
    """The agent starts without a driver, says once what to do, and reads the GPUs once they are there."""
    with running(tmp_path, *simulated(f"{fault}@0..{moment(0)}", gpus=2), patch=SOON) as agent:
        until(lambda: WORDS[fault] in agent.said, "what to do")
        assert agent.value("gputally_probe_up") in (None, 0)
        happen(tmp_path, 0)
        agent.shows_gpus()
        assert agent.value("gputally_probe_up") == 1
        assert agent.end() == 0
        assert agent.said.count(WORDS[fault]) == 1
        assert agent.said.count("INFO the GPUs are being read again") == 1
    check_identity(tmp_path / "j.db")


def test_a_driver_that_is_replaced_is_followed(tmp_path: Path) -> None:
    """It is unloaded, its library is of another version for a while, and then all is read again."""
    faults = f"unloaded@{moment(0)}..{moment(1)}", f"mismatch@{moment(1)}..{moment(2)}"
    with running(tmp_path, *simulated(*faults, gpus=2), patch=SOON) as agent:
        agent.shows_gpus()
        pages = Pages(agent)
        pages.look()
        at = happen(tmp_path, 0)
        until(lambda: pages.look() and WORDS["unloaded"] in agent.said, "the first sentence")
        happen(tmp_path, 1)
        until(lambda: pages.look() and WORDS["mismatch"] in agent.said, "the second sentence")
        end = happen(tmp_path, 2)
        back = pages.until_page(lambda page: ups(page) == 2 and max(pages.taken) > end, "both GPUs again")
        assert agent.end() == 0
    check_kept(pages.between(0, at - 0.5), 0, 1)
    pages.check_counters()
    check_identity(tmp_path / "j.db")
    assert 2 * (end - at - 1) <= seconds(tmp_path / "j.db", "unknown") <= 2 * (back - at + 2)


@pytest.mark.slow
def test_a_gpu_that_is_taken_out_is_missing_until_it_is_put_back(tmp_path: Path) -> None:
    """Without a restart it is lost, then missing, and so down; put back, it is read under its old name."""
    with running(tmp_path, *simulated(f"removed=1@{moment(0)}..{moment(1)}", gpus=3), patch=SOON) as agent:
        agent.shows_gpus(3)
        pages = Pages(agent)
        happen(tmp_path, 0)
        gone = pages.until_page(lambda page: ups(page) == 2, "the two that are left")
        pages.until(gone + 4)
        end = happen(tmp_path, 1)
        pages.until_page(lambda page: ups(page) == 3, "all three")
        pages.until(max(pages.taken) + 1)
        pids = {probe.pid for probe in agent.probes()}
        assert len(pids) == 1
        assert agent.value("gputally_probe_restarts_total") == 0
        assert agent.end() == 0
    check_kept(pages.between(0), 0)
    pages.check_counters()
    check_identity(tmp_path / "j.db")
    assert {value(page, "gpu_state", 1, state="down") for page in pages.between(gone, end - 0.5)} == {1}
    assert rows(tmp_path / "j.db", "SELECT count(DISTINCT uuid) FROM gpu") == [(3,)]


def test_slices_come_and_go_with_the_partition(tmp_path: Path) -> None:
    """While a GPU is partitioned its slices are on the page, each by itself; the other GPU is as before."""
    fault = f"mig=0:3g.71gb+2g.35gb+1g.18gb@{moment(0)}..{moment(1)}"
    with running(tmp_path, *simulated(fault, gpus=2), patch=SOON) as agent:
        agent.shows_gpus()
        pages = Pages(agent)
        pages.look()
        at = happen(tmp_path, 0)
        pages.until(at + 3)
        cut = pages.until_page(lambda page: bool(_slices(page, 0)), "slices")
        pages.until(cut + 2)
        end = happen(tmp_path, 1)
        pages.until_page(lambda page: not _slices(page, 0) and max(pages.taken) > end, "a whole GPU again")
        pages.until(max(pages.taken) + 1)
        assert agent.end() == 0
    assert all(_slices(page, 0) == [] for page in pages.between(0, at - 0.5))
    within = pages.between(at + 1.5, end - 0.5)
    assert within
    for page in within:
        assert _slices(page, 0) == ["1g.18gb", "2g.35gb", "3g.71gb"]
        assert value(page, "gpu_mig_mode_flag", 0) == 1
        assert value(page, "gpu_slice_memory_total_bytes", 0, profile="3g.71gb")
        assert value(page, "gpu_slice_sm_active_ratio", 0, profile="1g.18gb") is not None
    check_kept(pages.between(0), 1)
    assert not any(_slices(page, 1) for page in pages.between(0))
    pages.check_counters()
    check_identity(tmp_path / "j.db")
    assert rows(tmp_path / "j.db", "SELECT count(DISTINCT uuid) FROM slice_reading") == [(3,)]


def _slices(page: Page, index: int) -> list[str]:
    found = of_gpu(page, index)
    return sorted(dict(labels)["profile"] for name, labels in found if name == "gpu_slice_info")


# XIDs


def test_an_xid_is_told_and_its_count_survives_a_kill(tmp_path: Path) -> None:
    """It is an event of its GPU and a counter on the page, born as 0; a killed agent goes on with it."""
    arguments = simulated(f"xid=1:94*3@{moment(0)}", gpus=2)
    with running(tmp_path, *arguments, patch=PATCH) as agent:
        agent.shows_gpus()
        pages = Pages(agent)
        at = happen(tmp_path, 0)
        pages.until_page(lambda page: value(page, "gpu_xid_errors_total", 1, xid="94") == 3, "the count")
        counts = [value(page, "gpu_xid_errors_total", 1, xid="94") for page in pages.between(at)]
        assert counts[:2] == [0, 3] or counts[0] == 0
        assert "94" in agent.said
        agent.kill()
    with running(tmp_path, *arguments, patch=PATCH) as agent:
        agent.shows_gpus()
        page = agent.samples()
        assert value(page, "gpu_xid_errors_total", 1, xid="94") == 3
        last = value(page, "gpu_xid_last_timestamp_seconds", 1, xid="94") or 0
        assert at <= last <= at + 3
        assert value(page, "gpu_xid_errors_total", 0) is None
        assert agent.end() == 0
    check_identity(tmp_path / "j.db")
    events = rows(
        tmp_path / "j.db",
        """SELECT position, at_ms FROM event JOIN place ON place.gpu_id = event.gpu_id WHERE kind = 'xid'""",
    )
    assert events
    assert {position for position, _ in events} == {1}
    assert events[0][1] >= at * 1000


# Letting go


def test_a_release_lets_go_of_the_driver_and_is_drained(tmp_path: Path) -> None:
    """While it lasts no probe runs; afterwards the GPUs are read again, and the time is drained."""
    with running(tmp_path, *simulated(gpus=2)) as agent:
        agent.shows_gpus()
        pages = Pages(agent)
        pages.look()
        done = gputally(tmp_path, "release", "--for", "1h", "--journal", "j.db")
        released = time.time()
        assert (done.code, done.errors) == (0, "")
        assert re.fullmatch(
            r"released until \d\d:\d\d:\d\d UTC: upgrade the driver or reset GPUs now, "
            r"then: gputally release --end\n",
            done.out,
        )
        assert agent.probes() == []
        pages.until(released + 3)
        page = pages.taken[max(pages.taken)]
        assert [value(page, "gpu_state", index, state="drained") for index in (0, 1)] == [1, 1]
        assert agent.probes() == []

        done = gputally(tmp_path, "release", "--end", "--journal", "j.db")
        ended = time.time()
        assert (done.code, done.out, done.errors) == (0, "the GPUs were taken up again\n", "")
        pages.until(ended + 1)
        pages.until_page(lambda page: ups(page) == 2, "both GPUs again")
        done = gputally(tmp_path, "release", "--end", "--journal", "j.db", "--json")
        assert json.loads(done.out) == {"released": False, "until": None, "until_ms": None}
        assert agent.end() == 0
    pages.check_counters()
    check_identity(tmp_path / "j.db")
    assert seconds(tmp_path / "j.db", "drained") == pytest.approx(2 * (ended - released), abs=2 * 1.0)
    kinds = [kind for (kind,) in rows(tmp_path / "j.db", "SELECT kind FROM event ORDER BY id")]
    assert kinds == ["released", "taken_up"]
    assert {path.name for path in tmp_path.glob("j.db.release*")} == set()


def test_a_release_ends_by_itself_also_for_an_agent_that_was_killed(tmp_path: Path) -> None:
    """The next agent keeps to the moment that was asked for, and then watches."""
    with running(tmp_path, *simulated(gpus=2)) as agent:
        agent.shows_gpus()
        done = gputally(tmp_path, "release", "--for", "8s", "--journal", "j.db", "--json")
        moment = json.loads(done.out)["until_ms"] / 1000
        assert moment == pytest.approx(time.time() + 8, abs=8)
        agent.kill()
    with running(tmp_path, *simulated(gpus=2)) as agent:
        while time.time() < moment - 1:
            assert agent.probes() == []
            agent.value("gputally_ticks_total")
        agent.shows_gpus()
        assert time.time() >= moment
        assert agent.end() == 0
    check_identity(tmp_path / "j.db")
    assert list(tmp_path.glob("j.db.release*")) == []
