"""Where a process belongs, by the text of its /proc/PID/cgroup: Slurm job, pod, container, systemd unit.

The outermost name counts, never one within it: whoever was given a folder of the tree may name what is
inside. So below a person's own systemd (user@UID.service) there are neither jobs nor pods, only that person's
containers and services. No text raises, and what comes out is short, printable ASCII.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from agent.holders.contract import Claimant

LONGEST_TEXT = 64 * 1024
LONGEST_REMEMBERED = 2048
LONGEST_NAME = 256
SHORT_ID = 12
"""So many digits of a container's id are shown; runtimes show as many."""

_ESCAPED = re.compile(r"\\x([0-9a-fA-F]{2})")
_HOSTILE = re.compile(r"[^\x20-\x7e]")
_HEX_ID = re.compile(r"[0-9a-f]{12,64}")
_FULL_ID = 64
_POD = re.compile(
    r"(?:(?:.*-)?kubepods(?:-[a-z]+)?-)?pod"
    r"([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?"
)
_SLURM_ROOT = re.compile(r"slurm(?:_.+)?|(?:.+_)?slurmstepd\.scope")
_JOB = re.compile(r"job_([0-9]{1,20})|(s[0-9A-HJKMNP-TV-Z]{13})")
_STEP = re.compile(r"step_([0-9A-Za-z+.-]{1,32})")
_OWN_SYSTEMD = re.compile(r"user@([0-9]{1,20})\.service")
_OWN_SLICE = re.compile(r"user-[0-9]{1,20}\.slice")
_SPLIT_NAME = re.compile(r"([^:]+):([a-z][a-z-]*):([0-9a-f]+)")
_RUNTIMES = {
    "docker": "docker",
    "cri-containerd": "containerd",
    "containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "crio",
    "libpod": "podman",
    "libpod-payload": "podman",
}
"""By what stands before the id; monitors (libpod-conmon, crio-conmon) are no containers."""
_PARENTS = {"docker": "docker", "default": "containerd", "k8s.io": "containerd", "libpod_parent": "podman"}
"""By the folder of a bare id."""
_PEOPLE = re.compile(
    "anacron|atd|autovt|condor|console-getty|crond?|gdm3?|getty|lightdm|lsfd|pbs|sddm|serial-getty|slurmd|sshd?"
    "|systemd-logind|user|vncserver|xdm|xrdp|xrdp-sesman"
)
"""Services within which people's own processes run; those are told by user and command."""


class Place(NamedTuple):
    """Where a process belongs; what does not apply is empty.

    `job` is a Slurm job's number, or its SLUID where Slurm names folders so; `step` is a number, batch,
    extern or interactive. `pod` is a pod's UID; of a static one, the hash that the kubelet uses. `unit` and
    `slice` are systemd's; of a person's own service, `slice` is that person's.
    """

    job: str = ""
    step: str = ""
    pod: str = ""
    container: str = ""
    runtime: str = ""
    unit: str = ""
    slice: str = ""


def place_of(text: str) -> Place:
    """Tell where a process belongs by the text of its cgroup file, of whichever version."""
    return _read(text) if len(text) > LONGEST_REMEMBERED else _remembered(text)


