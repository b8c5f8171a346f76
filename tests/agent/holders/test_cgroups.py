"""Where a process belongs: the cgroup layouts of the field, and texts of any kind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.holders.cgroups import LONGEST_NAME, Place, claimant_of, keys_of, place_of
from agent.holders.contract import Claimant

BOX = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970"
INNER = "0a1b2c3d" * 8
UID = "6fc4a17a-9b0a-4ab4-833e-7004a16f89ce"
FLAT = UID.replace("-", "_")
STATIC = "d41d8cd98f00b204e9800998ecf8427e"
SCOPE = "/system.slice/slurmstepd.scope"
NESTED = "/kubelet.slice/kubelet-kubepods.slice"
BURSTABLE = "/kubepods.slice/kubepods-burstable.slice"

SLURM_V1 = """\
12:pids:/system.slice/slurmd.service
11:memory:/slurm/uid_1000/job_4711/step_0
10:cpu,cpuacct:/system.slice/slurmd.service
9:devices:/slurm/uid_1000/job_4711/step_0/task_0
5:freezer:/slurm/uid_1000/job_4711/step_0
4:cpuset:/slurm/uid_1000/job_4711
1:name=systemd:/system.slice/slurmd.service
0::/system.slice/slurmd.service
"""
DOCKER_V1 = f"""\
9:perf_event:/docker/{BOX}
8:cpu,cpuacct:/docker/{BOX}
7:memory:/docker/{BOX}
1:name=systemd:/docker/{BOX}
"""


def on(path: str) -> Place:
    """Give the place of a process of a host with cgroup version 2."""
    return place_of(f"0::{path}\n")


@pytest.mark.parametrize(
    ("text", "job", "step"),
    [
        (SLURM_V1, "4711", "0"),
        ("4:devices:/slurm_node7/uid_0/job_4711/step_batch/task_0\n", "4711", "batch"),
        ("4:cpuset:/slurm/uid_1000/job_4711\n", "4711", ""),
        (f"0::{SCOPE}/job_4711/step_batch/user/task_0\n", "4711", "batch"),
        (f"0::{SCOPE}/job_4711/step_extern/user/task_special\n", "4711", "extern"),
        (f"0::{SCOPE}/job_4711/step_interactive/user/task_0\n", "4711", "interactive"),
        (f"0::{SCOPE}/job_4711/step_12/slurm\n", "4711", "12"),
        ("0::/system.slice/node7_slurmstepd.scope/job_4711/step_3/user/task_1\n", "4711", "3"),
        ("0::/batch.slice/slurmstepd.scope/job_4711/step_0\n", "4711", "0"),
        (f"0::{SCOPE}/s5K1KKYAYG5D00/step_0/user/task_0\n", "s5K1KKYAYG5D00", "0"),
        (f"0::{SCOPE}{SCOPE}/job_4711/step_0/user/task_0\n", "4711", "0"),
        (f"0::/../../..{SCOPE}/job_4711/step_0/user/task_0 (deleted)\n", "4711", "0"),
        (f"1:name=systemd:/\n0::{SCOPE}/job_4711/step_0/user/task_0\n", "4711", "0"),
    ],
)
def test_a_slurm_job_is_found(text: str, job: str, step: str) -> None:
    """Of both versions, with one slurmd and several, by number and by SLUID."""
    place = place_of(text)
    assert (place.job, place.step) == (job, step)
    assert keys_of(place) == (f"slurm:{job}",)


@pytest.mark.parametrize(
    "path",
    [
        "/system.slice/slurmd.service",
        f"{SCOPE}/system",
        f"{SCOPE}/job_x/step_0",
        f"{SCOPE}/job_/step_0",
        "/home/job_4711/step_0",
        f"{SCOPE}/s5K1KKYAYG5D0/step_0",
        f"{SCOPE}/sIIIIIIIIIIIII/step_0",
        "/user.slice/user-1000.slice/user@1000.service/slurmstepd.scope/job_4711/step_0",
    ],
)
def test_what_only_looks_like_a_job_is_none(path: str) -> None:
    """Daemons, folders outside of Slurm's, and what a person made within a session of their own."""
    assert on(path).job == ""


