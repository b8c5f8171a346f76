"""`gputally dashboards`: files for import and for provisioning, and what cannot be meant is said."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from dashboards.build import RULES, files
from dashboards.outline import Config
from gputally.cli import main
from tests.dashboards.grafana_rules import check_rule

Capture = pytest.CaptureFixture[str]


def test_build_writes_what_can_be_imported(tmp_path: Path, capsys: Capture) -> None:
    """Each dashboard and the recording rules, by the labels of the site; each is named."""
    out = tmp_path / "new" / "here"
    words = ["--pool-label", "hall", "--cluster-label", "site", "--price", "3.25"]
    assert main(["dashboards", "build", "--out", str(out), *words]) == 0
    names = files(Config()).keys()
    assert {path.name for path in out.iterdir()} == names
    assert {"fleet.json", "gputally.recording.yaml"} < names
    assert capsys.readouterr().out.count("wrote ") == len(names)
    text = (out / "fleet.json").read_text(encoding="utf-8")
    assert 'hall=~\\"$pool\\"' in text
    assert 'site=~\\"$cluster\\"' in text
    assert "* 3.25" in text


def test_without_recording_no_rules_are_written(tmp_path: Path) -> None:
    """And no dashboard asks for what they would keep."""
    assert main(["dashboards", "build", "--out", str(tmp_path), "--no-recording"]) == 0
    assert not (tmp_path / "gputally.recording.yaml").exists()
    assert "gputally:" not in (tmp_path / "fleet.json").read_text(encoding="utf-8")


def test_influxql_is_asked_for_by_name(tmp_path: Path) -> None:
    """Fleet, Node and GPU, without rules; a price is theirs too."""
    out = tmp_path / "out"
    words = ["dashboards", "build", "--out", str(out), "--language", "influxql", "--price", "3.25"]
    assert main(words) == 0
    assert {path.name for path in out.iterdir()} == {
        "influx-fleet.json",
        "influx-gpu.json",
        "influx-node.json",
    }
    assert "* 3.25" in (out / "influx-fleet.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("words", [[], ["--no-alerts", "--data-source", "http://influx:8086"]])
def test_alerts_and_data_sources_are_not_promised_for_influxql(
    tmp_path: Path, capsys: Capture, words: list[str]
) -> None:
    """It says what to leave out, and writes nothing; so asked it writes dashboards alone."""
    out = tmp_path / "out"
    asked = ["dashboards", "provision", "--out", str(out), "--language", "influxql"]
    assert main([*asked, *words]) == 2
    assert "--language influxql needs --no-alerts" in capsys.readouterr().err
    assert not out.exists()
    assert main([*asked, "--no-alerts"]) == 0
    assert {path.name for path in out.iterdir()} == {"dashboards"}


def test_provision_writes_the_folders_of_grafana(tmp_path: Path) -> None:
    """Provider, data source and JSON; a second time gives the same."""
    words = ["dashboards", "provision", "--out", str(tmp_path), "--data-source", "http://victoria:8428"]
    assert main(words) == 0
    first = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(words) == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == first
    told = yaml.safe_load((tmp_path / "dashboards" / "gputally.yaml").read_text(encoding="utf-8"))
    (provider,) = told["providers"]
    folder = Path(provider["options"]["path"])
    assert {path.name for path in folder.iterdir()} == files(Config()).keys() - {RULES}
    assert json.loads((folder / "node.json").read_text(encoding="utf-8"))["uid"] == "gputally-node"
    source = yaml.safe_load((tmp_path / "datasources" / "gputally.yaml").read_text(encoding="utf-8"))
    assert source["datasources"] == [
        {
            "name": "gputally",
            "uid": "gputally-store",
            "type": "prometheus",
            "access": "proxy",
            "url": "http://victoria:8428",
        }
    ]


def test_provision_writes_alert_rules(tmp_path: Path) -> None:
    """They ask the data source that is made, or one that is named; without one there are none."""
    words = ["dashboards", "provision", "--runbook-url", "https://wiki.example.org/x", "--out"]
    for folder, more, source in (
        ("made", ["--data-source", "http://victoria:8428"], "gputally-store"),
        ("named", ["--data-source-uid", "prom-1"], "prom-1"),
    ):
        assert main([*words, str(tmp_path / folder), *more]) == 0
        text = (tmp_path / folder / "alerting" / "gputally.yaml").read_text(encoding="utf-8")
        told = yaml.safe_load(text)
        rules = [rule for group in told["groups"] for rule in group["rules"]]
        for rule in rules:
            check_rule({**rule, "orgID": 1, "folderUID": "x", "ruleGroup": "x"}, {source})
            assert rule["annotations"]["runbook_url"].startswith("https://wiki.example.org/x#")


def test_provision_leaves_alert_rules_out_where_nobody_can_be_asked(tmp_path: Path, capsys: Capture) -> None:
    """It says so; whoever wants none hears nothing."""
    assert main(["dashboards", "provision", "--out", str(tmp_path)]) == 0
    assert "no alert rules: they need --data-source URL" in capsys.readouterr().out
    words = ["--no-alerts", "--data-source", "http://victoria:8428"]
    assert main(["dashboards", "provision", "--out", str(tmp_path), *words]) == 0
    assert "no alert rules" not in capsys.readouterr().out
    assert not (tmp_path / "alerting").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--data-source", "http://me:secret@victoria:8428"],
        ["--data-source", "victoria"],
        ["--data-source-uid", "a b"],
        ["--data-source-uid", "$HOME"],
    ],
)
def test_a_data_source_that_cannot_be_meant_is_refused(
    tmp_path: Path, capsys: Capture, words: list[str]
) -> None:
    """In one sentence with the option, without what may be a password, and nothing is written."""
    assert main(["dashboards", "provision", "--out", str(tmp_path / "new"), *words]) == 2
    said = capsys.readouterr().err
    assert words[0] in said
    assert "secret" not in said
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--pool-label", 'a"b'], "cannot be the name of a label: letters, digits and _"),
        (["--pool-label", "cluster"], "clusters and pools cannot both be told by the label cluster"),
        (["--price", "-1"], "a GPU-hour cannot cost -1"),
        (["--price", "nan"], "a GPU-hour cannot cost nan"),
        (["--price", "inf"], "a GPU-hour cannot cost inf"),
    ],
)
def test_what_cannot_be_meant_is_said(tmp_path: Path, capsys: Capture, words: list[str], why: str) -> None:
    """In one sentence, and nothing is written."""
    assert main(["dashboards", "build", "--out", str(tmp_path / "new"), *words]) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, capsys: Capture) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main(["dashboards", "build", "--out", str(tmp_path / "file" / "x")]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_who_lacks_the_sdk_is_told_what_to_install(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra."""
    monkeypatch.delitem(sys.modules, "dashboards.sdk", raising=False)
    monkeypatch.setitem(sys.modules, "grafana_foundation_sdk", None)
    for name in [name for name in sys.modules if name.startswith("grafana_foundation_sdk.")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["dashboards", "build", "--out", str(tmp_path)]) == 2
    assert "pip install 'gputally[dashboards]'" in capsys.readouterr().err
