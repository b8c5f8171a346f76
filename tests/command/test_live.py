"""A node as it runs on a host: pages, status beside it, signals, a driver that is missing, and refusals."""

import ctypes
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from exporters.catalogue import FAMILIES
from tests.command.journals import check_identity, rows, seconds
from tests.command.processes import (
    COMMAND,
    MIXED,
    WITHOUT_RIGHTS,
    Agent,
    environment,
    gputally,
    is_gone,
    is_one_sentence,
    running,
)
from tests.command.waiting import DEADLINE_SECONDS, until
from tests.exporters.promtool import lint


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """Run an agent that no test disturbs."""
    folder = tmp_path_factory.mktemp("live")
    with running(folder, *MIXED, "--journal", "j.db", "--for", "600") as agent:
        agent.shows_gpus()
        yield agent
        assert agent.end() == 0


def folder_of(agent: Agent) -> Path:
    """Give the folder in which an agent keeps its journal."""
    return agent.log.parent


def test_the_live_page_pleases_promtool(agent: Agent) -> None:
    """Prometheus' linter finds no fault in the live page, and each series is in the catalogue."""
    lint(agent.shows_gpus())

    assert {name for name, _ in agent.samples("")} <= set(FAMILIES)


def test_the_live_page_tells_every_gpu(agent: Agent) -> None:
    """Both simulated GPUs are up, each is in one state, and the node's own figures are sound."""
    agent.shows_gpus()
    found = agent.samples()

    assert sorted(value for (name, _), value in found.items() if name == "gpu_up") == [1, 1]
    assert sum(value for (name, _), value in found.items() if name == "gpu_state") == 2
    assert {dict(labels)["owner"] for name, labels in found if name == "gpu_holder_info"} == {
        "alice",
        "svc-chat",
    }
    assert agent.value("gputally_interval_seconds") == 1
    assert agent.value("gputally_probe_up") == 1
    assert agent.value("gputally_journal_failures_total") == 0


def test_accounts_on_the_page_grow_with_time(agent: Agent) -> None:
    """From one page to a later one every GPU's accounts grow by the time between the ends of the ticks.

    An account that is new is 0 for an interval, so a page may be an interval behind.
    """

    def moment() -> tuple[float, float]:
        found = agent.samples()
        total = sum(value for (name, _), value in found.items() if name == "gpu_tally_seconds_total")
        return found["gputally_tick_end_timestamp_seconds", frozenset()], total

    agent.shows_gpus()
    settled = until(lambda: (agent.value("gputally_ticks_total") or 0) >= 4, "accounts that are not new")
    assert settled
    first = moment()

    def has_grown() -> bool:
        now = moment()
        return now[0] > first[0] + 1.5 and abs(now[1] - first[1] - 2 * (now[0] - first[0])) < 1e-6

    until(has_grown, "accounts that grew by the time of two GPUs")


def test_all_pages_answer(agent: Agent) -> None:
    """The home page, the status as JSON and health are there as well."""
    agent.shows_gpus()

    assert b"NVIDIA H200" in agent.page("/")
    assert len(json.loads(agent.page("/api/v1/status"))["gpus"]) == 2
    assert agent.page("/-/healthy") == b"gputally runs\n"
    assert agent.page("/-/ready") == b"ready\n"


def test_status_works_beside_it(agent: Agent) -> None:
    """While the agent writes, `gputally status` reads."""
    agent.shows_gpus()
    done = gputally(folder_of(agent), "status", "--journal", "j.db")

    assert (done.code, done.errors) == (0, "")
    assert "2 GPUs" in done.out
    assert "NOT LIVE" not in done.out
    body = json.loads(gputally(folder_of(agent), "status", "--journal", "j.db", "--json").out)
    assert [gpu["condition"] for gpu in body["gpus"]] == ["ok", "ok"]


def test_a_second_agent_on_the_journal_is_refused(agent: Agent) -> None:
    """Another agent on the same journal ends with 1 and names the pid of the first, which goes on."""
    agent.shows_gpus()
    done = gputally(folder_of(agent), "run", *MIXED, "--journal", "j.db", "--for", "5")

    assert done.code == 1
    assert is_one_sentence(done.errors)
    assert f"pid {agent.process.pid}" in done.errors
    assert agent.process.poll() is None


def test_a_port_in_use_is_refused(agent: Agent, tmp_path: Path) -> None:
    """An agent whose port is taken ends with 2, names the port and the option, and makes no journal."""
    done = gputally(tmp_path, "run", *MIXED[:4], "--port", str(agent.port), "--journal", "other.db")

    assert done.code == 2
    assert is_one_sentence(done.errors)
    assert f":{agent.port} " in done.errors
    assert "--port" in done.errors
    assert not (tmp_path / "other.db").exists()


def test_it_says_where_its_pages_are_and_nothing_more(agent: Agent) -> None:
    """A healthy node says where its pages are and which GPUs it reads, then nothing while all is well."""
    agent.shows_gpus()
    lines = agent.said.splitlines()

    assert lines[0].startswith("INFO gputally ")
    assert lines[1:] in ([], ["INFO reading 2 GPUs: 2 x NVIDIA H200"])


