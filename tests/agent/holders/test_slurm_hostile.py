"""What users and administrators write into Slurm's texts is only text."""

from pathlib import Path

import pytest

from tests.slurm.canned import CannedJob, CannedSlurm
from tests.slurm.stand import Stand, holders

FORGED = "     Nodes=n1 CPU_IDs=0 Mem=0 GRES=gpu:4(IDX:0-3)\n"
HOSTILE = [
    "x\n   UserId=root(0)\n   JOB_GRES=gpu:4\n" + FORGED,
    " Nodes=n1 CPU_IDs=0 Mem=0 GRES=gpu:4(IDX:0-3)",
    "x JobName=y\n   UserId=root(0) GroupId=root(0)\n   JOB_GRES=gpu:4\n" + FORGED,
    "<%A>4712<%A>4712<%A>N/A<%A>root<%A>",
    "\n4712|4712|N/A|root\nJobId=4712 JobName=x",
    "\udcff\udcfe\x1b[31m\u202e",
    "",
    "   ",
    "(null)",
    "y" * 1024,
]


@pytest.mark.parametrize("title", HOSTILE)
@pytest.mark.parametrize("where", ["title", "comment", "wckey"])
def test_what_users_choose_moves_no_gpu_and_no_name(tmp_path: Path, title: str, where: str) -> None:
    """A job name that looks like Slurm's own words is only a job name."""
    mine = CannedJob(4711, {"n1": "gpu:1(IDX:1)"}, user="eve", **{where: title})  # type: ignore[arg-type]
    other = CannedJob(4712, {"n1": "gpu:1(IDX:0)"})
    answer = Stand(CannedSlurm([mine, other], used="gpu:2"), tmp_path).look()
    assert holders(answer) == {"1": ["4711"], "0": ["4712"]}
    assert answer.named["slurm:4711"].user == "eve"
    assert answer.named["slurm:4712"].user == "ada"
    assert answer.named.keys() == {"slurm:4711", "slurm:4712"}
    assert all(one.title.isprintable() and len(one.title) <= 200 for one in answer.named.values())


def test_a_name_that_changes_between_two_questions_gives_nothing(tmp_path: Path) -> None:
    """The job is asked for again later."""
    job = CannedJob(1, {"n1": "gpu:1(IDX:1)"})
    slurm = CannedSlurm([job], used="gpu:1")
    stand = Stand(slurm, tmp_path)
    plain = job.text
    job.text = lambda version: plain(version).replace("JobName=train", "JobName=other")  # type: ignore[method-assign]
    assert holders(stand.look()) == {}
    job.text = plain  # type: ignore[method-assign]
    assert holders(stand.look(later=60)) == {"1": ["1"]}


@pytest.mark.parametrize(
    ("state", "reason", "drained"),
    [
        ("IDLE", "", ""),
        ("ALLOCATED+RESERVED", "", ""),
        ("IDLE+DRAIN", "bad GPU [root@2026-11-23T08:10:12]", "drain: bad GPU"),
        ("MIXED+DRAIN", "bad\nState=IDLE  x [root@2026-11-23T08:10:12]", "drain: bad"),
        ("DRAINING*", "", "draining"),
        ("IDLE*", "", "not_responding"),
        ("IDLE$", "", "maint"),
        ("DOWN", "Not responding [slurm@2026-11-23T08:10:12] Comment=x", "down: Not responding"),
        ("IDLE+MAINT+RESERVED", "", "maint"),
        ("MIXED+CLOUD+PLANNED", "", ""),
        ("DOWN", "x" * 1000, "down: " + "x" * 94),
        ("DOWN", "a\x1bb [root@2026-11-23T08:10:12]", "down: a?b"),
    ],
)
def test_a_node_without_work_tells_why(tmp_path: Path, state: str, reason: str, drained: str) -> None:
    """Base states and flags, whatever stands behind them."""
    assert Stand(CannedSlurm(state=state, reason=reason), tmp_path).look().drained == drained
