"""Counters that only grow, whatever happens to those of the driver.

The driver counts anew when it is loaded, when a GPU is reset, when a host is booted. Here each counter of
each GPU goes on from where it stood: the total is the driver's number and what was counted before it began
anew. What happened between the last look and the reset is lost; the total is a lower bound then, and never
goes down.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf, nextafter
from operator import attrgetter
from typing import NamedTuple

from agent.pieces import PARTS
from agent.quantities import QUANTITIES, Origin
from agent.tick import Part, Reading

ORIGINS: Mapping[str, Origin] = {
    name: metric.origin for name, metric in QUANTITIES.items() if metric.kind == "counter"
}
_NAMES = tuple(ORIGINS)
_raws_of = attrgetter(*_NAMES)
_WITNESS = _NAMES.index("energy_joules_total")
RESET_BELOW = 0.9
"""A number that is less, but not by much, is no reset but an answer from before: the total stands still."""


class Chain(NamedTuple):
    """What must be remembered of a counter: what was counted before, the last number, and whose it was."""

    base: float
    raw: float
    epoch: str

    @property
    def total(self) -> float:
        """What was counted in all."""
        return self.base + self.raw


class Row(NamedTuple):
    """A chain as the journal keeps it; `name` is a quantity, with the labels of a part behind bars."""

    uuid: str
    name: str
    chain: Chain


class _Even(NamedTuple):
    """A GPU whose driver never began anew, as nearly all: its numbers are the totals."""

    epochs: tuple[str, ...]
    raws: tuple[float | None, ...]


class Lifelong:
    """The counters of all GPUs."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._chains: dict[tuple[str, str], Chain] = {(row.uuid, row.name): row.chain for row in rows}
        self._changed: set[tuple[str, str]] = set()
        self._even: dict[str, _Even] = {}
        self._ahead: set[str] = set()  # GPUs whose even numbers are not in the chains yet
        self._parts: dict[str, tuple[tuple[str, ...], tuple[Part, ...], tuple[Part, ...]]] = {}

    def lift(self, reading: Reading, epochs: Mapping[Origin, str]) -> Reading:
        """Give the reading with totals for counters. `epochs` name whose counting it is, by origin."""
        uuid, raws, whose = reading.uuid, _raws_of(reading), tuple(epochs.values())
        even = self._even.get(uuid)
        lifted: dict[str, float] = {}
        anew = False
        if even and even.epochs == whose and (even.raws == raws or _go_on(even.raws, raws)):
            self._even[uuid] = _Even(whose, raws)
            self._ahead.add(uuid)
        else:
            self._catch_up(uuid)
            anew = self._counts_anew(uuid, raws[_WITNESS])
            lifted = self._lift_all(uuid, raws, epochs, anew=anew)
            self._even.pop(uuid, None)
            if not lifted and all(self._is_even((uuid, name)) for name in _NAMES):
                self._even[uuid] = _Even(whose, raws)
        parts = reading.parts and self._lift_parts(uuid, reading.parts, epochs, anew=anew)
        if not lifted and parts is reading.parts:
            return reading
        return replace(reading, parts=parts, **lifted)  # type: ignore[arg-type]

    def _lift_all(
        self, uuid: str, raws: Sequence[float | None], epochs: Mapping[Origin, str], *, anew: bool
    ) -> dict[str, float]:
        """Go on with every counter; give the totals that are not the driver's numbers."""
        lifted: dict[str, float] = {}
        for name, raw in zip(_NAMES, raws, strict=True):
            if raw is not None:
                origin = ORIGINS[name]
                total = self._total((uuid, name), raw, epochs[origin], origin, anew=anew)
                if total != raw:
                    lifted[name] = total
        return lifted

    def _is_even(self, key: tuple[str, str]) -> bool:
        chain = self._chains.get(key)
        return chain is None or chain.base == 0

    def _catch_up(self, uuid: str) -> None:
        """Bring the chains to where the even numbers are."""
        even = self._even.get(uuid)
        if even is None or uuid not in self._ahead:
            return
        self._ahead.discard(uuid)
        for name, raw in zip(_NAMES, even.raws, strict=True):
            key = uuid, name
            if raw is not None and self._chains[key].raw != raw:
                self._chains[key] = self._chains[key]._replace(raw=raw)
                self._changed.add(key)

    def _catch_up_all(self) -> None:
        for uuid in list(self._ahead):
            self._catch_up(uuid)

    def _lift_parts(
        self, uuid: str, parts: tuple[Part, ...], epochs: Mapping[Origin, str], *, anew: bool
    ) -> tuple[Part, ...]:
        """Go on with the counters of parts; they hardly ever change, and then nothing is to be done."""
        whose = tuple(epochs.values())
        known = self._parts.get(uuid)
        if known is None or anew or known[0] != whose or known[1] != parts:
            lifted = tuple(self._lift_part(uuid, part, epochs, anew=anew) for part in parts)
            known = self._parts[uuid] = whose, parts, parts if lifted == parts else lifted
        return parts if known[2] is known[1] else known[2]

    def _counts_anew(self, uuid: str, joules: float | None) -> bool:
        """Tell whether the driver counts anew: energy never goes back otherwise, and is never still."""
        chain = self._chains.get((uuid, "energy_joules_total"))
        return joules is not None and chain is not None and joules < RESET_BELOW * chain.raw

    def _lift_part(self, uuid: str, part: Part, epochs: Mapping[Origin, str], *, anew: bool) -> Part:
        if PARTS[part.quantity].kind != "counter":
            return part
        origin: Origin = "device" if "aggregate" in part.labels else PARTS[part.quantity].origin
        key = uuid, "|".join((part.quantity, *part.labels))
        total = self._total(key, part.value, epochs[origin], origin, anew=anew)
        return part if total == part.value else part._replace(value=total)

    def _total(self, key: tuple[str, str], raw: float, epoch: str, origin: Origin, *, anew: bool) -> float:
        chain = self._chains.get(key)
        if chain is None:
            chain = Chain(0.0, raw, epoch)
        elif origin == "device":
            # An administrator may clear what the board keeps; nothing new happened then.
            base = chain.base if raw >= chain.raw else chain.total - raw
            while base + raw < chain.total:  # rounding must not take any back
                base = nextafter(base, inf)
            chain = Chain(base, raw, epoch)
        elif epoch != chain.epoch or (anew and origin == "driver") or raw < RESET_BELOW * chain.raw:
            chain = Chain(chain.total, raw, epoch)
        elif raw < chain.raw:
            return chain.total
        else:
            chain = Chain(chain.base, raw, epoch)
        if self._chains.get(key) != chain:
            self._chains[key] = chain
            self._changed.add(key)
        return chain.total

    def changed(self) -> list[Row]:
        """Give the rows that the journal does not hold yet."""
        self._catch_up_all()
        return [Row(uuid, name, self._chains[uuid, name]) for uuid, name in sorted(self._changed)]

    def all(self) -> list[Row]:
        """Give every row, for a journal that begins anew."""
        self._catch_up_all()
        return [Row(uuid, name, chain) for (uuid, name), chain in self._chains.items()]

    def saved(self) -> None:
        """Note that the journal holds all."""
        self._changed.clear()


def _go_on(olds: Sequence[float | None], news: Sequence[float | None]) -> bool:
    """Tell whether every counter is told as before, and none went back."""
    return all(
        new >= old if new is not None and old is not None else new is old
        for old, new in zip(olds, news, strict=True)
    )
