"""`gputally check`: what prologs and probes ask."""

import json
import time
from pathlib import Path

import pytest

from agent.tick import Condition
from gputally.cli import main
from tests.agent.histories import MIDNIGHT
from tests.command.found import GPUS, finding, journal
from tests.command.processes import gputally

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "none.toml").touch()
    monkeypatch.setenv("GPUTALLY_SETTINGS", str(tmp_path / "none.toml"))


def asked(path: Path, *arguments: str) -> int:
    """Run the check."""
    return main(["check", "--journal", str(path), *arguments])


@pytest.mark.parametrize(
    ("severities", "nagios", "slurm"),
    [([], 0, 0), (["info"], 0, 0), (["warning"], 1, 0), (["critical", "warning"], 2, 1)],
)
def test_what_is_open_decides(tmp_path: Path, severities: list[str], nagios: int, slurm: int) -> None:
    """Critical makes unfit, a warning is something to look at, and the rest is neither."""
    path = journal(tmp_path, [finding(severity, 0) for severity in severities])
    assert asked(path) == nagios
    assert asked(path, "--for", "slurm") == slurm
    assert asked(path, "--for", "kubernetes") == slurm


def test_only_the_gpus_that_were_asked_for_count(tmp_path: Path, capsys: Capture) -> None:
    """By index or UUID; what is wrong with the node concerns all of them."""
    path = journal(tmp_path, [finding("critical", 1)])
    assert asked(path, "--gpus", "0") == 0
    assert asked(path, "--gpus", f"0, {GPUS[1].uuid}") == 2
    assert "CRITICAL: GPU 1: of_critical" in capsys.readouterr().out
    assert asked(path, "--gpus", "7") == 2
    assert "no GPU '7'; it has 0, 1" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    assert asked(journal(tmp_path / "other", [finding("critical", None)]), "--gpus", "0") == 2


def test_a_gpu_that_is_down_is_not_fit(tmp_path: Path, capsys: Capture) -> None:
    """Also before a rule has said so."""
    path = journal(tmp_path, condition=Condition.LOST)
    assert asked(path) == 2
    assert "GPU 1 is down" in capsys.readouterr().out
    assert asked(path, "--gpus", "0") == 0


@pytest.mark.parametrize("asker", ["nagios", "slurm"])
def test_what_is_not_known_drains_no_node(tmp_path: Path, capsys: Capture, asker: str) -> None:
    """An agent that does not run, a journal that is not there: told, and unfit for nobody."""
    wanted = 3 if asker == "nagios" else 0
    old = journal(tmp_path, [finding("critical", 0)], end_ms=MIDNIGHT)
    assert asked(old, "--for", asker) == wanted
    assert "UNKNOWN: the agent has told nothing for" in capsys.readouterr().out
    assert asked(tmp_path / "none.db", "--for", asker) == wanted
    assert "UNKNOWN" in capsys.readouterr().out


def test_programs_get_the_same(tmp_path: Path, capsys: Capture) -> None:
    """Status, reasons and how many GPUs."""
    assert asked(journal(tmp_path, [finding("warning", 1)]), "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert told == {"status": "WARNING", "reasons": ["GPU 1: of_warning"], "gpus": 2, "silenced": 0}


def silence(path: Path, *arguments: str) -> None:
    """Silence something for a while."""
    assert (
        main(["findings", "silence", "--journal", str(path), "--for", "1h", "--reason", "known", *arguments])
        == 0
    )


def test_what_is_silenced_makes_nothing_unfit(tmp_path: Path, capsys: Capture) -> None:
    """It is counted, and what nobody silenced decides."""
    path = journal(tmp_path, [finding("critical", 0), finding("warning", 1), finding("info", 0)])
    silence(path, "--gpu", "0")
    capsys.readouterr()
    assert asked(path) == 1
    assert capsys.readouterr().out == "GPUTALLY WARNING: GPU 1: of_warning (1 silenced)\n"
    assert asked(path, "--gpus", "0", "--for", "slurm") == 0
    assert capsys.readouterr().out == "GPUTALLY OK: 1 GPU fit for a job (1 silenced)\n"
    assert asked(path, "--gpus", "1", "--json") == 1
    assert json.loads(capsys.readouterr().out)["silenced"] == 0


def test_a_gpu_that_is_down_is_not_fit_however_silent(tmp_path: Path, capsys: Capture) -> None:
    """A silence is about being told, not about what the GPU can do."""
    path = journal(tmp_path, condition=Condition.LOST)
    silence(path, "--all-findings")
    capsys.readouterr()
    assert asked(path) == 2
    assert "GPU 1 is down" in capsys.readouterr().out


def test_it_is_quick(tmp_path: Path) -> None:
    """A prolog waits for it: three tries, the best of which counts on a machine that does other things."""
    path = journal(tmp_path)
    took = []
    for _ in range(3):
        began = time.monotonic()
        assert gputally(tmp_path, "check", "--journal", path).code == 0
        took.append(time.monotonic() - began)
    assert min(took) < 1.0  # measured 0.23 s; the promise of 0.3 s is one for the bench
