"""The agent needs no right of its own: without any it reads, keeps, serves, and ends."""

import os
from pathlib import Path

import psutil
import pytest

from tests.command.processes import MIXED, WITHOUT_RIGHTS, gputally, running
from tests.command.waiting import until

NONE = "0000000000000000"
KINDS = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}

pytestmark = pytest.mark.skipif(
    os.geteuid() == 0 and not WITHOUT_RIGHTS, reason="as root this needs setpriv, of util-linux"
)


def of(pid: int) -> dict[str, str]:
    """Give what the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return dict(line.split(":\t", 1) for line in lines)


def has_none(pid: int) -> bool:
    """Tell whether a process has no capability; where tests run as root, nor a way to get one."""
    status = of(pid)
    kinds = KINDS if WITHOUT_RIGHTS else KINDS - {"CapBnd"}
    return {status[kind] for kind in kinds} == {NONE} and (not WITHOUT_RIGHTS or status["NoNewPrivs"] == "1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to do without")
def test_root_has_what_is_taken_away() -> None:
    """Else the test below would hold for anything."""
    assert not has_none(os.getpid())


def test_agent_and_probe_have_no_right(tmp_path: Path) -> None:
    """Neither has any capability, and all works: GPUs, accounts, journal, pages, the end."""
    with running(tmp_path, *MIXED) as agent:
        agent.shows_gpus()
        for process in (psutil.Process(agent.process.pid), agent.probe()):
            assert has_none(process.pid), of(process.pid)
        until(lambda: sum(agent.samples("gpu_tally_seconds_total").values()) > 0, "accounts that grow")
        assert b"GPU" in agent.page("/")
        assert agent.end() == 0
    assert gputally(tmp_path, "status").code == 0
    assert gputally(tmp_path, "report", "--last", "1h").code == 0


def test_the_kernel_refuses_it_what_root_may(tmp_path: Path) -> None:
    """A folder without write permission is one sentence and an exit code, as for any user."""
    folder = tmp_path / "shut"
    folder.mkdir()
    folder.chmod(0o500)
    done = gputally(tmp_path, "run", *MIXED, "--journal", folder / "j.db")
    assert done.code != 0
    assert "permission" in done.errors.lower(), done.errors
    assert "Traceback" not in done.errors
