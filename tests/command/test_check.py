"""`gputally check` and what `gputally findings` tells of a finding: what prologs, probes and people ask."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.clock import now_ms
from agent.tick import Condition, Finding, Hold
from gputally.cli import main
from tests.agent.histories import INTERVAL_MS, MIDNIGHT, NODE, TRAINING, books_at, gpu_of, reading, tick_of
from tests.command.processes import gputally, is_one_sentence

Capture = pytest.CaptureFixture[str]
GPUS = (gpu_of(0), gpu_of(1))


def finding(severity: str, index: int | None) -> Finding:
    """Make a finding on a GPU, or on the node."""
    uuid = "" if index is None else GPUS[index].uuid
    return Finding(
        rule=f"of_{severity}", severity=severity, node=NODE, uuid=uuid, opened_ms=0, summary="s", action="a"
    )


def journal(
    path: Path, findings: Sequence[Finding] = (), *, end_ms: int = 0, condition: Condition = Condition.OK
) -> Path:
    """Write a journal of two GPUs whose last interval ended now, or then; the second may be out of order."""
    end_ms = end_ms or now_ms()
    start_ms = end_ms - INTERVAL_MS
    with books_at(path / "j.db", now_ms=start_ms) as books:
        readings = (
            reading(GPUS[0], start_ms, end_ms, busy_ratio=0.5),
            reading(GPUS[1], start_ms, end_ms, condition),
        )
        holds = {GPUS[0].uuid: (Hold(TRAINING),)}
        books.post(tick_of(start_ms, end_ms, *readings, gpus=GPUS), holds, judge=lambda _: findings)
        books.commit(end_ms)
    return path / "j.db"


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
    assert told == {"status": "WARNING", "reasons": ["GPU 1: of_warning"], "gpus": 2}


def test_it_is_quick(tmp_path: Path) -> None:
    """A prolog waits for it: three tries, the best of which counts on a machine that does other things."""
    path = journal(tmp_path)
    took = []
    for _ in range(3):
        began = time.monotonic()
        assert gputally(tmp_path, "check", "--journal", path).code == 0
        took.append(time.monotonic() - began)
    assert min(took) < 1.0  # measured 0.23 s; the promise of 0.3 s is one for the bench


def test_a_finding_tells_what_it_cost_and_whom(tmp_path: Path, capsys: Capture) -> None:
    """How long, how many GPU-hours and how much money, who held the GPU, and with its number its runbook."""
    (tmp_path / "none.toml").write_text("[report]\nprice_per_gpu_hour = 3.0\n")
    end_ms = now_ms()
    hot = Finding(
        rule="thermal_margin_low",
        severity="warning",
        node=NODE,
        uuid=GPUS[0].uuid,
        opened_ms=end_ms - 7_200_000,
        summary="hot",
        action="cool it",
        times=1,
    )
    path = journal(tmp_path, [hot], end_ms=end_ms)
    assert main(["findings", "--journal", str(path)]) == 1
    told = capsys.readouterr().out
    assert "2.00 GPU-hours, 6.00 at 3 an hour" in told
    assert "held then by job 4711 of vision" in told
    assert main(["findings", "explain", "1", "--journal", str(path)]) == 1
    assert "meaning:" in capsys.readouterr().out
    assert main(["findings", "--json", "--journal", str(path)]) == 1
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["id"], one["gpu"], round(one["gpu_hours"], 2), round(one["money"])) == (1, 0, 2.0, 6)
    for words in (("explain", "2"), ("explain",), ("explane", "1")):
        assert main(["findings", *words, "--journal", str(path)]) == 2
        assert is_one_sentence(capsys.readouterr().err)
