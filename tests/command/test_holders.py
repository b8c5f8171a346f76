"""`gputally holders`, `gputally job` and holders in findings: what a journal says of who held what."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.books import Books
from agent.journal import Journal, JournalSettings
from agent.states import StateSettings
from agent.tick import Finding, Gpu, Hold, Holder, Tick, reading_of
from gputally.cli import main

Capture = pytest.CaptureFixture[str]
NODE = "hall2-n017"
BEGAN_MS = 1_767_700_800_000
MINUTE_MS = 60_000
GPUS = tuple(Gpu(uuid=f"GPU-{index}", index=index, model="NVIDIA H200") for index in range(12))
JOB = Holder(
    kind="slurm",
    name="4711",
    owner="vision",
    user="ada",
    account="vision",
    partition="gpu",
    qos="normal",
    title="train",
)
TASKS = [replace(JOB, name=f"4800_{task}", title="sweep") for task in (1, 2)]
POD = Holder(kind="pod", name="lab/notebook-0", owner="lab", namespace="lab", container="notebook")
EVIL = Holder(
    kind="process", name="\x1b[2J\nroot", owner="e\nve\u202e", user="eve", title="'; DROP TABLE tenure; --"
)


def write(path: Path, *minutes: dict[int, Holder], finding: Finding | None = None) -> Path:
    """Write a journal in which these held GPUs, minute by minute; even indices work, odd ones rest."""
    journal = Journal(path, JournalSettings(sync="normal"), BEGAN_MS)
    books = Books(journal, StateSettings(), node=NODE, follow_holders=True)
    for number, held in enumerate(minutes):
        start_ms = BEGAN_MS + number * MINUTE_MS
        end_ms = start_ms + MINUTE_MS
        readings = tuple(
            reading_of(
                gpu.uuid, start_ms, end_ms, {"busy_ratio": float(gpu.index % 2 == 0), "power_watts": 600.0}
            )
            for gpu in GPUS
        )
        tick = Tick(node=NODE, start_ms=start_ms, end_ms=end_ms, readings=readings, gpus=GPUS)
        holds = {f"GPU-{index}": (Hold(holder),) for index, holder in held.items()}
        books.post(tick, holds, judge=lambda _: [finding] if finding else ())
        assert books.commit(end_ms) is None
    journal.close()
    return path


def said(capsys: Capture, code: int, *arguments: str) -> str:
    """Run a command and give what it prints."""
    assert main([*arguments]) == code
    return capsys.readouterr().out


def told(capsys: Capture, *arguments: str) -> Any:  # noqa: ANN401  JSON
    """Run a command with --json and give what it tells."""
    return json.loads(said(capsys, 0, *arguments, "--json"))


def test_holders_lists_who_holds_what_now(tmp_path: Path, capsys: Capture) -> None:
    """Most wasteful first, with GPUs by index, and only those that hold something still."""
    path = write(
        tmp_path / "j.db",
        {0: JOB, 1: TASKS[0], 3: TASKS[1]},
        {0: JOB, 2: JOB, 10: JOB, 1: POD},
        {0: JOB, 2: JOB, 10: JOB, 1: POD},
    )
    lines = said(capsys, 0, "holders", "--journal", str(path)).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["HOLDER", "pod lab/notebook-0", "job 4711"]
    assert lines[2].split()[2:6] == ["vision", "ada", "0,2,10", "active"]
    pod, job = told(capsys, "holders", "--journal", str(path))
    assert pod["now"] == {"1": "held_gap"}
    assert job["state_hours"] == {"active": pytest.approx(7 / 60)}
    assert (job["activity_mean_ratio"], job["ended"]) == (1.0, False)


def test_job_shows_all_of_one(tmp_path: Path, capsys: Capture) -> None:
    """Hours by state, energy and activity, for one that ended and one that holds still."""
    path = write(tmp_path / "j.db", {0: JOB, 1: JOB}, {0: JOB, 1: JOB}, {0: POD})
    out = said(capsys, 0, "job", "4711", "--journal", str(path))
    assert out.splitlines()[0] == "job 4711 (train) of vision on hall2-n017"
    assert "2026-01-06 12:00:00 UTC to 2026-01-06 12:02:00 UTC, 2 min" in out
    for line in ("user        ada", "partition   gpu", "QOS         normal", "GPUs        2"):
        assert f"  {line}\n" in out
    assert "  GPU-hours   0.0667: active 0.0333, held_gap 0.0333\n" in out
    assert "  energy      40.0 Wh\n" in out
    assert "  activity    50.0% in the mean, 100.0% at most\n" in out
    assert "to now, 1 min" in said(capsys, 0, "job", "lab/notebook-0", "--journal", str(path))


def test_a_number_means_all_tasks_of_an_array(tmp_path: Path, capsys: Capture) -> None:
    """The array's number gives each task, a task's name that task alone."""
    path = write(tmp_path / "j.db", {0: TASKS[0], 1: TASKS[1], 2: JOB})
    assert [one["name"] for one in told(capsys, "job", "4800", "--journal", str(path))] == [
        "4800_1",
        "4800_2",
    ]
    assert [one["name"] for one in told(capsys, "job", "4800_2", "--journal", str(path))] == ["4800_2"]
    assert told(capsys, "job", "4711", "--journal", str(path))[0]["title"] == "train"


@pytest.mark.parametrize("name", ["9", "471", "%", "4711_", "'", "4711' OR '1'='1", "\x1b[2J"])
def test_a_job_that_nobody_knows_is_said_to_be_so(tmp_path: Path, capsys: Capture, name: str) -> None:
    """Exit code 1 and one sentence that says where to look; no pattern matches by accident."""
    path = write(tmp_path / "j.db", {0: JOB})
    assert main(["job", name, "--journal", str(path)]) == 1
    out, errors = capsys.readouterr()
    assert out == ""
    assert "`gputally holders` lists who does now" in errors
    assert errors.rstrip("\n").isprintable()


def test_nobody_holds_anything(tmp_path: Path, capsys: Capture) -> None:
    """An empty list is said in words, and is a list for programs."""
    path = write(tmp_path / "j.db", {})
    assert said(capsys, 0, "holders", "--journal", str(path)) == "nobody holds a GPU of this node\n"
    assert told(capsys, "holders", "--journal", str(path)) == []


@pytest.mark.parametrize("command", [("holders",), ("job", EVIL.name), ("status",), ("report", "--all")])
def test_hostile_names_do_not_reach_the_terminal(
    tmp_path: Path, capsys: Capture, command: tuple[str, ...]
) -> None:
    """Control characters, line ends and direction marks are shown as question marks."""
    path = write(tmp_path / "j.db", {0: EVIL, 1: EVIL}, {0: EVIL, 1: EVIL})
    out = said(capsys, 0, *command, "--journal", str(path))
    assert all(line.isprintable() for line in out.splitlines())
    assert "\x1b" not in out


def test_a_finding_says_whom_it_hurts(tmp_path: Path, capsys: Capture) -> None:
    """The holders of its GPU now, in words and for programs."""
    finding = Finding(
        rule="row_remap_pending",
        severity="warning",
        node=NODE,
        uuid="GPU-1",
        opened_ms=BEGAN_MS,
        summary="a row waits for a reset",
        action="reset the GPU when it is free",
    )
    path = write(tmp_path / "j.db", {1: JOB}, finding=finding)
    assert "\n    held by job 4711 of vision\n" in said(capsys, 1, "findings", "--journal", str(path))
    main(["findings", "--journal", str(path), "--json"])
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["holders"], one["owners"]) == (["job 4711"], ["vision"])