def test_a_signal_ends_it_with_all_that_it_started(tmp_path: Path) -> None:
    """SIGTERM ends the agent with 0, its probe is gone before it, and the accounts add up."""
    with running(tmp_path, *MIXED, "--journal", "j.db") as agent:
        agent.shows_gpus()
        probes = agent.probes()
        assert len(probes) == 1

        assert agent.end() == 0
        assert [probe for probe in probes if not is_gone(probe)] == []
        assert agent.said.endswith("gputally ends\n")
    check_identity(tmp_path / "j.db")


def test_an_end_by_signal_loses_no_time_that_was_seen(tmp_path: Path) -> None:
    """When the agent is told to stop, the interval in progress is entered up to that moment."""
    with running(tmp_path, *MIXED, "--journal", "j.db") as agent:
        agent.shows_gpus()
        told_ms = time.time_ns() // 1_000_000
        assert agent.end() == 0
    for (until_ms,) in rows(tmp_path / "j.db", "SELECT until_ms FROM timeline"):
        assert int(until_ms) >= told_ms
    check_identity(tmp_path / "j.db")


def test_it_ends_when_its_time_is_over(tmp_path: Path) -> None:
    """With --for it ends by itself with 0."""
    done = gputally(tmp_path, "run", *MIXED, "--journal", "j.db", "--for", "1")

    assert done.code == 0
    assert "Traceback" not in done.errors


def test_the_labels_of_the_settings_are_in_the_journal(tmp_path: Path) -> None:
    """Reports group nodes by them."""
    settings = tmp_path / "labels.toml"
    settings.write_text('[node]\nname = "n1"\n[node.labels]\npool = "train"\nrack = "r7"\n')
    with running(tmp_path, *MIXED, "--settings", str(settings), "--journal", "j.db", "--for", "1") as agent:
        assert agent.process.wait(timeout=20) == 0
    ((text,),) = rows(tmp_path / "j.db", "SELECT labels FROM node WHERE name = 'n1'")
    assert json.loads(text) == {"pool": "train", "rack": "r7"}


def test_the_demo_shows_a_history_and_goes_live(tmp_path: Path) -> None:
    """The demo makes history, says where to look, runs live, and the next one continues it."""
    for _ in range(2):
        done = gputally(
            tmp_path, "demo", "--simulate", "t4x1:training", "--days", "0.1", "--port", "0", "--for", "2"
        )
        assert done.code == 0
        assert "Traceback" not in done.errors
        assert "Warning:" not in done.errors
        assert "gputally status --journal" in done.out
    journal = tmp_path / "state" / "gputally" / "demo" / "t4x1-training.db"
    check_identity(journal)
    assert seconds(journal, "active") + seconds(journal, "held_gap") == pytest.approx(8640, rel=0.05)


def test_the_demo_makes_the_page_of_its_week(tmp_path: Path) -> None:
    """Beside its journal, as it says, and whole, however long it takes; a signal ends the demo."""
    journal, said = tmp_path / "a week.db", tmp_path / "said"
    options = ("--simulate", "t4x1:training", "--days", "1", "--port", "0", "--journal", journal.name)
    with (
        said.open("wb") as out,
        subprocess.Popen(
            [*WITHOUT_RIGHTS, COMMAND, "demo", *options],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as demo,
    ):
        page = journal.with_suffix(".html")
        try:
            until(lambda: page.exists() or demo.poll() is not None, "the page", seconds=180)
            content = page.read_text(encoding="utf-8")
            demo.terminate()
            assert demo.wait(DEADLINE_SECONDS) == 0
        finally:
            demo.kill()
    assert content.lower().startswith("<!doctype html>")
    assert content.rstrip().endswith("</html>")
    assert "last 7d" in content
    assert f"will be in a moment at {page.as_uri()}\n" in said.read_text(encoding="utf-8")
    assert "Traceback" not in said.read_text(encoding="utf-8")


def has_driver() -> bool:
    """Tell whether NVIDIA's library is on this host."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(has_driver(), reason="this host has an NVIDIA driver")
def test_without_a_driver_it_says_so_and_goes_on_trying(tmp_path: Path) -> None:
    """A missing library is one sentence with what to do; it is tried again and again, and the end is 0."""
    tried: set[int] = set()
    with running(tmp_path, "--journal", "j.db", "--port", "0", "--for", "6") as agent:

        def ended() -> bool:
            tried.update(probe.pid for probe in agent.probes())
            return agent.process.poll() is not None

        until(ended, "its end")
        assert agent.process.returncode == 0
        warnings = [line for line in agent.said.splitlines() if not line.startswith("INFO ")]
    assert len(warnings) == 1
    assert "libnvidia-ml.so.1 is not installed: install the driver" in warnings[0]
    assert "gputally run --simulate" in warnings[0]
    assert len(tried) >= 2
    assert rows(tmp_path / "j.db", "SELECT count(*) FROM gpu") == [(0,)]


def test_psutil_tells_a_process_that_is_gone() -> None:
    """The check that a probe has ended knows a process that lives."""
    assert not is_gone(psutil.Process())
