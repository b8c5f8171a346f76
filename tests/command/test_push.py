"""`gputally dashboards push` and `gputally rules export --format grafana` as people run them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dashboards.build import RULES, files
from dashboards.outline import Config
from gputally.cli import main
from gputally.rules import EXAMPLE
from tests.command.processes import Done, gputally, is_one_sentence
from tests.dashboards.grafana import TOKEN, grafana, saying
from tests.dashboards.grafana_kept import Stand
from tests.dashboards.grafana_rules import check_rule

Capture = pytest.CaptureFixture[str]
BOARDS = files(Config()).keys() - {RULES}


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """Give an empty Grafana behind a path, and its token in a file."""
    (tmp_path / "token").write_text(TOKEN, encoding="ascii")
    with grafana(prefix="/grafana") as one:
        yield one
        assert one.strange == []


def pushed(folder: Path, stand: Stand, *words: str) -> Done:
    """Push by a process of its own; it never tells the token."""
    done = gputally(folder, "dashboards", "push", "--url", stand.url, "--token-file", "token", *words)
    assert TOKEN not in done.out + done.errors
    assert "Traceback" not in done.errors
    return done


def test_a_grafana_gets_all_of_it_and_then_nothing(tmp_path: Path, stand: Stand) -> None:
    """Dry run, first push, second push, and a dry run after somebody changed a dashboard."""
    stand.role = "Admin"
    store = ("--data-source", "http://victoria:8428", "--pool-label", "hall")
    dry = pushed(tmp_path, stand, *store, "--dry-run")
    assert (dry.code, stand.writes) == (0, [])
    assert dry.out.endswith(f"\nwould have made {len(BOARDS) + 4}, changed 0, left 0 as they were\n")
    first = pushed(tmp_path, stand, *store)
    assert (first.code, first.errors) == (0, "")
    assert first.out.endswith(f"\nmade {len(BOARDS) + 4}, changed 0, left 0 as they were\n")
    assert len(stand.boards) == len(BOARDS)
    assert 'hall=~\\"$pool\\"' in json.dumps(stand.boards["gputally-fleet"]["text"])
    assert {one["data"][0]["datasourceUid"] for one in stand.rules.values()} == {"gputally-store"}
    written = len(stand.writes)
    again = pushed(tmp_path, stand, *store)
    assert (again.code, len(stand.writes)) == (0, written)
    assert again.out.endswith("\nnothing to do: all of it is as it should be\n")
    stand.boards["gputally-fleet"]["text"]["title"] = "Mine"
    differs = pushed(tmp_path, stand, *store, "--dry-run")
    assert (differs.code, len(stand.writes)) == (0, written)
    assert '\n- "title": "Mine",\n+ "title": "gputally / Fleet",\n' in differs.out
    assert differs.out.endswith(f"\nwould have made 0, changed 1, left {len(BOARDS) + 2} as they were\n")


def test_one_that_fails_ends_with_1_and_is_named(tmp_path: Path, stand: Stand) -> None:
    """The others are there."""
    stand.add_source("prom1")
    stand.provisioned.add("gputally-node")
    done = pushed(tmp_path, stand)
    assert done.code == 1
    assert is_one_sentence(done.errors)
    assert f"1 of {len(BOARDS) + 3} were not brought: dashboard gputally / Node" in done.errors
    assert "failed: dashboard gputally / Node: " in done.out
    assert len(stand.boards) == len(BOARDS) - 1


def test_a_token_that_is_wrong_is_one_sentence(tmp_path: Path, stand: Stand) -> None:
    """And 1, as whatever could not be done."""
    (tmp_path / "token").write_text("glsa_another", encoding="ascii")
    done = pushed(tmp_path, stand, "--no-alerts")
    assert (done.code, done.out) == (1, "")
    assert is_one_sentence(done.errors)
    assert "the token in token is wrong or has expired" in done.errors
    assert "glsa" not in done.errors


def run(capsys: Capture, *words: str) -> tuple[int, str]:
    """Run it here; give its exit code and what it says of errors."""
    code = main(["dashboards", "push", *words])
    return code, capsys.readouterr().err


def test_a_token_that_a_server_repeats_is_not_told(tmp_path: Path, stand: Stand, capsys: Capture) -> None:
    """Some proxies put the request into their errors."""
    stand.troubles["GET /api/folders/.*"] = saying(500, {"message": f"bad header Bearer {TOKEN}"})
    words = ("--url", stand.url, "--token-file", str(tmp_path / "token"), "--no-alerts")
    code, said = run(capsys, *words)
    assert code == 1
    assert is_one_sentence(said)
    assert "bad header Bearer ***" in said
    assert TOKEN not in said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--url", "http://me:secret@x"], "--url must hold no user and no password"),
        (["--url", "x"], "--url must be an address"),
        (["--url", "http://x", "--token-file", "nowhere"], "cannot read the token nowhere"),
        (["--url", "http://x", "--data-source", "http://me:secret@x"], "--data-source must hold no user"),
        (["--url", "http://x", "--data-source-uid", "a/b"], "--data-source-uid must be a UID"),
        (["--url", "http://x", "--price", "-1"], "a GPU-hour cannot cost -1"),
        (["--url", "https://x", "--ca-file", "nowhere"], "cannot read the certificates nowhere"),
    ],
)
def test_what_cannot_be_meant_is_said(capsys: Capture, words: list[str], why: str) -> None:
    """It is wrong use: 2, in one sentence, without a password."""
    code, said = run(capsys, *words)
    assert code == 2
    assert is_one_sentence(said)
    assert why in said
    assert "secret" not in said


def test_rules_that_cannot_be_read_are_said_before_anything_is_written(
    tmp_path: Path, stand: Stand, capsys: Capture
) -> None:
    """A file of one's own is wrong, or an interval."""
    mine = tmp_path / "mine.toml"
    mine.write_text('[gpu_down]\nfor = "soon"\n', encoding="utf-8")
    base = ("--url", stand.url, "--token-file", str(tmp_path / "token"), "--data-source-uid", "prom1")
    stand.add_source("prom1")
    for words in (("--rules", str(mine)), ("--interval", "1h")):
        code, said = run(capsys, *base, *words)
        assert code == 2
        assert is_one_sentence(said)
        assert stand.writes == []


