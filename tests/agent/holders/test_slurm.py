"""The world of Slurm, asked through canned commands, with cgroups of all layouts."""

from pathlib import Path

import pytest

from agent.holders.contract import Answer, Claimant, Question, SliceOf, WorldError
from tests.slurm.canned import CannedJob, CannedSlurm
from tests.slurm.stand import GPUS, Stand, folder, holders

SLUID = "sEKNKTV3WPV500"
LAYOUTS = [
    "devices/slurm/uid_1001/job_4711",
    "cpuset/slurm_n1/uid_1001/job_4711",
    "freezer/slurm/uid_1001/job_4711",
    "memory/slurm/uid_1001/job_4711",
    "system.slice/slurmstepd.scope/job_4711",
    "system.slice/n1_slurmstepd.scope/job_4711",
    "slurm/uid_1001/job_4711",
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("version", ["22.05", "25.05"])
def test_a_job_is_found_by_its_folder_and_named_by_slurm(tmp_path: Path, layout: str, version: str) -> None:
    """Whatever the layout, a job with no process on a GPU has the GPUs that Slurm says."""
    folder(tmp_path, layout)
    job = CannedJob(4711, {"n[0-3]": "gpu:h100:2(IDX:0,3)"})
    stand = Stand(CannedSlurm([job], version=version, used="gpu:2"), tmp_path)

    answer = stand.look()

    assert holders(answer) == {"0": ["4711"], "3": ["4711"]}
    claimant = Claimant(
        kind="slurm",
        name="4711",
        user="ada",
        account="physics",
        partition="night",
        qos="normal",
        title="train",
    )
    assert answer.named == {"slurm:4711": claimant}
    assert answer.trouble == ""


def test_folders_of_another_slurmd_are_not_ours(tmp_path: Path) -> None:
    """With several slurmd on a host, each has folders with its node's name."""
    folder(tmp_path, "system.slice/n2_slurmstepd.scope/job_1")
    folder(tmp_path, "devices/slurm_n2/uid_0/job_2")
    assert Stand(CannedSlurm(), tmp_path).look() == Answer()


def test_a_job_named_by_its_sluid_is_found(tmp_path: Path) -> None:
    """Slurm itself says which job a SLUID stands for, once."""
    folder(tmp_path, f"system.slice/slurmstepd.scope/{SLUID}")
    stand = Stand(CannedSlurm([CannedJob(12, {"n1": "gpu:1(IDX:1)"}, sluid=SLUID)], used="gpu:1"), tmp_path)

    answer = stand.look()

    assert holders(answer) == {"1": ["12"]}
    assert answer.named.keys() == {"slurm:12", f"slurm:{SLUID}"}
    stand.look()
    assert stand.slurm.asked == []


def test_an_array_task_is_named_by_array_and_task(tmp_path: Path) -> None:
    """Its folder bears its own number; both names find it."""
    folder(tmp_path, "system.slice/slurmstepd.scope/job_4712")
    jobs = [CannedJob(4712, {"n1": "gpu:1(IDX:2)"}, array=(4710, 3))]
    answer = Stand(CannedSlurm(jobs, used="gpu:1"), tmp_path).look()
    assert holders(answer) == {"2": ["4710_3"]}
    assert answer.named.keys() == {"slurm:4712", "slurm:4710_3"}


def test_a_job_without_a_step_is_named(tmp_path: Path) -> None:
    """The node counts a GPU that no known job has: its jobs are listed."""
    stand = Stand(CannedSlurm([CannedJob(7, {"n1": "gpu:1(IDX:1)"})]), tmp_path)
    assert holders(stand.look()) == {}
    stand.slurm.used = "gpu:1"
    assert holders(stand.look(later=30)) == {"1": ["7"]}


def test_jobs_without_steps_that_change_places_are_told_apart_within_a_minute(tmp_path: Path) -> None:
    """The count does not change when one ends and another begins."""
    stand = Stand(CannedSlurm([CannedJob(7, {"n1": "gpu:1(IDX:1)"})], used="gpu:1"), tmp_path)
    assert holders(stand.look()) == {"1": ["7"]}
    stand.slurm.jobs = [CannedJob(8, {"n1": "gpu:1(IDX:2)"})]
    for _ in range(4):
        answer = stand.look(later=15)
    assert holders(answer) == {"2": ["8"]}


def test_a_finished_job_goes_with_the_next_question_for_the_node(tmp_path: Path) -> None:
    """Also while its folder is still there."""
    folder(tmp_path, "system.slice/slurmstepd.scope/job_9")
    stand = Stand(CannedSlurm([CannedJob(9, {"n1": "gpu:1(IDX:1)"})], used="gpu:1"), tmp_path)
    assert holders(stand.look()) == {"1": ["9"]}
    stand.slurm.jobs, stand.slurm.used = [], "gpu:0"
    answer = stand.look(later=20)
    assert holders(answer) == {}
    assert answer.named["slurm:9"].user == "ada"


def test_a_job_that_begins_again_is_asked_for_again(tmp_path: Path) -> None:
    """A requeued job keeps its number and may have other GPUs."""
    folder(tmp_path, "system.slice/slurmstepd.scope/job_9")
    stand = Stand(CannedSlurm([CannedJob(9, {"n1": "gpu:1(IDX:1)"})], used="gpu:1(IDX:1)"), tmp_path)
    stand.look()
    stand.slurm.jobs = [CannedJob(9, {"n1": "gpu:1(IDX:2)"}, started="2026-11-23T09:00:00")]
    stand.slurm.used = "gpu:1(IDX:2)"
    assert holders(stand.look(later=30)) == {"2": ["9"]}


def test_nothing_is_asked_while_nothing_changes(tmp_path: Path) -> None:
    """Twenty jobs cost one question for the node now and then."""
    jobs = [CannedJob(number, {"n1": ""}) for number in range(100, 120)]
    for job in jobs:
        folder(tmp_path, f"system.slice/slurmstepd.scope/job_{job.number}")
    stand = Stand(CannedSlurm(jobs), tmp_path)
    stand.look()
    assert len([one for one in stand.slurm.asked if "show job" in one]) == 20
    stand.look(later=15)
    assert stand.slurm.asked == []
    stand.look(later=15)
    assert stand.slurm.asked == ["scontrol show node n1 -d -o"]


def test_a_flood_of_jobs_is_asked_for_in_portions(tmp_path: Path) -> None:
    """One look asks for twenty jobs at most, and lists once."""
    jobs = [CannedJob(number, {"n1": ""}) for number in range(100, 150)]
    for job in jobs:
        folder(tmp_path, f"system.slice/slurmstepd.scope/job_{job.number}")
    stand = Stand(CannedSlurm(jobs), tmp_path)
    for expected in (20, 40, 50):
        answer = stand.look()
        assert len(answer.named) == expected
        assert len([one for one in stand.slurm.asked if "show job" in one]) <= 20
        assert len([one for one in stand.slurm.asked if one.startswith("squeue")]) == 1


def test_a_number_that_slurm_does_not_know_is_asked_for_once(tmp_path: Path) -> None:
    """Until ten minutes have passed."""
    stand = Stand(CannedSlurm(), tmp_path)
    stand.look("slurm:5", f"slurm:{SLUID}", "slurm:-x", "pod:5")
    assert [one for one in stand.slurm.asked if "-x" in one] == []
    stand.look("slurm:5", f"slurm:{SLUID}")
    assert stand.slurm.asked == []
    stand.look("slurm:5", f"slurm:{SLUID}", later=601)
    assert len([one for one in stand.slurm.asked if one.endswith((" 5", SLUID))]) == 2


def test_a_silent_slurmctld_takes_nothing_away(tmp_path: Path) -> None:
    """What is known holds, and the trouble is told."""
    folder(tmp_path, "system.slice/slurmstepd.scope/job_9")
    stand = Stand(CannedSlurm([CannedJob(9, {"n1": "gpu:1(IDX:1)"})], used="gpu:1"), tmp_path)
    stand.look()
    stand.slurm.silent = True
    answer = stand.look(later=3600)
    assert holders(answer) == {"1": ["9"]}
    assert "did not answer" in answer.trouble
    assert len(stand.slurm.asked) == 1
    stand.look(later=1)
    assert stand.slurm.asked == []
    stand.slurm.silent = False
    assert stand.look(later=30).trouble == ""


def test_a_silent_slurmctld_leaves_device_cgroups(tmp_path: Path) -> None:
    """A job is claimed by its number, its user and its device files alone."""
    folder(tmp_path, "devices/slurm/uid_0/job_9", "c 1:3 rwm\nc 195:255 rw\nc 195:2 rwm\n")
    stand = Stand(CannedSlurm(silent=True), tmp_path)
    answer = stand.look()
    assert answer.given == {"GPU-minor2": (Claimant(kind="slurm", name="9", user="root"),)}
    assert answer.trouble


def test_a_silent_slurmctld_with_nothing_known_is_an_error(tmp_path: Path) -> None:
    """Nobody should think then that the GPUs are free."""
    with pytest.raises(WorldError, match="scontrol ping"):
        Stand(CannedSlurm(silent=True), tmp_path).look()


def test_a_device_cgroup_tells_more_than_indexes(tmp_path: Path) -> None:
    """Where a job's device files are listed, nothing else is asked for."""
    folder(tmp_path, "devices/slurm/uid_1001/job_9", "c 195:1 rwm\nc 195:255 rwm\n")
    stand = Stand(CannedSlurm([CannedJob(9, {"n1": "gpu:1(IDX:0)"})], used="gpu:1"), tmp_path)
    assert holders(stand.look()) == {"1": ["9"]}
    assert not [one for one in stand.slurm.asked if "show job" in one]


@pytest.mark.parametrize("listed", ["a *:* rwm\n", "".join(f"c 195:{minor} rwm\n" for minor in range(4))])
def test_a_job_that_may_open_every_device_is_not_given_all(tmp_path: Path, listed: str) -> None:
    """It may just not be confined: Slurm is asked."""
    folder(tmp_path, "devices/slurm/uid_1001/job_9", listed)
    stand = Stand(CannedSlurm([CannedJob(9, {"n1": "gpu:1(IDX:0)"})], used="gpu:1"), tmp_path)
    assert holders(stand.look()) == {"0": ["9"]}


def test_gres_conf_tells_the_order_of_gpus(tmp_path: Path) -> None:
    """Slurm counts by type as the node lists them, then as gres.conf does, without other nodes' lines."""
    gres_file = tmp_path / "gres.conf"
    gres_file.write_text(
        "NodeName=n9 Name=gpu Type=b File=/dev/nvidia0\n"
        "NodeName=n[1-2] Name=gpu Type=a File=/dev/nvidia2  # the fast one\n"
        "NodeName=n[1-2] Name=gpu Type=b File=/dev/nvidia0\n"
        "NodeName=n[1-2] Name=gpu Type=a File=/dev/nvidia[3,1]\n"
    )
    jobs = [CannedJob(at + 1, {"n1": f"gpu:1(IDX:{at})"}) for at in range(4)]
    slurm = CannedSlurm(jobs, gres="gpu:b:1,gpu:a:3", used="gpu:b:1(IDX:0),gpu:a:3(IDX:1-3)")
    answer = Stand(slurm, tmp_path, gres_file=str(gres_file)).look()
    assert holders(answer) == {"0": ["1"], "2": ["2"], "3": ["3"], "1": ["4"]}


def test_indexes_that_nobody_can_place_are_told_as_trouble(tmp_path: Path) -> None:
    """Slurm manages two of four GPUs: which, only gres.conf says."""
    slurm = CannedSlurm([CannedJob(1, {"n1": "gpu:1(IDX:0)"})], gres="gpu:2", used="gpu:1")
    answer = Stand(slurm, tmp_path).look()
    assert answer.given == {}
    assert "gres.conf" in answer.trouble
    assert answer.named.keys() == {"slurm:1"}


def test_a_lost_gpu_moves_no_other(tmp_path: Path) -> None:
    """The order that was found while all were there stays."""
    stand = Stand(CannedSlurm([CannedJob(1, {"n1": "gpu:1(IDX:3)"})], used="gpu:1"), tmp_path)
    stand.look()
    question = Question(gpus=tuple(gpu for gpu in GPUS if gpu.minor != "0"))
    assert holders(stand.world.look(question)) == {"3": ["1"]}


def test_a_gpu_in_slices_is_given_to_nobody_as_a_whole(tmp_path: Path) -> None:
    """An index means a slice there: only its processes tell."""
    stand = Stand(CannedSlurm([CannedJob(1, {"n1": "gpu:1(IDX:3)"})], used="gpu:1"), tmp_path)
    answer = stand.look(slices=(SliceOf("MIG-1", "GPU-minor3", "1g.10gb"),))
    assert answer.given == {}
    assert answer.trouble == ""
    assert answer.named.keys() == {"slurm:1"}


def test_jobs_that_share_a_gpu_both_have_it(tmp_path: Path) -> None:
    """Shards are counted by the GPU that they are of."""
    jobs = [CannedJob(number, {"n1": "shard:2(IDX:1)"}) for number in (1, 2)]
    slurm = CannedSlurm(jobs, gres="gpu:4,shard:16", used="gpu:0,shard:4(0/4,4/4,0/4,0/4)")
    assert holders(Stand(slurm, tmp_path).look()) == {"1": ["1", "2"]}


def test_hidden_jobs_are_told_as_trouble(tmp_path: Path) -> None:
    """PrivateData lets the agent see the count but not the jobs."""
    stand = Stand(CannedSlurm(used="gpu:2"), tmp_path)
    assert stand.look().trouble == ""
    assert "PrivateData" in stand.look(later=60).trouble
    assert "PrivateData" in stand.look(later=5).trouble


def test_a_node_that_slurm_does_not_know_is_told_with_the_setting(tmp_path: Path) -> None:
    """The sentence names what to set."""
    slurm = CannedSlurm()
    stand = Stand(slurm, tmp_path)
    slurm.node = "other"
    with pytest.raises(WorldError, match="NodeName"):
        stand.look()
