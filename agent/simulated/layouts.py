"""How a simulated GPU may be cut up by MIG.

A layout is written as profiles joined by +, such as `3g.71gb+2g.35gb+1g.18gb`; compute instances that share
a GPU instance, as `1c.3g.71gb+2c.3g.71gb`; `none` is a GPU that may be cut up and is not yet. Each GPU
instance has a constant share of what its GPU does.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import NAMESPACE_OID, uuid5

from agent.simulated.faults import Fault, misfit
from agent.simulated.models import MODELS
from agent.simulated.phases import scatter
from agent.simulated.scenario import Simulation

SLICES = 7
"""Compute slices of a GPU, and so the most MIG devices that it may have."""
MEMORY_SLICES = 8

BUSIEST_SHARE = 1.15
"""The most that an instance does, as a multiple of its GPU's mean: the busiest work keeps 864 of 1000
multiprocessors active, and an instance cannot keep more than it has."""

NOT_TAKEN = 0.03
"""The most of its share that an instance leaves where all could do more."""


class Profile(NamedTuple):
    """A size of GPU instance, in slices of compute and memory."""

    name: str
    slices: int
    memory_slices: int
    multiprocessors: int


def _profiles(multiprocessors: Mapping[int, int], sizes: str) -> dict[str, Profile]:
    """Read names of profiles, each with its slices of memory."""
    profiles = {}
    for written in sizes.split():
        name, _, memory_slices = written.partition("/")
        slices = int(name[0])
        profiles[name] = Profile(name, slices, int(memory_slices), multiprocessors[slices])
    return profiles


_HOPPER = {1: 16, 2: 32, 3: 60, 4: 64, 7: 132}
_AMPERE = {1: 14, 2: 28, 3: 42, 4: 56, 7: 98}
_OF_80 = "1g.10gb/1 1g.20gb/2 2g.20gb/2 3g.40gb/4 4g.40gb/4 7g.80gb/8"
_OF_141 = "1g.18gb/1 1g.35gb/2 2g.35gb/2 3g.71gb/4 4g.71gb/4 7g.141gb/8"

PROFILES: Mapping[str, Mapping[str, Profile]] = {
    MODELS["h200"].name: _profiles(_HOPPER, _OF_141),
    MODELS["h100"].name: _profiles(_HOPPER, _OF_80),
    MODELS["a100"].name: _profiles(_AMPERE, _OF_80),
}
"""Name of a model → the profiles that it can be cut into."""

_WRITTEN = re.compile(r"(?:(\d)c\.)?(\d+g\.\d+gb)(?:\+me)?")
_BETWEEN = re.compile(r"\+(?!me\b)")


class Piece(NamedTuple):
    """One profile of a layout: the slices that compute in it, and whether it may share its GPU instance."""

    written: str
    profile: Profile
    slices: int
    shares: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One MIG device: a compute instance of a GPU instance. `index` leaves holes, as on real GPUs."""

    position: int
    index: int
    gpu_instance: int
    compute_instance: int
    name: str
    uuid: str
    profile: Profile
    slices: int

    @property
    def multiprocessors(self) -> int:
        """Return how many multiprocessors compute for this device."""
        return self.profile.multiprocessors * self.slices // self.profile.slices


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a GPU is cut up for a while. `shares` is by GPU instance; `spell` tells one while from another."""

    spell: int
    instances: tuple[Instance, ...]
    shares: Mapping[int, float]

    def at_index(self, index: int) -> Instance | None:
        """Return the MIG device of an index, if there is one."""
        return next((one for one in self.instances if one.index == index), None)

    def of_process(self, number: int) -> Instance | None:
        """Return where a process runs: the first on the first instance and so on, and round again."""
        return self.instances[number % len(self.instances)] if self.instances else None


def cut(simulation: Simulation, fault: Fault, gpu: int, spell: int) -> Layout:
    """Cut a GPU up as a fault says. Raises SettingsError for what its model cannot be."""
    groups = _groups(_pieces(simulation.model.name, fault))
    profiles = [group[0].profile for group in groups]
    slices = sum(profile.slices for profile in profiles)
    memory_slices = sum(profile.memory_slices for profile in profiles)
    if slices > SLICES or memory_slices > MEMORY_SLICES:
        raise misfit(
            fault.text, f"takes {slices} of {SLICES} slices and {memory_slices} of {MEMORY_SLICES} of memory"
        )
    weights = [profile.slices / SLICES for profile in profiles]
    wishes = [0.5 + scatter(gpu, number) / 2**64 for number in range(len(groups))]
    shares = share_out(weights, wishes)
    return Layout(
        spell=spell,
        instances=tuple(_instances(simulation, fault, gpu, groups)),
        shares=dict(enumerate(shares, start=1)),
    )


def share_out(weights: Sequence[float], wishes: Sequence[float]) -> list[float]:
    """Scale wishes so that, weighted, they sum to 1; what is more than one can take, the others get.

    Where all together cannot take so much, each takes nearly what it can, and no two the same.
    """
    if sum(weights) * BUSIEST_SHARE <= 1:
        return [BUSIEST_SHARE * (1 - NOT_TAKEN * wish / max(wishes)) for wish in wishes]
    shares = [BUSIEST_SHARE] * len(weights)
    left, waiting = 1.0, list(range(len(weights)))
    while waiting:
        scale = left / sum(weights[place] * wishes[place] for place in waiting)
        full = [place for place in waiting if wishes[place] * scale > BUSIEST_SHARE]
        if not full:
            for place in waiting:
                shares[place] = wishes[place] * scale
            break
        left -= sum(weights[place] * BUSIEST_SHARE for place in full)
        waiting = [place for place in waiting if place not in full]
    return shares


def _pieces(model: str, fault: Fault) -> Iterator[Piece]:
    known = PROFILES.get(model)
    if known is None:
        raise misfit(fault.text, f"asks for MIG, which {model} has not")
    for written in _BETWEEN.split(fault.word) if fault.word != "none" else ():
        match = _WRITTEN.fullmatch(written)
        if match is None or match[2] not in known:
            raise misfit(fault.text, f"asks {model} for {written!r}, not for one of {' '.join(known)}")
        profile = known[match[2]]
        slices = int(match[1] or profile.slices)
        if not 1 <= slices <= profile.slices:
            raise misfit(fault.text, f"cannot have {slices} slices in {profile.name}")
        yield Piece(written, profile, slices, bool(match[1]))


def _groups(pieces: Iterator[Piece]) -> list[list[Piece]]:
    """Give compute instances of a kind to one GPU instance as long as they fit into it."""
    groups: list[list[Piece]] = []
    for piece in pieces:
        last = groups[-1] if groups else []
        joins = piece.shares and last and last[0].shares and last[0].profile == piece.profile
        if joins and sum(one.slices for one in last) + piece.slices <= piece.profile.slices:
            last.append(piece)
        else:
            groups.append([piece])
    return groups


def _instances(
    simulation: Simulation, fault: Fault, gpu: int, groups: list[list[Piece]]
) -> Iterator[Instance]:
    position = first = 0
    for gpu_instance, group in enumerate(groups, start=1):
        index = first
        for compute_instance, piece in enumerate(group):
            yield Instance(
                position=position,
                index=index,
                gpu_instance=gpu_instance,
                compute_instance=compute_instance,
                name=f"{simulation.model.name} MIG {piece.written}",
                uuid=f"MIG-{uuid5(NAMESPACE_OID, f'{simulation.uuid(gpu)} {fault.word} {position}')}",
                profile=piece.profile,
                slices=piece.slices,
            )
            position, index = position + 1, index + piece.slices
        first += group[0].profile.slices
