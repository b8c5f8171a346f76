"""Puts together who holds each GPU: what schedulers gave, and whom the processes on it belong to.

1. Whoever a scheduler gave a GPU or slice holds it, whether anything runs there or not.
2. A process belongs to the first of its keys that a world names: job, pod, container. A process in a pod that
   nobody can name, on a GPU that one pod of unknown UID was given, is that pod's; a process that cannot be
   looked at, on a GPU that was given to one holder, is that holder's.
3. Else its place on the host tells: number of the job, service, or user and command.

So a process of the job that was given the GPU adds nothing but its share, and anybody else's process makes a
holder of its own. Shares are those of the multiprocessors, as the driver samples them for each process.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.holders.cgroups import claimant_of, keys_of
from agent.holders.contract import Answer, Claimant, Question, SliceOf
from agent.holders.owners import Owners
from agent.holders.processes import Seen
from agent.states import at_work
from agent.tick import Gpu, Hold, Holder, Process, Reading

HIDDEN = Claimant(kind="process", name="process that is gone or hidden")
SETTLE_SECONDS = 1.0
"""How long the first interval, and no other, waits for each world."""
_POD = "pod:"


class Source(Protocol):
    """What answers for a world; agent.holders.lookout.Lookout."""

    name: str

    def put(self, question: Question) -> None:
        """Take the latest question."""

    def settle(self, seconds: float) -> None:
        """Wait for the first answer."""

    def answer(self) -> Answer:
        """Give what is known, at once."""

    def close(self) -> None:
        """End."""


class Asked(Protocol):
    """What names processes; agent.holders.processes.People."""

    def resolve(self, pids: Iterable[int]) -> Mapping[int, Seen | None]:
        """Give what is known of pids, soon."""

    def close(self) -> None:
        """End."""


@dataclass(slots=True)
class _Claim:
    """One claimant on a GPU or slice: what its processes had of the multiprocessors and of the memory."""

    claimant: Claimant
    slice: str
    given: bool
    share: float | None = None
    memory_bytes: int | None = None

    def add(self, process: Process) -> None:
        if process.sm_ratio is not None:
            self.share = (self.share or 0.0) + process.sm_ratio
        if process.memory_used_bytes is not None:
            self.memory_bytes = (self.memory_bytes or 0) + process.memory_used_bytes


_Claims = dict[tuple[str, str, str, str], _Claim]


def _claim(claims: _Claims, one: Claimant, piece: str, *, given: bool = False) -> _Claim:
    """Find a claim by kind, name and slice, or make it; several users may run the same command."""
    key = one.kind, one.name, one.user if one.kind == "process" else "", piece
    if key not in claims:
        claims[key] = _Claim(one, piece, given)
    return claims[key]


class Holders:
    """Names the holders of a node's GPUs, tick by tick, without waiting for any world."""

    def __init__(self, people: Asked, sources: Sequence[Source], owners: Owners) -> None:
        self._people = people
        self._sources = sources
        self._owners = owners
        self._known: dict[Claimant, Holder] = {}
        self._settled = False
        self.drained = ""
        self.troubles: Mapping[str, str] = {source.name: "" for source in sources}

    @property
    def folded(self) -> int:
        """How many owners were folded into one, because there are too many."""
        return self._owners.folded

    def expect(self, gpus: Iterable[Gpu]) -> None:
        """Ask all worlds about GPUs that will be read, so that the first interval finds answers."""
        for source in self._sources:
            source.put(Question(gpus=tuple(gpus)))

    def holds(self, readings: Iterable[Reading], gpus: Mapping[str, Gpu]) -> Mapping[str, tuple[Hold, ...]]:
        """Give the holds by UUID of every GPU that somebody holds."""
        readings = tuple(readings)
        working = {reading.uuid: at_work(reading) for reading in readings}
        seen = self._people.resolve({one.pid for several in working.values() for one in several})
        answers = self._asked(readings, gpus, seen)
        named = {key: one for answer in answers for key, one in answer.named.items()}
        self.drained = next((answer.drained for answer in answers if answer.drained), "")
        self.troubles = {
            source.name: answer.trouble for source, answer in zip(self._sources, answers, strict=True)
        }
        before, self._known = self._known, {}
        found = {}
        for reading in readings:
            claims: _Claims = {}
            for answer in answers:
                _give(claims, reading, answer)
            for process in working[reading.uuid]:
                _claim(claims, _belongs(process, seen, named, claims), process.slice).add(process)
            if claims:
                found[reading.uuid] = self._holds(tuple(claims.values()), before)
        return found

    def _asked(
        self, readings: Sequence[Reading], gpus: Mapping[str, Gpu], seen: Mapping[int, Seen | None]
    ) -> list[Answer]:
        question = Question(
            gpus=tuple(gpus[reading.uuid] for reading in readings if reading.uuid in gpus),
            slices=tuple(
                SliceOf(piece.uuid, reading.uuid, piece.profile)
                for reading in readings
                for piece in reading.slices or ()
            ),
            keys=frozenset(key for one in seen.values() if one for key in keys_of(one.place)),
        )
        for source in self._sources:
            source.put(question)
            if not self._settled:  # else whoever runs nothing would seem to let go for an interval
                source.settle(SETTLE_SECONDS)
        self._settled = True
        return [source.answer() for source in self._sources]

    def _holds(self, claims: Sequence[_Claim], before: Mapping[Claimant, Holder]) -> tuple[Hold, ...]:
        """Make holds of claims; where nothing was sampled on a slice or GPU, shares are not known."""
        sampled = {one.slice for one in claims if one.share}
        holds: dict[tuple[Holder, str], Hold] = {}
        for one in claims:
            holder = self._holder(one.claimant, before)
            share = (one.share or 0.0) if one.slice in sampled else None
            hold = Hold(holder, share, one.slice, one.memory_bytes)
            same = holds.get((holder, one.slice))
            holds[holder, one.slice] = _both(same, hold) if same else hold
        return tuple(holds.values())

    def _holder(self, one: Claimant, before: Mapping[Claimant, Holder]) -> Holder:
        holder = self._known.get(one) or before.get(one) or self._owners.holder_of(one)
        self._known[one] = holder
        return holder

    def close(self) -> None:
        """End all threads."""
        self._people.close()
        for source in self._sources:
            source.close()