def test_own_rules_judged_by_the_store_are_pushed(tmp_path: Path, stand: Stand, capsys: Capture) -> None:
    """By the options of `gputally rules export`."""
    stand.add_source("prom1")
    mine = tmp_path / "mine.toml"
    mine.write_text(EXAMPLE, encoding="utf-8")
    words = ("--rules", str(mine), "--judged-by", "store", "--no-fleet", "--runbook-url", "https://w/x")
    assert run(capsys, "--url", stand.url, "--token-file", str(tmp_path / "token"), *words) == (0, "")
    rule = stand.rules["gputally-memory_nearly_full"]
    assert rule["data"][0]["model"]["expr"] == "gputally:open:memory_nearly_full > 0"
    assert rule["annotations"]["runbook_url"] == "https://w/x#memory_nearly_full"
    assert "gputally-persistence_mode_off" not in stand.rules
    assert not any("fleet" in uid for uid in stand.rules)


def test_who_lacks_the_client_is_told_what_to_install(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra."""
    for name in [name for name in sys.modules if name.startswith("gputally.grafana")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "grafana_client", None)
    code, said = run(capsys, "--url", "http://x")
    assert code == 2
    assert "pip install 'gputally[dashboards]'" in said


def test_only_a_push_loads_the_client(tmp_path: Path) -> None:
    """Who builds files needs none."""
    out = str(tmp_path / "out")
    code = (
        "import sys; from gputally.cli import main;"
        f" code = main(['dashboards', 'provision', '--data-source', 'http://x', '--out', {out!r}]);"
        " sys.exit(code or bool({'grafana_client', 'requests'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


# ---- gputally rules export --format grafana


def exported(capsys: Capture, *words: str) -> dict[str, object]:
    """Export; give what a Grafana would read."""
    assert main(["rules", "export", "--format", "grafana", *words]) == 0
    out, errors = capsys.readouterr()
    assert errors == ""
    told: dict[str, object] = yaml.safe_load(out)
    return told


def test_rules_are_exported_for_grafana(tmp_path: Path, capsys: Capture) -> None:
    """Nodes judge unless told otherwise; own rules, UID and links are in it, and what is off is deleted."""
    mine = tmp_path / "mine.toml"
    mine.write_text(EXAMPLE, encoding="utf-8")
    words = ("--rules", str(mine), "--data-source-uid", "vm", "--runbook-url", "https://wiki.example.org/x")
    told = exported(capsys, *words)
    assert told["deleteRules"] == [{"orgId": 1, "uid": "gputally-persistence_mode_off"}]
    groups = told["groups"]
    assert isinstance(groups, list)
    assert [one["name"] for one in groups] == ["gputally", "gputally_fleet"]
    for rule in groups[0]["rules"]:
        check_rule({**rule, "orgID": 1, "folderUID": "x", "ruleGroup": "x"}, {"vm"})
        assert "gpu_finding" in rule["data"][0]["model"]["expr"]
        assert rule["annotations"]["runbook_url"].startswith("https://wiki.example.org/x#")
    assert any(rule["uid"] == "gputally-memory_nearly_full" for rule in groups[0]["rules"])


def test_the_store_may_judge_for_grafana(capsys: Capture) -> None:
    """Then it asks for what the recording rules keep, and the fleet's rules may be left out."""
    groups = exported(capsys, "--judged-by", "store", "--no-fleet")["groups"]
    assert isinstance(groups, list)
    (group,) = groups
    assert all(one["data"][0]["model"]["expr"].startswith("gputally:open:") for one in group["rules"])


def test_a_uid_that_cannot_be_is_refused(capsys: Capture) -> None:
    """The sentence names the option."""
    assert main(["rules", "export", "--format", "grafana", "--data-source-uid", "a b"]) == 2
    assert "--data-source-uid" in capsys.readouterr().err
