"""What naming holders costs: a node of 8 GPUs with 200 processes on them, among 5 000 on the host."""

import time
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median

from agent.holders.claims import Holders
from agent.holders.owners import OwnerRule, Owners
from agent.holders.processes import People, seen_of
from agent.tick import Gpu, Process, Reading, Workload, reading_of

GPUS, ON_GPUS, ON_HOST = 8, 200, 5_000
REFRESHES = 20
_PLACES = (
    "/system.slice/slurmstepd.scope/job_{n}/step_0/user/task_0",
    "/kubepods.slice/kubepods-pod{n:08d}_aaaa_bbbb_cccc_0123456789ab.slice/cri-containerd-{n:04x}{zeros}.scope",
    "/system.slice/docker-{n:04x}{zeros}.scope",
    "/user.slice/user-1000.slice/session-{n}.scope",
)
RULES = tuple(OwnerRule(kind="slurm", account=f"team{n}-*", owner=f"team {n}") for n in range(50))


def make_host(folder: Path) -> Path:
    """Make a folder that looks like /proc."""
    for pid in range(1, ON_HOST + 1):
        one = folder / str(pid)
        one.mkdir()
        (one / "stat").write_text(f"{pid} (python) S " + " ".join(["0"] * 18) + f" {pid * 7} 0 0")
        (one / "status").write_text("Name:\tpython\nUid:\t0\t0\t0\t0\n")
        place = _PLACES[pid % len(_PLACES)].format(n=pid, zeros="0" * 60)
        (one / "cgroup").write_text(f"0::{place}\n")
        (one / "cmdline").write_bytes(b"python\0train.py\0--seed\0" + str(pid).encode() + b"\0")
    return folder


def refresh_ms(folder: Path) -> tuple[float, float]:
    """Give the processor time of the first refresh, in which all is new, and of a later one, in ms."""
    people = People(partial(seen_of, proc=make_host(folder)))
    holders = Holders(people, (), Owners(RULES, Workload.BATCH, 500))
    gpus = {
        f"GPU-{index}": Gpu(uuid=f"GPU-{index}", index=index, model="NVIDIA H200") for index in range(GPUS)
    }
    readings = [_reading(uuid, index) for index, uuid in enumerate(gpus)]
    try:
        spent = []
        for _ in range(REFRESHES + 1):
            began = time.process_time()
            found = holders.holds(readings, gpus)
            spent.append((time.process_time() - began) * 1000)
        named = set(chain.from_iterable((hold.holder.name for hold in several) for several in found.values()))
        if len(named) < ON_GPUS * 3 // len(_PLACES):
            raise RuntimeError(f"only {len(named)} holders were named")
    finally:
        holders.close()
    return spent[0], median(spent[1:])


def _reading(uuid: str, index: int) -> Reading:
    each = ON_GPUS // GPUS
    processes = tuple(
        Process(pid=1 + index * each + place, memory_used_bytes=2**30, sm_ratio=0.04) for place in range(each)
    )
    return reading_of(uuid, 0, 10_000, {"busy_ratio": 0.9}, processes=processes)