@pytest.mark.parametrize(
    ("path", "pod", "runtime"),
    [
        (f"/kubepods/burstable/pod{UID}/{BOX}", UID, ""),
        (f"/kubepods/pod{UID}/{BOX}", UID, ""),
        (f"/kubepods/besteffort/pod{UID}/crio-{BOX}", UID, "crio"),
        (f"/kubepods/burstable/pod{STATIC}/{BOX}", STATIC, ""),
        (f"{BURSTABLE}/kubepods-burstable-pod{FLAT}.slice/cri-containerd-{BOX}.scope", UID, "containerd"),
        (f"{BURSTABLE}/kubepods-burstable-pod{FLAT}.slice/crio-{BOX}.scope", UID, "crio"),
        (f"{BURSTABLE}/kubepods-burstable-pod{FLAT}.slice/crio-{BOX}.scope/container", UID, "crio"),
        (f"{BURSTABLE}/kubepods-burstable-pod{FLAT}.slice/docker-{BOX}.scope", UID, "docker"),
        (
            f"{BURSTABLE}/kubepods-burstable-pod{STATIC}.slice/cri-containerd-{BOX}.scope",
            STATIC,
            "containerd",
        ),
        (f"/kubepods.slice/kubepods-pod{FLAT}.slice/cri-containerd-{BOX}.scope", UID, "containerd"),
        (
            f"/gpu.slice/gpu-kubepods.slice/gpu-kubepods-pod{FLAT}.slice/cri-containerd-{BOX}.scope",
            UID,
            "containerd",
        ),
        (f"/custom/root/kubepods/burstable/pod{UID}/{BOX}", UID, ""),
        (
            f"/system.slice/containerd.service/kubepods-burstable-pod{FLAT}.slice:cri-containerd:{BOX}",
            UID,
            "containerd",
        ),
        (
            f"{NESTED}/kubelet-kubepods-besteffort-pod{FLAT}.slice/cri-containerd-{BOX}.scope",
            UID,
            "containerd",
        ),
        (
            f"/docker/{INNER}{NESTED}/kubelet-kubepods-pod{FLAT}.slice/cri-containerd-{BOX}.scope",
            UID,
            "containerd",
        ),
        (f"/../../kubepods-burstable-pod{FLAT}.slice/cri-containerd-{BOX}.scope", UID, "containerd"),
        (f"/../../pod{UID}/{BOX}", UID, ""),
        (f"/kubepods/burstable/pod{UID}/{BOX}/docker/{INNER}", UID, ""),
        (f"/kubepods/burstable/pod{UID}/{BOX}/kubepods/pod{STATIC}/{INNER}", UID, ""),
    ],
)
def test_a_pod_and_its_container_are_found(path: str, pod: str, runtime: str) -> None:
    """Of both cgroup drivers, any runtime and nested kubelets; the outermost pod and its own container."""
    for place in (on(path), place_of(f"7:memory:{path}\n1:name=systemd:{path}\n")):
        assert (place.pod, place.container, place.runtime) == (pod, BOX, runtime)
        assert keys_of(place) == (f"pod:{pod}", f"container:{BOX}")


def test_a_pod_without_a_container_is_a_pod() -> None:
    """What runs in the pod's own folder has no container; the node's around it is none of the pod's."""
    place = on(f"/docker/{INNER}/kubepods/burstable/pod{UID}")
    assert (place.pod, place.container) == (UID, "")


