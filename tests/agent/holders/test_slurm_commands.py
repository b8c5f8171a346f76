"""Commands of Slurm that hang, flood, fail or are none: none of them holds the agent up or stays behind."""

import time
from pathlib import Path

import pytest

from agent.holders.contract import Question, WorldError
from agent.holders.scontrol import SlurmCommands
from agent.holders.slurm import SlurmWorld
from agent.programs import ProgramError, ProgramMissing, run_command
from tests.command.waiting import until

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
HANGS_SECONDS = 30.0


def program(folder: Path, text: str, name: str = "scontrol") -> str:
    """Write a program of our own."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def is_gone(pid: str) -> bool:
    """Say whether a process has ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize(
    "hang",
    [
        "sleep 600 & echo $! >> {pids}; wait",
        "sleep 600 & echo $! >> {pids}; exit 0",
        "exec >&- 2>&-; exec sleep 600",
        "trap '' TERM; echo begun; sleep 600",
    ],
)
def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path, hang: str) -> None:
    """Also when it alone has ended and another holds its output."""
    pids = tmp_path / "pids"
    hanging = program(tmp_path, f"echo $$ > {pids}\n" + hang.format(pids=pids))
    begun = time.monotonic()
    with pytest.raises(ProgramError, match="did not answer within 1 s"):
        run_command([hanging], ENVIRONMENT, timeout_seconds=1.0)
    assert time.monotonic() - begun < HANGS_SECONDS
    for pid in pids.read_text().split() if pids.exists() else ():
        until(lambda pid=pid: is_gone(pid), f"process {pid} to end")  # type: ignore[misc]


def test_a_world_whose_commands_hang_fails_in_time(tmp_path: Path) -> None:
    """And asks for nothing more in that look."""
    asked = tmp_path / "asked"
    program(tmp_path, f"echo once >> {asked}\nexec sleep 600")
    world = SlurmWorld(
        node="n1",
        commands=str(tmp_path),
        cgroup_root=tmp_path,
        run=lambda command, environment: run_command(command, environment, timeout_seconds=1.0),
        monotonic=lambda: 0.0,
    )
    assert world.available()
    for _ in range(2):
        with pytest.raises(WorldError, match="scontrol ping"):
            world.look(Question(keys=frozenset({"slurm:1", "slurm:2"})))
    assert not asked.exists() or asked.read_text() == "once\n"


def test_a_flood_is_cut(tmp_path: Path) -> None:
    """A hundred megabytes are not taken into memory."""
    flooding = program(tmp_path, f"echo $$ > {tmp_path}/pid\nexec head -c 100000000 /dev/zero")
    with pytest.raises(ProgramError, match="more than 4194304 bytes"):
        run_command([flooding], ENVIRONMENT, timeout_seconds=HANGS_SECONDS)
    assert is_gone((tmp_path / "pid").read_text().strip())


def test_complaints_without_end_are_cut(tmp_path: Path) -> None:
    """What a command complains of is short and its output whole."""
    loud = program(tmp_path, "head -c 3000000 /dev/zero >&2; echo done")
    done = run_command([loud], ENVIRONMENT, timeout_seconds=HANGS_SECONDS)
    assert done.text == "done\n"
    assert len(done.words) < 100_000


def test_a_command_that_cannot_be_run_names_the_setting(tmp_path: Path) -> None:
    """Whether it is absent, no program, or a folder."""
    (tmp_path / "scontrol").write_text("x")
    for name in ("scontrol", "absent", "."):
        with pytest.raises(ProgramMissing, match="cannot be run"):
            run_command([str(tmp_path / name)], ENVIRONMENT)
    with pytest.raises(WorldError, match="in the settings"):
        SlurmCommands(str(tmp_path / "nowhere")).node("n1")


def test_a_command_that_fails_tells_its_last_words(tmp_path: Path) -> None:
    """Cleaned of what could do harm on a terminal."""
    program(tmp_path, "printf 'first\\nlast \\033[31m words\\n' >&2; exit 3")
    with pytest.raises(
        WorldError, match=r"scontrol show node n1 failed \(last \?\[31m words\): run it by hand"
    ):
        SlurmCommands(str(tmp_path)).node("n1")


def test_commands_get_no_settings_of_the_agents_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that change what squeue prints do not reach it; the way to Slurm's settings does."""
    for name in ("SLURM_TIME_FORMAT", "SQUEUE_STATES", "SLURM_CLUSTERS", "SLURM_CONF"):
        monkeypatch.setenv(name, "x")
    program(tmp_path, "env; exit 0")
    told = SlurmCommands(str(tmp_path)).node("n1")
    names = {line.partition("=")[0] for line in told.splitlines()}
    assert names >= {"LC_ALL", "SLURM_CONF"}
    assert not names & {"SLURM_TIME_FORMAT", "SQUEUE_STATES", "SLURM_CLUSTERS"}


def test_what_stands_between_marks_is_not_among_the_arguments(tmp_path: Path) -> None:
    """Other users see arguments, and could write the marks into their jobs' names."""
    squeue = program(
        tmp_path,
        f'echo "$@" > {tmp_path}/arguments; printf %s "$SQUEUE_FORMAT" > {tmp_path}/format',
        "squeue",
    )
    assert SlurmCommands(str(Path(squeue).parent)).numbered(["1", "2"]) == {}
    mark = (tmp_path / "format").read_text().partition("%")[0]
    assert len(mark) > 30
    assert mark not in (tmp_path / "arguments").read_text()


def test_slurm_is_here_when_its_command_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder that was named, else on PATH."""
    assert not SlurmCommands(str(tmp_path)).available()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not SlurmCommands().available()
    program(tmp_path, "exit 0")
    assert SlurmCommands().available()
    assert SlurmCommands(str(tmp_path)).available()