def _read(text: str) -> Place:
    paths: dict[str, bool] = {}
    for line in text[:LONGEST_TEXT].split("\n"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if path.startswith("/"):
            paths[path] = paths.get(path, False) or controllers in {"", "name=systemd"}
    # systemd's own tree comes first: version 1 may keep units out of the others
    return _merged([_place_on(path) for path in sorted(paths, key=lambda path: not paths[path])])


_remembered = lru_cache(maxsize=512)(_read)
"""The processes of a container share one text, and all are read again and again."""


def keys_of(place: Place) -> tuple[str, ...]:
    """Give the keys that worlds name claimants by; the first that is known wins."""
    named = (("slurm", place.job), ("pod", place.pod), ("container", place.container))
    return tuple(f"{kind}:{name}" for kind, name in named if name)


def claimant_of(place: Place, user: str, command: str) -> Claimant:
    """Tell what the path alone tells of who holds something, for when no world names it."""
    user = _printable(user)
    if place.job:
        return Claimant(kind="slurm", name=place.job, user=user)
    if place.pod:
        return Claimant(kind="pod", name=place.pod)
    if place.container:
        return Claimant(kind="container", name=place.container[:SHORT_ID], user=user)
    if _is_service(place):
        return Claimant(kind="unit", name=place.unit, user=user)
    return Claimant(kind="process", name=_printable(command).strip() or "unnamed process", user=user)


def _is_service(place: Place) -> bool:
    """Tell a service of the host from people's sessions and their own services."""
    stem = place.unit.removesuffix(".service").partition("@")[0]
    of_people = _PEOPLE.fullmatch(stem) or _OWN_SLICE.fullmatch(place.slice)
    return place.unit.endswith(".service") and not of_people


def _merged(places: Sequence[Place]) -> Place:
    """Make one of what several trees tell: version 1 has one for each controller, some of them shallow."""
    job = _richest((place.job, place.step) for place in places)
    pod = _richest((place.pod, place.container, place.runtime) for place in places)
    unit = _richest((place.unit, place.slice) for place in places)
    return Place(*(job or ("", "")), *(pod or ("", "", "")), *(unit or ("", "")))


def _richest(told: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Give the first that tells most, what stands in front weighing more."""
    return max(told, key=lambda fields: [bool(field) for field in fields], default=())


def _place_on(path: str) -> Place:
    names = _names_on(path.removesuffix(" (deleted)"))
    own = next((at for at, name in enumerate(names) if _OWN_SYSTEMD.fullmatch(name)), len(names))
    job, step = _job_on(names[:own])
    pods = [(at, found[1]) for at, name in enumerate(names[:own]) if (found := _POD.fullmatch(name))]
    at, pod = pods[0] if pods else (-1, "")
    container, runtime = _container_on(names[at:] if pods else names, in_pod=bool(pods))
    unit, folder = _unit_on(names, own)
    return Place(job, step, pod.replace("_", "-"), container, runtime, unit, folder)


def _names_on(path: str) -> list[str]:
    """Split a path into the names of its folders, as systemd and the runtimes meant them."""
    names: list[str] = []
    for escaped in path.split("/"):
        name = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), escaped)
        told = _SPLIT_NAME.fullmatch(name)
        names += (told[1], f"{told[2]}-{told[3]}") if told else (name,)
    return [name for name in names if name not in {"", ".", ".."}]


def _job_on(names: Sequence[str]) -> tuple[str, str]:
    for root, name in enumerate(names):
        if not _SLURM_ROOT.fullmatch(name):
            continue
        told = [name for name in names[root + 1 : root + 4] if not name.startswith("uid_")]
        job = _JOB.fullmatch(told[0]) if told else None
        if job:
            step = _STEP.fullmatch(told[1]) if told[1:] else None
            return job[1] or job[2], step[1] if step else ""
    return "", ""


def _container_on(names: Sequence[str], *, in_pod: bool) -> tuple[str, str]:
    """Find the outermost container; `names` begins with the pod's if there is one."""
    for at, name in enumerate(names):
        prefix, _, told = name.removesuffix(".scope").rpartition("-")
        if not _HEX_ID.fullmatch(told):
            continue
        if prefix in _RUNTIMES:
            return told, _RUNTIMES[prefix]
        parent = names[at - 1] if at else ""
        trusted = len(told) == _FULL_ID or parent in _PARENTS or (in_pod and at == 1)
        if told == name and trusted:
            return told, _PARENTS.get(parent, "")
    return "", ""


def _unit_on(names: Sequence[str], own: int) -> tuple[str, str]:
    """Find unit and slice; of what a person's own systemd runs, that person's slice."""
    units = [at for at, name in enumerate(names) if name.endswith((".service", ".scope"))]
    slices = [name for name in names[: units[0] if units else len(names)] if name.endswith(".slice")]
    unit, folder = names[units[0]] if units else "", slices[-1] if slices else ""
    if units[:1] == [own]:
        folder = _OWN_SYSTEMD.sub(r"user-\1.slice", unit)
        unit = names[units[1]] if units[1:] else unit
    # systemd puts _ in front of what would look like the kernel's own
    return _printable(unit.removeprefix("_")), _printable(folder)


def _printable(text: str) -> str:
    return _HOSTILE.sub("?", text[:LONGEST_NAME])
