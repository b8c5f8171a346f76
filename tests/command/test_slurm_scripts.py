"""Prolog and epilog for Slurm: they drain what is not fit, and are never in the way of a job."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "systemd" / "slurm"
SAID = "GPUTALLY CRITICAL: GPU 3 is lost"


def program(path: Path, text: str) -> Path:
    """Write a program of our own."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def ran(name: str, folder: Path, check: str, gpus: str = "0,3") -> subprocess.CompletedProcess[str]:
    """Run a script where the check does this; what Slurm is asked lands in `asked`."""
    program(folder / "scontrol", f'printf "%s\\n" "$@" >> {folder}/asked')
    gputally = program(folder / "gputally", f'echo "$@" > {folder}/checked\n{check}')
    return subprocess.run(
        ["/bin/sh", str(SCRIPTS / name)],
        env={
            "PATH": f"{folder}:{os.environ['PATH']}",
            "GPUTALLY": str(gputally),
            "SLURM_JOB_GPUS": gpus,
            "SLURMD_NODENAME": "n7",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_node_that_is_not_fit_is_drained_by_the_prolog(tmp_path: Path) -> None:
    """Slurm drains where a prolog fails; the user is told why, and only the job's GPUs were asked about."""
    done = ran("prolog", tmp_path, f"echo '{SAID}'; exit 1")
    assert (done.returncode, done.stdout) == (1, f"print {SAID}\n")
    assert (tmp_path / "checked").read_text() == "check --gpus 0,3 --for slurm\n"


def test_a_node_that_is_not_fit_is_drained_by_the_epilog(tmp_path: Path) -> None:
    """With the sentence as the reason, without what could harm a terminal."""
    done = ran("epilog", tmp_path, f"printf '{SAID}\\033[31m\\n'; exit 1")
    assert done.returncode == 0
    assert (tmp_path / "asked").read_text().split("\n")[:4] == [
        "update",
        "nodename=n7",
        "state=drain",
        f"reason={SAID} [31m",
    ]


@pytest.mark.parametrize("name", ["prolog", "epilog"])
@pytest.mark.parametrize("check", ["exit 0", "exit 2", "exit 3", "kill -9 $$"], ids=str)
def test_nothing_else_drains(tmp_path: Path, name: str, check: str) -> None:
    """Neither a node that is fit, nor a check that could not be made."""
    done = ran(name, tmp_path, check)
    assert (done.returncode, done.stdout) == (0, "")
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("name", ["prolog", "epilog"])
def test_jobs_without_gpus_and_nodes_without_gputally_pass(tmp_path: Path, name: str) -> None:
    """Nothing is asked there."""
    assert ran(name, tmp_path, "exit 1", gpus="").returncode == 0
    assert not (tmp_path / "checked").exists()
    environment = {"PATH": os.environ["PATH"], "SLURM_JOB_GPUS": "0", "GPUTALLY": str(tmp_path / "absent")}
    done = subprocess.run(["/bin/sh", str(SCRIPTS / name)], env=environment, check=False, timeout=60)
    assert done.returncode == 0
