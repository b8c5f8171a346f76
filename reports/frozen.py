"""Values of ours as JSON and back: frozen dataclasses, named tuples, tables, by their annotations.

Nothing but the types that an annotation names is ever made, so that a file from elsewhere can make no other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Json = Any


def frozen(value: object) -> Json:
    """Turn a value into what JSON can hold; tables become lists of pairs: their keys may be of any type."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: frozen(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return [[frozen(key), frozen(one)] for key, one in value.items()]
    if isinstance(value, (tuple, list, frozenset)):
        return [frozen(one) for one in value]
    return value


def thawed(told: Json, kind: Any) -> Any:  # noqa: ANN401, C901, PLR0911  one line for each kind of type
    """Turn JSON back into a value of a type. Raises ValueError, TypeError, LookupError for what is none."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if told is None and NoneType in inner:
            return None
        (other,) = (one for one in inner if one is not NoneType)
        return thawed(told, other)
    if origin is Literal:
        return inner[inner.index(told)]
    if origin is tuple:
        if len(inner) == 2 and inner[1] is Ellipsis:  # noqa: PLR2004
            return tuple(thawed(one, inner[0]) for one in told)
        return tuple(thawed(one, each) for one, each in zip(told, inner, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {thawed(key, inner[0]): thawed(one, inner[1]) for key, one in told}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return [thawed(one, inner[0]) for one in told]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(told)
    if is_dataclass(kind) and isinstance(kind, type):
        return kind(**{name: thawed(told[name], each) for name, each in _hints(kind).items() if name in told})
    if isinstance(kind, type) and issubclass(kind, tuple):
        hints = _hints(kind)
        return kind(*(thawed(one, each) for one, each in zip(told, hints.values(), strict=True)))
    return _plain(told, kind)


def _plain(told: Json, kind: Any) -> Any:  # noqa: ANN401
    if kind is float and isinstance(told, int) and not isinstance(told, bool):
        return float(told)
    if kind not in (str, int, float, bool) or type(told) is not kind:
        raise TypeError(f"{told!r:.60} is no {kind}")
    return told


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    hints = get_type_hints(kind)
    names = [one.name for one in fields(kind)] if is_dataclass(kind) else kind._fields  # type: ignore[attr-defined]
    return {name: hints[name] for name in names}
