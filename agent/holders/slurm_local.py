"""Finds Slurm's jobs on this node without asking anybody: by folders of cgroups and by sockets of steps.

Reads no more than names of folders and lists of devices; whatever cannot be read tells nothing.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONTROLLERS = ("devices", "cpuset", "freezer", "memory")
"""Trees of version 1 in which Slurm may keep folders; the first tells of devices."""
MOST_FOLDERS = 20_000
MOST_LIST_BYTES = 1 << 16
NVIDIA_MAJOR = 195
MOST_MINOR = 253
"""Higher ones are no GPUs but the driver's own devices."""

_FOLDER = re.compile(r"job_(\d{1,20})|(s[0-9A-HJKMNP-TV-Z]{13})")
_PERSON = re.compile(r"uid_(\d{1,10})")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalJob:
    """A trace of a job on this node; `uid` and the folder `devices` where version 1 tells them."""

    uid: str = ""
    devices: str = ""


def jobs_in_cgroups(root: Path, node: str) -> dict[str, LocalJob]:
    """Tell the jobs that have folders, by number or SLUID, the layouts of all versions taken together."""
    found: dict[str, LocalJob] = {}
    names = ("slurm", f"slurm_{node}", "slurmstepd.scope", f"{node}_slurmstepd.scope")
    for parent in (*CONTROLLERS, "system.slice", ""):
        for name in names:
            for folder, uid in _folders(root / parent / name):
                job = _FOLDER.fullmatch(os.path.basename(folder))  # noqa: PTH119  may be many
                if job:
                    devices = folder if parent == "devices" else ""
                    found.setdefault(job[1] or job[2], LocalJob(uid=uid, devices=devices))
    return found


def _folders(base: Path) -> Iterator[tuple[str, str]]:
    """Give the folders of jobs, also those in folders of people, and the number of the person."""
    for name in _names(str(base)):
        person = _PERSON.fullmatch(name)
        if not person:
            yield f"{base}/{name}", ""
            continue
        for inner in _names(f"{base}/{name}"):
            yield f"{base}/{name}/{inner}", person[1]


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)[:MOST_FOLDERS]  # noqa: PTH208  names are all that is wanted
    except OSError:
        return []


def jobs_with_sockets(spool: str, node: str) -> set[str]:
    """Tell the jobs whose steps have sockets in slurmd's folder."""
    shape = re.compile(rf"{re.escape(node)}_(\d{{1,20}})\.\d{{1,20}}(?:\.\d{{1,20}})?")
    matches = map(shape.fullmatch, _names(spool) if spool else ())
    return {found[1] for found in matches if found}


def minors_allowed(folder: str) -> frozenset[int] | None:
    """Tell the GPUs whose device files a job may open, by minor number; None where that is not told."""
    try:
        with Path(folder, "devices.list").open(encoding="ascii", errors="replace") as listed:
            lines = listed.read(MOST_LIST_BYTES).split("\n")
    except OSError:
        return None
    found = set()
    for line in lines:
        kind, _, rest = line.partition(" ")
        major, _, minor = rest.partition(" ")[0].partition(":")
        if kind == "a" or (kind == "c" and major in {"*", str(NVIDIA_MAJOR)} and not minor.isdigit()):
            return None
        if kind == "c" and major == str(NVIDIA_MAJOR) and int(minor) <= MOST_MINOR:
            found.add(int(minor))
    return frozenset(found)
