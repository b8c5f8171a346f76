"""Many figures of one GPU in one driver call: nvmlDeviceGetFieldValues, read as a whole.

A quantity names the fields that can tell it, best first; what the driver refuses for good is not asked again.
Field numbers, units and scopes are those of nvml.h.
"""

import struct
import sys
from collections.abc import Callable, Hashable, Mapping
from ctypes import byref, c_int32, c_ubyte
from math import isfinite, nan
from typing import Generic, NamedTuple, TypeVar

from agent.nvml import INVALID_ARGUMENT, LASTING, UNKNOWN_IN_A_ROW, Caller, FieldValue, GpuGone
from agent.sanity import SENTINEL, believed
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
        self._asked = [(key, _quantity(key), choices[0]) for key, choices in self._open.items() if choices]
        self._values = (FieldValue * len(self._asked))()
        self._bytes = (c_ubyte * (len(self._asked) * _FIELD.size)).from_buffer(self._values)
        for place, (_, _, field) in enumerate(self._asked):
            self._values[place].fieldId = field.number
            self._values[place].scopeId = field.scope

    def tells(self, key: K) -> bool:
        """Tell whether a figure is still to be had, as far as is known."""
        return bool(self._open.get(key)) and self._what not in self._caller.refused

    def read(self) -> dict[K, float]:
        """Read all at once; what has no value is left out. Raises GpuGone, NvmlUnavailable."""
        values: dict[K, float] = {}
        again = True
        while again and self._asked:
            arguments = c_int32(len(self._asked)), byref(self._values)
            again = self._caller.ask(self._what, "nvmlDeviceGetFieldValues", *arguments) and self._take(
                values
            )
        return values

    def _take(self, values: dict[K, float]) -> bool:
        """Take what the driver filled in; True when something else is to be asked now instead."""
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
        return bool(refused) and self._give_up(refused, values)

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