@pytest.mark.parametrize(
    ("path", "runtime"),
    [
        (f"/docker/{BOX}", "docker"),
        (f"/docker/{BOX}/docker/{INNER}", "docker"),
        (f"/docker/{BOX}/init.scope", "docker"),
        (f"/system.slice/docker-{BOX}.scope", "docker"),
        (f"/team.slice/docker-{BOX}.scope", "docker"),
        (f"/../docker-{BOX}.scope", "docker"),
        (f"/../../{BOX}", ""),
        (f"/lab/{BOX}", ""),
        (f"/machine.slice/libpod-{BOX}.scope", "podman"),
        (f"/machine.slice/libpod-{BOX}.scope/container", "podman"),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{BOX}.scope", "podman"),
        (f"/system.slice/web.service/libpod-payload-{BOX}", "podman"),
        (f"/libpod_parent/libpod-{BOX}", "podman"),
        (f"/system.slice/nerdctl-{BOX}.scope", "containerd"),
        (f"/system.slice:nerdctl:{BOX}", "containerd"),
        (f"/default/{BOX}", "containerd"),
        (f"/system.slice/crio-{BOX}.scope", "crio"),
    ],
)
def test_a_container_is_found(path: str, runtime: str) -> None:
    """Of every runtime, of a person and of the host, seen from within a namespace and from without."""
    place = on(path)
    assert (place.container, place.runtime) == (BOX, runtime)
    assert keys_of(place) == (f"container:{BOX}",)


def test_a_short_id_counts_where_containers_live() -> None:
    """Twelve digits are an id in Docker's folder or behind a runtime's name; anywhere else a folder."""
    assert on(f"/docker/{BOX[:12]}").container == BOX[:12]
    assert on(f"/system.slice/docker-{BOX[:12]}.scope").container == BOX[:12]
    assert on(f"/lab/{BOX[:12]}").container == ""
    assert on(f"/docker/{BOX[:11]}").container == ""


@pytest.mark.parametrize("monitor", [f"libpod-conmon-{BOX}.scope", f"crio-conmon-{BOX}.scope"])
def test_a_monitor_is_no_container(monitor: str) -> None:
    """It only watches the container."""
    place = on(f"/machine.slice/{monitor}")
    assert keys_of(place) == ()
    assert place.unit == monitor


def test_version_1_tells_the_same_on_many_lines() -> None:
    """A container has a line for each controller."""
    assert place_of(DOCKER_V1) == Place(container=BOX, runtime="docker")


def test_a_container_of_a_job_belongs_to_the_job() -> None:
    """All is told; the first key is the job's."""
    place = place_of(f"2:devices:/slurm/uid_7/job_12/step_0/task_0\n0::/machine.slice/libpod-{BOX}.scope\n")
    assert keys_of(place) == ("slurm:12", f"container:{BOX}")
    assert claimant_of(place, "ada", "python train.py") == Claimant(kind="slurm", name="12", user="ada")


@pytest.mark.parametrize(
    ("path", "unit", "folder"),
    [
        ("/system.slice/ollama.service", "ollama.service", "system.slice"),
        ("/system.slice/ollama.service/worker", "ollama.service", "system.slice"),
        ("/system.slice/system-vllm.slice/vllm@0.service", "vllm@0.service", "system-vllm.slice"),
        (r"/system.slice/vllm@meta\x2dllama.service", "vllm@meta-llama.service", "system.slice"),
        ("/system.slice/_cpu.service", "cpu.service", "system.slice"),
        ("/../ollama.service", "ollama.service", ""),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope", "user-1000.slice"),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/x.service",
            "x.service",
            "user-1000.slice",
        ),
        ("/../../user@1000.service/app.slice/x.service", "x.service", "user-1000.slice"),
        (
            "/user.slice/user-1000.slice/user@1000.service/init.scope",
            "init.scope",
            "user-1000.slice",
        ),
        ("/user.slice/user-1000.slice/user@1000.service", "user@1000.service", "user-1000.slice"),
        ("/init.scope", "init.scope", ""),
        ("/team.slice/team-a.slice", "", "team-a.slice"),
        ("/", "", ""),
    ],
)
def test_unit_and_slice_are_found(path: str, unit: str, folder: str) -> None:
    """The outermost unit; below a person's systemd that person's unit and slice."""
    assert on(path) == Place(unit=unit, slice=folder)


