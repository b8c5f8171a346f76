"""`gputally rules`: lists, shows, checks, and exports."""

import json
from pathlib import Path

import pytest
import yaml

from gputally.cli import main
from gputally.rules import EXAMPLE
from rules.load import built_in
from tests.command.processes import is_one_sentence

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the machine's own settings out."""
    empty = tmp_path / "empty.toml"
    empty.touch()
    monkeypatch.setenv("GPUTALLY_SETTINGS", str(empty))


def told(capsys: Capture, *arguments: str) -> str:
    """Run a command that is content; give its output."""
    assert main(("rules", *arguments)) == 0
    out, errors = capsys.readouterr()
    assert errors == ""
    return out


def refused(capsys: Capture, *arguments: str) -> str:
    """Run a command that is not understood; give its one sentence."""
    assert main(("rules", *arguments)) == 2
    out, errors = capsys.readouterr()
    assert (out, is_one_sentence(errors)) == ("", True)
    return errors


def test_list_names_every_rule(capsys: Capture) -> None:
    """The table and the JSON have all rules, those of the fleet as well."""
    table = told(capsys, "list")
    assert all(name in table for name in (*built_in(), "gputally_watchdog"))
    listed = json.loads(told(capsys, "list", "--json"))
    assert {one["name"] for one in listed if one["where"] == "node"} == built_in().keys()
    assert {one["where"] for one in listed} == {"node", "fleet"}


def test_show_tells_all_of_a_rule(capsys: Capture) -> None:
    """Limits, times and the runbook, of rules of the node and of the fleet."""
    told_of = " ".join(told(capsys, "show", "thermal_margin_low").split())
    assert "temperature_margin_celsius at most 5; once open, at most 8" in told_of
    assert "kept quiet by" in told_of
    assert "action: " in told_of
    assert "vector(1)" in told(capsys, "show", "gputally_watchdog")
    assert json.loads(told(capsys, "show", "gpu_down", "--json"))["severity"] == "critical"


def test_a_rule_that_there_is_none_of_is_refused_with_those_like_it(capsys: Capture) -> None:
    """One sentence that names what may have been meant."""
    assert "thermal_margin_low" in refused(capsys, "show", "thermal_margin")


def test_the_example_is_sound(capsys: Capture, tmp_path: Path) -> None:
    """What `example` prints is what `check` takes."""
    path = tmp_path / "rules.toml"
    path.write_text(told(capsys, "example"), encoding="utf-8")
    assert "1 of them switched off" in told(capsys, "check", str(path))
    assert path.read_text(encoding="utf-8") == EXAMPLE


def test_check_says_file_line_and_key(capsys: Capture, tmp_path: Path) -> None:
    """A wrong file ends with 2 and one sentence."""
    path = tmp_path / "rules.toml"
    path.write_text('[gpu_down]\nfor = "soon"\n', encoding="utf-8")
    said = refused(capsys, "check", str(path))
    assert f"{path}:2" in said
    assert "for" in said


def test_export_writes_a_file_for_prometheus(capsys: Capture, tmp_path: Path) -> None:
    """Own rules, interval and links are in it; it is the same each time."""
    mine, out = tmp_path / "mine.toml", tmp_path / "rules.yaml"
    mine.write_text(EXAMPLE, encoding="utf-8")
    command = [
        "export",
        "--rules",
        str(mine),
        "--interval",
        "30s",
        "--runbook-url",
        "https://wiki.example.org/x",
    ]
    assert told(capsys, *command, "--out", str(out)) == ""
    text = out.read_text(encoding="utf-8")
    assert text == told(capsys, *command)
    group = yaml.safe_load(text)["groups"][0]
    assert group["interval"] == "30s"
    alerts = {one["alert"]: one for one in group["rules"] if "alert" in one}
    assert "GpuPersistenceModeOff" not in alerts
    link = alerts["GpuMemoryNearlyFull"]["annotations"]["runbook_url"]
    assert link == "https://wiki.example.org/x#memory_nearly_full"


def test_export_may_leave_the_judging_to_the_nodes(capsys: Capture) -> None:
    """Then nothing is recorded, and the fleet's rules may be left out."""
    (group,) = yaml.safe_load(told(capsys, "export", "--judged-by", "node", "--no-fleet"))["groups"]
    assert all("gpu_finding" in one["expr"] for one in group["rules"])


@pytest.mark.parametrize("interval", ["soon", "0s", "1h", "10"])
def test_an_interval_that_cannot_be_is_refused(capsys: Capture, interval: str) -> None:
    """The sentence names the option."""
    assert "--interval" in refused(capsys, "export", "--interval", interval)


def test_a_file_that_cannot_be_written_is_said(capsys: Capture, tmp_path: Path) -> None:
    """The sentence names it."""
    assert "nowhere" in refused(capsys, "export", "--out", str(tmp_path / "nowhere" / "x.yaml"))