def _both(one: Hold, other: Hold) -> Hold:
    """Add two holds of one holder, whose claimants its names do not tell apart."""
    share = None if one.share is None else one.share + (other.share or 0.0)
    known = [hold.memory_used_bytes for hold in (one, other) if hold.memory_used_bytes is not None]
    return one._replace(share=share, memory_used_bytes=sum(known) if known else None)


def _give(claims: _Claims, reading: Reading, answer: Answer) -> None:
    for one in answer.given.get(reading.uuid, ()):
        _claim(claims, one, "", given=True)
    for piece in reading.slices or ():
        for one in answer.given.get(piece.uuid, ()):
            _claim(claims, one, piece.uuid, given=True)


def _belongs(
    process: Process, seen: Mapping[int, Seen | None], named: Mapping[str, Claimant], claims: _Claims
) -> Claimant:
    """Tell whose a process is."""
    one = seen.get(process.pid)
    given = [
        claim.claimant for claim in claims.values() if claim.given and claim.slice in ("", process.slice)
    ]
    if one is None:
        return given[0] if len(given) == 1 else HIDDEN
    keys = keys_of(one.place)
    for key in keys:
        if key in named:
            return named[key]
    if keys and keys[0].startswith(_POD):
        pods = [known for known in given if known.kind == "pod" and known not in named.values()]
        if len(pods) == 1:
            return pods[0]
    return claimant_of(one.place, one.user, one.command)