@pytest.mark.parametrize(
    ("path", "claimant"),
    [
        (f"{SCOPE}/job_4711/step_0", Claimant(kind="slurm", name="4711", user="ada")),
        (f"/kubepods/pod{UID}/{BOX}", Claimant(kind="pod", name=UID)),
        (f"/docker/{BOX}", Claimant(kind="container", name=BOX[:12], user="ada")),
        ("/system.slice/ollama.service", Claimant(kind="unit", name="ollama.service", user="ada")),
        ("/system.slice/vllm@0.service", Claimant(kind="unit", name="vllm@0.service", user="ada")),
    ],
)
def test_the_path_names_a_claimant(path: str, claimant: Claimant) -> None:
    """As far as it goes: worlds know more."""
    assert claimant_of(on(path), "ada", "python train.py") == claimant


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/init.scope",
        "/user.slice/user-1000.slice/session-3.scope",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/ollama.service",
        "/../../user@1000.service/app.slice/ollama.service",
        "/user.slice/user-1000.slice/user@1000.service",
        "/system.slice/sshd.service",
        "/system.slice/ssh@7.service",
        "/system.slice/cron.service",
        "/system.slice/system-getty.slice/getty@tty1.service",
        "/system.slice/slurmd.service",
        "/system.slice/run-u17.scope",
        f"{SCOPE}/system",
    ],
)
def test_people_are_processes(path: str) -> None:
    """Sessions, what a person's own systemd runs, and what logins and timetables start."""
    told = claimant_of(on(path), "ada", "python train.py")
    assert told == Claimant(kind="process", name="python train.py", user="ada")


def test_a_process_has_a_name() -> None:
    """Even one whose command is unknown."""
    assert claimant_of(Place(), "", "").name == "unnamed process"


def test_hostile_names_are_harmless() -> None:
    """Control characters, whatever their spelling, do not get out."""
    place = on("/system.slice/\x1b[31mevil\\x0a\\x1b\u202e.service")
    assert place.unit == "?[31mevil???.service"
    assert claimant_of(place, "ada\n", "x").user == "ada?"
    assert len(on("/" + "x" * 4000 + ".service").unit) <= LONGEST_NAME


PIECES = st.sampled_from(
    [
        *(
            "0::",
            "1:name=systemd:",
            "4:devices:",
            ":",
            "\n",
            "/",
            "..",
            " (deleted)",
            "\\x2d",
            "\\xff",
            "\x00",
        ),
        *(
            "slurm",
            "slurmstepd.scope",
            "uid_1",
            "job_4711",
            "s5K1KKYAYG5D00",
            "step_0",
            "kubepods",
            "libpod-",
        ),
        *(f"pod{UID}", f"kubepods-pod{FLAT}.slice", BOX, f"docker-{BOX}.scope", ":cri-containerd:", "docker"),
        *(
            "user@1000.service",
            "user-1000.slice",
            "system.slice",
            "x.service",
            "session-3.scope",
            "é",
            "\udcff",
        ),
    ]
)
TEXTS = st.one_of(
    st.text(), st.lists(PIECES, max_size=30).map("".join), st.lists(PIECES, max_size=30).map("/".join)
)


@given(TEXTS, st.text(), st.text())
def test_no_text_does_harm(text: str, user: str, command: str) -> None:
    """Nothing raises, and all that comes out is short, printable ASCII."""
    place = place_of(text)
    claimant = claimant_of(place, user, command)
    for told in (*place, *keys_of(place), claimant.name, claimant.user):
        assert len(told) <= LONGEST_NAME
        assert told.isascii()
        assert told == "" or told.isprintable()
    assert claimant.name
    assert not place.job or place.job.isalnum()
    assert set(place.pod) <= set("0123456789abcdef-")
    assert set(place.container) <= set("0123456789abcdef")


@given(TEXTS)
def test_a_person_claims_no_job_and_no_pod(text: str) -> None:
    """Whatever folders somebody makes in their own part of the tree."""
    made = text.replace("\n", "/")
    place = on(f"/user.slice/user-1000.slice/user@1000.service/{made}")
    assert (place.job, place.pod) == ("", "")
    assert claimant_of(place, "ada", "python").kind in {"container", "process"}


def test_a_long_text_costs_little() -> None:
    """Only its beginning is read."""
    assert place_of("0::/a\n" * 10**6 + f"0::/docker/{BOX}\n") == Place()
