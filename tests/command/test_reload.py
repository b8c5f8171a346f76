"""SIGHUP: settings are read again while the agent runs; all of them are taken, or none."""

import signal
import socket
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Self

import pytest

from tests.command.journals import check_identity, rows
from tests.command.processes import Agent, running
from tests.command.waiting import until

SETTINGS = """
[node]
name = "n1"
labels = {{ pool = "{pool}" }}
[web]
port = {port}
[rules]
file = "{rules}"
{more}
"""
RULE = """
[there]
summary = "it is there"
severity = "{severity}"
audience = "sre"
when.busy.quantity = "busy_ratio"
when.busy.at_least = 0.0
for = "1s"
runbook.meaning = "a GPU is there"
runbook.action = "nothing"
"""

TO_INFLUX = """
[[exporters.to]]
name = 'x'
kind = 'influx'
url = 'http://127.0.0.1:1'
"""


class Http:
    """A store that takes everything."""

    def __init__(self) -> None:
        self.posts: list[str] = []
        posts = self.posts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                posts.append(self.path)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        """Answer."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()


class Site:
    """A folder with settings that may be written anew."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gputally.toml"
        self.rules = folder / "rules.toml"
        self.rules.write_text("", encoding="utf-8")

    def write(self, *, pool: str = "train", port: int = 0, more: str = "") -> None:
        """Write the settings."""
        text = SETTINGS.format(pool=pool, port=port, rules=self.rules, more=more)
        self.path.write_text(text, encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Write settings as they are at first."""
    made = Site(tmp_path)
    made.write()
    return made


@pytest.fixture
def agent(tmp_path: Path, site: Site) -> Iterator[Agent]:
    """Run an agent with an interval of a second; when it ends, nothing of its time is missing."""
    simulated = ("--simulate", "h200x2:training", "--interval", "1")
    with running(tmp_path, *simulated, "--settings", site.path, "--journal", "j.db") as agent:
        agent.shows_gpus()
        yield agent
        assert agent.end() == 0
    is_whole(tmp_path / "j.db")


def reload(agent: Agent) -> str:
    """Have settings read again; give what is said of it."""
    said = agent.said.count("settings ")
    agent.process.send_signal(signal.SIGHUP)
    until(lambda: agent.said.count("settings ") > said, "a word about the settings")
    return [line for line in agent.said.splitlines() if "settings " in line][-1]


def is_whole(journal: Path) -> None:
    """No interval is missing between the first and the last, none is there twice, and all were seen."""
    spans = rows(journal, "SELECT start_ms, end_ms FROM tick ORDER BY start_ms")
    assert all(end == start for (_, end), (start, _) in pairwise(spans))
    check_identity(journal)
    assert rows(journal, "SELECT count(*) FROM tick WHERE start_ms >= end_ms") == [(0,)]


def pools(agent: Agent) -> set[str]:
    """Give the pools that the page tells."""
    return {dict(labels)["pool"] for name, labels in agent.samples("gpu_up") if name == "gpu_up"}


def found(agent: Agent) -> set[tuple[str, str]]:
    """Give rule and severity of what is found."""
    told = (dict(labels) for _, labels in agent.samples("gpu_finding"))
    return {(labels["rule"], labels["severity"]) for labels in told}


def test_labels_change_between_two_intervals(agent: Agent, site: Site) -> None:
    """Page and journal have them from then on; the probe is the same one, and counters go on."""
    name = "gpu_tally_seconds_total"
    until(lambda: sum(agent.samples(name).values()) > 0, "accounts that grow")
    probe, before = agent.probe().pid, agent.samples(name)
    site.write(pool="serve")
    assert reload(agent) == "INFO settings were read again; new: [node] labels"
    until(lambda: pools(agent) == {"serve"}, "the other pool")
    assert agent.probe().pid == probe
    assert sum(agent.samples(name).values()) >= sum(before.values())


def test_nothing_new_changes_nothing(agent: Agent) -> None:
    """Many signals are answered, and no interval is lost."""
    for _ in range(3):
        assert reload(agent) == "INFO settings were read again; nothing changed"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("[nothing]", "unknown section 'nothing'"),
        ("[web2", "is no TOML"),
        (
            "[states]\npatience_batch_seconds = -1",
            "patience_batch_seconds",
        ),
        ("[journal]\nsync = 'normal'", "[journal] sync can be changed by a restart only"),
        (TO_INFLUX, "kind influx needs bucket"),
    ],
    ids=["section", "no TOML", "value", "restart", "exporter"],
)
def test_what_is_wrong_changes_nothing(agent: Agent, site: Site, more: str, says: str) -> None:
    """Not even what is right beside it; the agent goes on as before, and takes the next one."""
    site.write(pool="serve", more=more)
    told = reload(agent)
    assert told.startswith("ERROR new settings are refused, those before stay in force: ")
    assert says in told
    assert pools(agent) == {"train"}
    site.write(pool="serve")
    reload(agent)
    until(lambda: pools(agent) == {"serve"}, "the other pool")


def test_a_file_of_rules_is_read_again(agent: Agent, site: Site) -> None:
    """Though the settings name the same file. A wrong one is refused, and findings stay."""
    site.rules.write_text(RULE.format(severity="warning"), encoding="utf-8")
    assert reload(agent) == "INFO settings were read again; new: rules"
    until(lambda: ("there", "warning") in found(agent), "a finding of the new rule")
    site.rules.write_text(RULE.format(severity="dreadful"), encoding="utf-8")
    assert "[there] severity: must be one of critical, warning, info" in reload(agent)
    assert ("there", "warning") in found(agent)
    site.rules.write_text("", encoding="utf-8")
    reload(agent)
    until(lambda: ("there", "warning") not in found(agent), "the end of the rule's findings")


def test_the_page_moves_to_another_port(agent: Agent, site: Site) -> None:
    """The new one answers, the old one does not; a port that is taken is refused, and the page stays."""
    before = agent.port
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
        site.write(port=free)
        assert "cannot listen on" in reload(agent)
    agent.shows_gpus()
    site.write(port=free)
    assert reload(agent) == "INFO settings were read again; new: [web] port"
    with urllib.request.urlopen(f"http://127.0.0.1:{free}/-/healthy", timeout=10) as answer:
        assert answer.status == 200
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", before), timeout=10)


def test_the_same_port_serves_other_names(agent: Agent, site: Site) -> None:
    """A change of the page alone closes no port: whoever asks meanwhile is answered."""
    assert b"DCGM" in agent.page("/metrics/dcgm")
    site.write(more="")
    text = site.path.read_text(encoding="utf-8").replace("[web]\n", '[web]\ndcgm_names = "field"\n')
    site.path.write_text(text, encoding="utf-8")
    told = reload(agent)
    agent.shows_gpus()
    assert "[web] dcgm_names" in told


def test_another_interval_begins_with_a_fresh_probe(tmp_path: Path, site: Site) -> None:
    """The interval in progress is entered first; what passes until the next begins is unknown, and short."""
    site.write(more="[agent]\ninterval_seconds = 1.0")
    with running(
        tmp_path, "--simulate", "h200x2:training", "--settings", site.path, "--journal", "j.db"
    ) as agent:
        agent.shows_gpus()
        probe = agent.probe().pid
        site.write(more="[agent]\ninterval_seconds = 2.0")
        assert "[agent] interval_seconds" in reload(agent)
        until(lambda: agent.probes() and agent.probe().pid != probe, "another probe")
        until(lambda: agent.value("gputally_interval_seconds") == 2, "an interval of 2 s")
        assert agent.end() == 0
    check_identity(tmp_path / "j.db")


def test_exporters_come_and_go(agent: Agent, site: Site) -> None:
    """One that is named is asked at once; one that is no longer named is gone from the page."""
    with Http() as store:
        site.write(
            more=f"[[exporters.to]]\nname = 'new'\nurl = '{store.url}'\nkind = 'influx1'\ndatabase = 'd'"
        )
        assert reload(agent) == "INFO settings were read again; new: [exporters] to"
        until(lambda: store.posts, "something that is pushed")
    site.write()
    reload(agent)
    until(lambda: not agent.samples("gputally_exporter_up"), "a page without the exporter")
