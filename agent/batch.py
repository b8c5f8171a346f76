"""Many figures of one GPU in one driver call: nvmlDeviceGetFieldValues, read as a whole.

A quantity names the fields that can tell it, best first; what the driver refuses for good is not asked again.
Field numbers, units and scopes are those of nvml.h.
"""

import struct
import sys
from collections.abc import Callable, Hashable, Mapping
from ctypes import Array, byref, c_int32, c_ubyte
from math import isfinite, nan, nextafter
from typing import Generic, NamedTuple, TypeVar

from agent.nvml import INVALID_ARGUMENT, LASTING, UNKNOWN_IN_A_ROW, Caller, FieldValue, GpuGone
from agent.sanity import BOUNDS, SENTINEL, believed
from agent.tick import Condition

ALL_LINKS = 0xFFFFFFFF
_FIELD = struct.Struct("IIqqiiQ")
"""nvmlFieldValue_t: id, scope, timestamp, latency, type, return code, value. Read as a whole, since each
attribute of a ctypes struct costs as much as all seven numbers here."""
_UNSIGNED_INT, _UNSIGNED_LONG_LONG = 1, 3
_ALL_ONES = 0xFFFFFFFF
_UNKNOWN = 999
_NO_SUCH_FIELD = (INVALID_ARGUMENT, _UNKNOWN)
"""What some drivers answer to a field that they do not know; of one that was ever told it means a failure."""
K = TypeVar("K", bound=Hashable)
_AS = {0: "d", 1: "I", 2: "L", 3: "Q", 4: "q", 5: "i", 6: "H"}
"""How nvmlValueType_t lies in the eight bytes of a value."""
_BEFORE_TYPE = "24x"
_LARGEST = nextafter(SENTINEL, 0.0)


class Field(NamedTuple):
    """A field of the driver, and what its number is worth in the base unit: a factor, or a function."""

    number: int
    scale: float = 1.0
    scope: int = 0
    decode: Callable[[float], float] | None = None


class Batch(Generic[K]):
    """A list of figures, each with the fields that can tell it; `read` gives what the driver tells.

    A key is the name of a quantity, or a tuple that begins with it.
    """

    def __init__(self, what: str, caller: Caller, wanted: Mapping[K, tuple[Field, ...]]) -> None:
        self._what = what
        self._caller = caller
        self._open = {key: list(choices) for key, choices in wanted.items()}
        self._told: set[K] = set()
        self._unknown = 0
        self._arrange()

    def _arrange(self) -> None:
        self._usual: _Usual[K] | None = None
        self._asked = [(key, _quantity(key), choices[0]) for key, choices in self._open.items() if choices]
        self._values = (FieldValue * len(self._asked))()
        self._bytes = (c_ubyte * (len(self._asked) * _FIELD.size)).from_buffer(self._values)
        arguments = c_int32(len(self._asked)), byref(self._values)
        self._ask = self._caller.prepare(self._what, "nvmlDeviceGetFieldValues", *arguments)
        for place, (_, _, field) in enumerate(self._asked):
            self._values[place].fieldId = field.number
            self._values[place].scopeId = field.scope

    def tells(self, key: K) -> bool:
        """Tell whether a figure is still to be had, as far as is known."""
        return bool(self._open.get(key)) and self._what not in self._caller.refused

    def read(self) -> dict[K, float]:
        """Read all at once; what has no value is left out. Raises GpuGone, NvmlUnavailable."""
        values: dict[K, float] = {}
        while self._asked and self._ask() and self._take(values):
            pass
        return values

    def _take(self, values: dict[K, float]) -> bool:
        """Take what the driver filled in; True when something else is to be asked now instead."""
        if self._usual and self._usual.take(self._bytes, values):
            return False
        refused: list[tuple[K, str]] = []
        answers = list(_FIELD.iter_unpack(self._bytes))
        if answers[0][5] == _UNKNOWN and all(answer[5] == _UNKNOWN for answer in answers):
            self._fail()
            return False
        self._unknown = 0
        for (key, quantity, field), (_, _, _, _, kind, code, value) in zip(self._asked, answers, strict=True):
            if not code:
                self._told.add(key)
                known = kind == _UNSIGNED_LONG_LONG and value < SENTINEL
                number = _worth(field, value if known else _number(kind, value))
                if believed(quantity, number):
                    values[key] = number
                else:
                    self._caller.nvml.failed(self._caller.uuid, quantity, "impossible")
            elif code in LASTING or (code in _NO_SUCH_FIELD and key not in self._told):
                refused.append((key, LASTING.get(code, "unsupported")))
            elif code == _UNKNOWN:
                self._caller.nvml.failed(self._caller.uuid, quantity, "failed")
            else:
                self._caller.sort(quantity, code)
        if refused:
            return self._give_up(refused, values)
        self._usual = _usual(self._asked, answers)
        return False

    def _fail(self) -> None:
        """Count that every entry was an "unknown error": the same as if the call had been."""
        self._caller.nvml.failed(self._caller.uuid, self._what, "failed")
        self._unknown += 1
        if self._unknown >= UNKNOWN_IN_A_ROW:
            raise GpuGone(Condition.LOST)

    def _give_up(self, refused: list[tuple[K, str]], values: dict[K, float]) -> bool:
        """Go over to the next choice of each figure that was refused; True when there is one."""
        for key, _ in refused:
            del self._open[key][0]
        still = {_quantity(key) for key, choices in self._open.items() if choices}
        for key, reason in refused:
            if _quantity(key) not in still:
                self._caller.refuse(_quantity(key), reason)
        self._arrange()
        return any(self._open[key] and key not in values for key, _ in refused)


