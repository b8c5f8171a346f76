"""The file of recording rules, as the real programs read it, beside the other files that are shipped."""

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml

from dashboards.outline import Config
from dashboards.recorded import ALL, DOWN, IDLE_DAY, Recorded, rules
from exporters.catalogue import FAMILIES
from tests.rules.unit_tests import promtool
from tests.stores.server import program

ALERTS = Path(__file__).parents[2] / "dashboards" / "alerts"
CONFIGS = [
    Config(),
    Config(cluster_label="by", pool_label="offset"),
    Config(cluster_label="_", pool_label="A9"),
]


@pytest.fixture(params=CONFIGS, ids=["default", "words of PromQL", "odd names"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Write the file."""
    path = tmp_path / "recording.yaml"
    path.write_text(rules(request.param), encoding="utf-8")
    return path


def test_prometheus_reads_it(file: Path) -> None:
    """Without a word."""
    assert promtool("check", "rules", file) == ""


def test_vmalert_reads_it(file: Path) -> None:
    """Without a word."""
    command = [program("vmalert", "victoria-metrics"), "-dryRun", "-rule", str(file), "-loggerLevel=ERROR"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_names_are_of_this_file_alone() -> None:
    """Level, metric and operation; no alert rule records the same, and no agent tells it."""
    names = [one.name for one in ALL]
    assert max(Counter(names).values()) == 1
    assert all(re.fullmatch(r"gputally:[a-z0-9_]+(:[a-z]+\d+[mhd])?", name) for name in names)
    shipped = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in ALERTS.glob("*.rules.yaml")]
    groups = [group for file in shipped for group in file["groups"]]
    assert not {rule.get("record") for group in groups for rule in group["rules"]} & {*names, *FAMILIES}
    own = {group["name"] for group in yaml.safe_load(rules(Config()))["groups"]}
    assert not own & {group["name"] for group in groups}


@pytest.mark.parametrize("one", [DOWN, IDLE_DAY], ids=lambda one: one.name)
def test_what_only_some_gpus_are_in_has_no_hours(one: Recorded) -> None:
    """Its growth would be that of a comparison."""
    with pytest.raises(ValueError, match="ends in a comparison"):
        one.hours("1h", Config(), "")
