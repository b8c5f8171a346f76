"""Reads Slurm's lists of hosts, of numbers and of GPUs, and finds the GPU behind one of its indexes.

Slurm counts the GPUs of a node by type in the order of the node's `Gres`, within a type in the order of
gres.conf. That is neither NVML's order nor that of the device files, and a job's own CUDA_VISIBLE_DEVICES
is nothing of all that.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agent.tick import Gpu

MOST_INDEXES = 1024
"""No node has more GPUs; what counts further is not believed."""
ON_GPUS = ("gpu", "shard", "mps")
"""Kinds of resources whose indexes are those of GPUs."""

_ENTRY = re.compile(r"(?:^|,)([a-z_]+)(?::([^:(),=]+))?:(\d{1,9})(?:\(([^)]*)\))?(?=,|$)")
_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
_PARTS = re.compile(r"(?:[^,\[\]]|\[[^\]]*\])+")
_DEVICE = re.compile(r"/nvidia(\d{1,4})$")
_SETTING = re.compile(r"([A-Za-z]+)\s*=\s*(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gres:
    """GPUs in one of Slurm's texts: the order of their types, how many, and which where the text tells.

    `shared` says that parts of GPUs are counted as well, as shards or for MPS.
    """

    types: tuple[str, ...] = ()
    count: int = 0
    indexes: frozenset[int] | None = None
    shared: bool = False


class Device(NamedTuple):
    """A line's worth of gres.conf: a type, and the minor number of its file; empty for a MIG slice."""

    type: str
    minor: str


def includes(hosts: str, name: str) -> bool:
    """Say whether a list like `n[1-3,07-09]a,m` names a host."""
    return any(_fits(one, name) for one in _PARTS.findall(hosts))


def _fits(pattern: str, name: str) -> bool:
    pieces = re.split(r"\[([^\]]*)\]", pattern)
    shape = "".join(r"(\d{1,9})" if at % 2 else re.escape(piece) for at, piece in enumerate(pieces))
    found = re.fullmatch(shape, name)
    return bool(found) and all(
        any(_within(digits, part) for part in ranges.split(","))
        for digits, ranges in zip(found.groups() if found else (), pieces[1::2], strict=True)
    )


def _within(digits: str, part: str) -> bool:
    found = _RANGE.fullmatch(part)
    if not found:
        return False
    first, last = found[1], found[2] or found[1]
    return int(first) <= int(digits) <= int(last) and digits == str(int(digits)).zfill(len(first))


def indexes_of(text: str) -> tuple[int, ...]:
    """Read numbers like `0-1,3`, in their order; what is none is left out."""
    found: list[int] = []
    for part in text.split(","):
        one = _RANGE.fullmatch(part.strip())
        if one and int(one[2] or one[1]) < MOST_INDEXES:
            found += range(int(one[1]), int(one[2] or one[1]) + 1)
    return tuple(found[:MOST_INDEXES])


def gres_of(text: str) -> Gres:
    """Read the GPUs of a text like `gpu:a100:2(IDX:0-1),shard:4(0/4,4/4)`."""
    types: list[str] = []
    count, shared, told = 0, False, True
    indexes: set[int] = set()
    for kind, type_, number, inside in _ENTRY.findall(text):
        if kind not in ON_GPUS:
            continue
        amount = int(number)
        if kind == "gpu":
            types.append(type_)
            count += amount
        shared |= kind != "gpu" and amount > 0
        which = _which(inside)
        told &= which is not None or not amount
        indexes.update(which or ())
    return Gres(types=tuple(types), count=count, indexes=frozenset(indexes) if told else None, shared=shared)


def _which(inside: str) -> tuple[int, ...] | None:
    """Read `IDX:0-1`, or `0/4,4/4` of GPUs that are given out in parts; None when nothing tells which."""
    if inside.startswith("IDX:"):
        return indexes_of(inside[4:])
    if "/" in inside:
        return tuple(at for at, part in enumerate(inside.split(",")) if part.partition("/")[0].strip("0"))
    return None


def devices_of(text: str, node: str) -> tuple[Device, ...]:
    """Read which device files gres.conf names as GPUs of a node, in its order."""
    found: list[Device] = []
    for line in text.replace("\\\n", " ").split("\n"):
        told = {key.lower(): value for key, value in _SETTING.findall(line.partition("#")[0])}
        if told.get("name", "").lower() != "gpu" or not includes(told.get("nodename", node), node):
            continue
        kind = told.get("type", "")
        if "multiplefiles" in told:
            found.append(Device(kind, ""))
        for path in _expanded(told.get("file", "")):
            minor = _DEVICE.search(path)
            found.append(Device(kind, minor[1].lstrip("0") or "0") if minor else Device(kind, ""))
    return tuple(found[:MOST_INDEXES])


def _expanded(files: str) -> Iterator[str]:
    for one in _PARTS.findall(files):
        before, bracket, rest = one.partition("[")
        inside, _, after = rest.partition("]")
        if bracket:
            yield from (f"{before}{index}{after}" for index in indexes_of(inside))
        else:
            yield one


def places(gpus: Sequence[Gpu], types: Sequence[str], devices: Sequence[Device]) -> Mapping[int, str]:
    """Tell the UUID of the GPU behind each of Slurm's indexes, as far as that is certain.

    `types` is the order of the node's `Gres`; `devices` are those of gres.conf, empty where they are found by
    Slurm itself: then minor numbers order GPUs of one type.
    """
    order = {kind: at for at, kind in reversed(tuple(enumerate(types)))}
    if devices:
        uuids = {_minor(gpu): gpu.uuid for gpu in gpus}
        ordered = sorted(devices, key=lambda device: order.get(device.type, len(order)))
        found = {at: uuids.get(int(device.minor)) for at, device in enumerate(ordered) if device.minor}
        return {at: uuid for at, uuid in found.items() if uuid}
    ranks = {gpu.uuid: _rank(gpu, types) for gpu in gpus} if len(order) > 1 else {}
    if None in ranks.values():
        return {}
    by_minor = sorted(gpus, key=lambda gpu: (ranks.get(gpu.uuid) or 0, _minor(gpu)))
    return {at: gpu.uuid for at, gpu in enumerate(by_minor)}


def _rank(gpu: Gpu, types: Sequence[str]) -> int | None:
    """Slurm names a GPU that it found by its model in small letters, or by a part of that."""
    model = gpu.model.lower().replace(" ", "_")
    return next((at for at, kind in enumerate(types) if kind and kind.lower() in model), None)


def _minor(gpu: Gpu) -> int:
    return int(gpu.minor) if gpu.minor.isascii() and gpu.minor.isdigit() else gpu.index