_Row = tuple[K, float, Callable[[float], float] | None, float, float]


class _Usual(Generic[K]):
    """What a batch answers nearly always, read in one go: each entry of the type it had, none refused.

    A row is a key, what its number is worth, and the least and largest that is believed: of raw numbers for a
    factor, of decoded ones for a function.
    """

    def __init__(self, kinds: tuple[int, ...], rows: list["_Row[K]"]) -> None:
        self._kinds = kinds
        self._rows = rows
        self._form = struct.Struct("".join(f"{_BEFORE_TYPE}Q{_AS[kind]}0Q" for kind in kinds))

    def take(self, answered: "Array[c_ubyte]", values: dict[K, float]) -> bool:
        """Take all values, or none when anything is not as usual."""
        told = self._form.unpack(answered)
        if told[::2] != self._kinds:
            return False
        found = {}
        for (key, scale, decode, least, most), raw in zip(self._rows, told[1::2], strict=True):
            number = raw if decode is None else decode(raw)
            if not least <= number <= most:
                return False
            found[key] = number * scale
        values.update(found)
        return True


def _usual(
    asked: list[tuple[K, str, Field]], answers: list[tuple[int, int, int, int, int, int, int]]
) -> _Usual[K] | None:
    """Remember how a batch answered; None unless every entry has a value of a known type."""
    if any(code or kind not in _AS for *_, kind, code, _ in answers):
        return None
    rows: list[_Row[K]] = []
    for (key, quantity, field), answer in zip(asked, answers, strict=True):
        known = _ALL_ONES - 1 if answer[4] == _UNSIGNED_INT else _LARGEST
        decode = _guarded(field.decode, known) if field.decode else None
        scale = 1.0 if decode else field.scale
        least, most = (bound / scale for bound in BOUNDS[quantity])
        rows.append((key, scale, decode, least, min(most, known)))
    return _Usual(tuple(answer[4] for answer in answers), rows)


def _guarded(decode: Callable[[float], float], known: float) -> Callable[[float], float]:
    return lambda raw: decode(raw) if raw <= known else nan


def _quantity(key: object) -> str:
    return str(key[0] if isinstance(key, tuple) else key)


def _worth(field: Field, number: float) -> float:
    return field.decode(number) if field.decode and isfinite(number) else number * field.scale


def _number(kind: int, value: int) -> float:
    """Read a value by its type; what has no type we know, and an all-ones word, is not a number."""
    if kind not in _AS or (kind == _UNSIGNED_INT and value & _ALL_ONES == _ALL_ONES):
        return nan
    number: float = struct.unpack_from(_AS[kind], value.to_bytes(8, sys.byteorder))[0]
    return number if number < SENTINEL else nan
