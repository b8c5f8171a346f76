"""The example stack: its files are what the real programs read, and by them a node is seen and summed up."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from tests.command.processes import gputally, running
from tests.command.waiting import until
from tests.rules.unit_tests import promtool
from tests.stores.prometheus import Prometheus
from tests.stores.server import program

STACK = Path(__file__).parents[2] / "docs" / "stack"
PINNED = re.compile(r"[a-z0-9/-]+:v?\d+\.\d+\.\d+")
OURS = "gputally:local"


def read(name: str) -> Any:  # noqa: ANN401  whatever YAML holds
    """Read a file of the stack."""
    return yaml.safe_load((STACK / name).read_text(encoding="utf-8"))


def said(*words: str | Path) -> str:
    """Run a program; give all that it says, and fail where it is not content."""
    done = subprocess.run(
        list(map(str, words)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the folder, and make what its README makes."""
    made = tmp_path_factory.mktemp("stack") / "here"
    shutil.copytree(STACK, made)
    store = "http://127.0.0.1:9090"
    words = ("dashboards", "provision", "--no-alerts", "--out", "grafana", "--data-source", store)
    for command in (words, ("rules", "export", "--out", "gputally.rules.yaml")):
        done = gputally(made, *command)
        assert done.code == 0, done.errors
    return made


def test_containers_are_pinned_closed_and_complete() -> None:
    """Images have a version, ports are of this machine, files that are mounted are there, as are volumes."""
    told = read("compose.yaml")
    services: dict[str, Any] = told["services"]
    for name, service in services.items():
        assert service["image"] == OURS or PINNED.fullmatch(service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (STACK / source).is_file() if source.startswith(".") else source in told["volumes"], volume
        for other in service.get("depends_on", {}):
            assert other in services
    builds = [service["build"] for service in services.values() if service["image"] == OURS]
    assert builds
    assert all((STACK / one["context"] / one["dockerfile"]).is_file() for one in builds)
    assert "GRAFANA_PASSWORD:?" in services["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"]


def test_commands_in_containers_are_ours(tmp_path: Path) -> None:
    """The agent's options, and what `provision` runs, are understood by the command as it is."""
    services = read("compose.yaml")["services"]
    simulated = [
        *services["agent"]["command"],
        "--for",
        "0",
        "--port",
        "0",
        "--journal",
        str(tmp_path / "j.db"),
    ]
    assert gputally(tmp_path, *simulated).code == 0
    out = {"/etc/grafana/provisioning": tmp_path / "provisioning", "/rules": tmp_path / "rules"}
    (tmp_path / "rules").mkdir()
    for line in services["provision"]["command"][0].splitlines():
        for path, here in out.items():
            line = line.replace(path, str(here))  # noqa: PLW2901
        name, *words = line.split()
        done = gputally(tmp_path, *words)
        assert (name, done.code) == ("gputally", 0), done.errors
    rules = [
        tmp_path / "rules" / "gputally.rules.yaml",
        tmp_path / "provisioning" / "gputally.recording.yaml",
    ]
    vmalert = program("vmalert", "victoria-metrics")
    assert said(vmalert, "-dryRun", *(f"-rule={path}" for path in rules), "-loggerLevel=ERROR") == ""


def test_the_programs_read_their_files(folder: Path) -> None:
    """Prometheus with both files of rules, Alertmanager, VictoriaMetrics."""
    assert promtool("check", "config", folder / "prometheus.yml") == ""
    amtool = program("amtool", "prometheus-alertmanager")
    assert "SUCCESS" in said(amtool, "check-config", folder / "alertmanager.yml")
    victoria = program("victoria-metrics", "victoria-metrics")
    assert "is ok" in said(victoria, f"-promscrape.config={folder / 'scrape.yml'}", "-dryRun")


def test_alerts_find_their_way(folder: Path) -> None:
    """By audience; the one that always fires goes to whom its silence would wake."""
    amtool = program("amtool", "prometheus-alertmanager")

    def receiver(*labels: str) -> str:
        file = f"--config.file={folder / 'alertmanager.yml'}"
        return said(amtool, "config", "routes", "test", file, *labels).splitlines()[-1]

    assert receiver("alertname=GputallyWatchdog", "audience=sre") == "dead-mans-switch"
    assert receiver("alertname=GpuHeldIdle", "audience=owner") == "owners"
    assert receiver("alertname=GpuFleetSaturated", "audience=planner") == "planners"
    assert receiver("alertname=GpuDown", "audience=sre", "severity=critical") == "operators"


def test_alerts_that_inhibit_are_there(folder: Path) -> None:
    """Each name in the rules of Alertmanager is that of an alert that is exported."""
    rules = yaml.safe_load((folder / "gputally.rules.yaml").read_text(encoding="utf-8"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    for one in read("alertmanager.yml")["inhibit_rules"]:
        for matcher in (*one["source_matchers"], *one["target_matchers"]):
            label, sign, pattern = re.fullmatch(r'(\w+) *(=~|!~|!=|=) *"(.*)"', matcher).groups()  # type: ignore[union-attr]
            if label == "alertname":
                assert any(re.fullmatch(pattern, name) for name in alerts), (sign, pattern)


@pytest.fixture
def seen(folder: Path) -> Iterator[Prometheus]:
    """Run an agent, and a Prometheus as the README starts it, but that a minute is two seconds."""
    recording = folder / "grafana" / "gputally.recording.yaml"
    recording.write_text(
        recording.read_text(encoding="utf-8").replace("interval: 1m", "interval: 2s"), encoding="utf-8"
    )
    labels = '[node]\nlabels = { cluster = "demo", pool = "train" }\n'
    settings = folder / "gputally.toml"
    settings.write_text(labels, encoding="utf-8")
    simulated = ("--simulate", "h200x2:training", "--interval", "1", "--port", "0", "--journal", "j.db")
    with running(folder, *simulated, "--settings", settings) as agent:
        targets = folder / "targets.yml"
        told = targets.read_text(encoding="utf-8").replace("127.0.0.1:9740", f"127.0.0.1:{agent.port}")
        targets.write_text(told, encoding="utf-8")
        binary = program("prometheus", "prometheus")

        def command(address: str) -> list[str]:
            return [
                binary,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ]

        server = Prometheus(command, folder, "/-/ready")
        try:
            server.start()
            yield server
        finally:
            server.stop()


def test_a_node_is_seen_and_summed_up(seen: Prometheus) -> None:
    """GPUs with the labels of their node, the agent with its target's; sums are kept, and no rule fails."""

    def asked(expr: str) -> list[dict[str, Any]]:
        path = "/api/v1/query?" + urlencode({"query": expr})
        found: list[dict[str, Any]] = json.loads(seen.ask("GET", path).good())["data"]["result"]
        return found

    until(lambda: asked("gputally:gpus"), "a sum that is kept")
    (gpus,) = asked("gputally:gpus")
    group = {"cluster": "demo", "pool": "train", "model": "NVIDIA H200"}
    assert (gpus["metric"], gpus["value"][1]) == ({"__name__": "gputally:gpus", **group}, "2")
    (agent,) = asked('gputally_info{cluster="demo", pool="train"}')
    assert agent["metric"]["job"] == "gputally"
    rules = json.loads(seen.ask("GET", "/api/v1/rules").good())["data"]["groups"]
    assert {group["name"] for group in rules} >= {"gputally", "gputally_fleet", "gputally-dashboards"}
    assert [rule["lastError"] for group in rules for rule in group["rules"] if rule.get("lastError")] == []
