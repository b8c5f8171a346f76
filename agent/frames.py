"""What the probe says to its parent: frames of four bytes of length, big-endian, and that much JSON.

The figures of a reading stand in it as one text (agent/figures.py), since to write and read a hundred numbers
as JSON would cost more than to ask the driver for them; so does what hardly ever changes, which is then
neither made nor read anew. A frame is a tick, a sign of life, or the sentence that says why NVML cannot be
used. The parent trusts none of it: whatever is not exactly a frame raises FrameError.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, get_args

from agent.errors import FrameError
from agent.figures import Figures, read_numbers, write_numbers
from agent.pieces import SLICE_QUANTITIES
from agent.quantities import QUANTITIES
from agent.tick import (
    Condition,
    Gpu,
    Kind,
    Part,
    Process,
    Reading,
    Refusal,
    Slice,
    Tick,
    Xid,
    check_part,
    reading_of,
    slice_of,
)

LENGTH_BYTES = 4
MAX_BYTES = 8 * 1024 * 1024
_FIGURES, _SLICE_FIGURES = Figures(QUANTITIES), Figures(SLICE_QUANTITIES)
SETS_OF_PARTS = 16
"""The GPUs of a node are alike: one set of parts, or two while some are partitioned."""
GPUS = 64
"""More than a node has: what is told of each hardly ever changes."""
_TICK_NUMBERS = ("start_ms", "end_ms", "since_ms", "driver_calls", "driver_seconds", "late_seconds")


@dataclass(frozen=True, slots=True)
class Alive:
    """The probe polled and goes on."""


@dataclass(frozen=True, slots=True)
class Absent:
    """NVML cannot be used; the probe ends. The sentence says what is missing and what to do."""

    sentence: str


Frame = Tick | Alive | Absent


def encode(frame: Frame) -> bytes:
    """Give the bytes of a frame."""
    match frame:
        case Tick():
            body = _tick(frame)
        case Alive():
            body = {"kind": "alive"}
        case Absent(sentence):
            body = {"kind": "absent", "sentence": sentence}
    data = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    return len(data).to_bytes(LENGTH_BYTES) + data


def _tick(tick: Tick) -> dict[str, Any]:
    return {
        "kind": "tick",
        "node": tick.node,
        **{name: getattr(tick, name) for name in _TICK_NUMBERS},
        "gpus": None if tick.gpus is None else [_gpu_text(gpu) for gpu in tick.gpus],
        "refusals": [list(refusal) for refusal in tick.refusals],
        "xids": [xid._asdict() for xid in tick.xids],
        "readings": [_reading(reading) for reading in tick.readings],
    }


def _reading(reading: Reading) -> dict[str, Any]:
    return {
        "uuid": reading.uuid,
        "condition": reading.condition.value,
        "start_ms": reading.start_ms,
        "end_ms": reading.end_ms,
        "processes": None if reading.processes is None else [_plain(one) for one in reading.processes],
        "parts": None if reading.parts is None else _parts(reading.parts),
        "slices": None if reading.slices is None else [_slice(one) for one in reading.slices],
        "values": _FIGURES.write(vars(reading)),
    }


def _parts(parts: tuple[Part, ...]) -> list[str]:
    """Give what the parts are, which hardly ever changes and is cached, and their figures."""
    return [_keys(tuple([part[:2] for part in parts])), write_numbers([part.value for part in parts])]


@lru_cache(maxsize=SETS_OF_PARTS)
def _keys(keys: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
    return json.dumps(keys, separators=(",", ":"))


@lru_cache(maxsize=GPUS)
def _gpu_text(gpu: Gpu) -> str:
    return json.dumps(_plain(gpu), separators=(",", ":"))


_NAMES = {kind: tuple(field.name for field in fields(kind)) for kind in (Gpu, Process)}


def _plain(one: Gpu | Process) -> dict[str, Any]:
    return {name: getattr(one, name) for name in _NAMES[type(one)]}


def _slice(one: Slice) -> dict[str, Any]:
    return {
        "uuid": one.uuid,
        "profile": one.profile,
        "weight_ratio": one.weight_ratio,
        "values": _SLICE_FIGURES.write(vars(one)),
    }


def decode(data: bytes) -> Frame:
    """Read a frame's body. Raises FrameError for anything else."""
    try:
        body = json.loads(data, parse_constant=_no_number)
        match body["kind"]:
            case "tick":
                return _tick_of(body)
            case "alive":
                return Alive()
            case "absent":
                return Absent(_typed(body["sentence"], str))
            case other:
                raise FrameError(f"a frame of unknown kind {other!r}")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise FrameError(f"a frame that cannot be read: {error!r}") from error


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _typed(value: Any, kind: Any) -> Any:  # noqa: ANN401  whatever JSON held
    """Give a value back. Raises TypeError for another kind, ValueError for what no journal can hold."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no {kind}")
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value!r} is no number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{value!r} is beyond all bounds")
    return value


def _tick_of(body: Mapping[str, Any]) -> Tick:
    start_ms, end_ms = _span(body)
    gpus = body["gpus"]
    return Tick(
        node=_typed(body["node"], str),
        start_ms=start_ms,
        end_ms=end_ms,
        since_ms=_typed(body["since_ms"], int),
        driver_calls=_typed(body["driver_calls"], int),
        driver_seconds=float(_typed(body["driver_seconds"], int | float)),
        late_seconds=float(_typed(body["late_seconds"], int | float)),
        gpus=None if gpus is None else tuple([_gpu(_typed(gpu, str)) for gpu in gpus]),
        refusals=tuple(
            Refusal(_typed(uuid, str), _typed(what, str), _typed(why, str), _typed(times, int))
            for uuid, what, why, times in body["refusals"]
        ),
        xids=tuple(_xid(xid) for xid in body["xids"]),
        readings=tuple(_reading_of(reading) for reading in body["readings"]),
    )


def _xid(body: Mapping[str, Any]) -> Xid:
    if body["source"] not in ("nvml", "kernel"):
        raise ValueError(f"an XID from {body['source']!r}")
    return Xid(
        _typed(body["at_ms"], int),
        _typed(body["uuid"], str),
        _typed(body["number"], int),
        body["source"],
        _typed(body["text"], str),
        _typed(body["pci_bus"], str),
    )


@lru_cache(maxsize=GPUS)
def _gpu(text: str) -> Gpu:
    body = json.loads(text)
    texts = {name: _typed(value, str) for name, value in body.items() if name != "index"}
    return Gpu(index=_typed(body["index"], int), **texts)


def _span(body: Mapping[str, Any]) -> tuple[int, int]:
    start_ms, end_ms = _typed(body["start_ms"], int), _typed(body["end_ms"], int)
    if not 0 <= start_ms < end_ms:
        raise ValueError(f"an interval from {start_ms} to {end_ms}")
    return start_ms, end_ms


def _reading_of(body: Mapping[str, Any]) -> Reading:
    start_ms, end_ms = _span(body)
    processes, parts, slices = body["processes"], body["parts"], body["slices"]
    return reading_of(
        _typed(body["uuid"], str),
        start_ms,
        end_ms,
        _FIGURES.read(_typed(body["values"], str)),
        condition=Condition(body["condition"]),
        processes=None if processes is None else tuple(_process(one) for one in processes),
        parts=None if parts is None else _parts_of(*_typed(parts, list)),
        slices=None if slices is None else tuple(_slice_of(one) for one in slices),
    )


def _parts_of(keys: object, figures: object) -> tuple[Part, ...]:
    told = zip(_keys_of(_typed(keys, str)), read_numbers(_typed(figures, str)), strict=True)
    return tuple([Part(quantity, labels, value) for (quantity, labels), value in told])


@lru_cache(maxsize=SETS_OF_PARTS)
def _keys_of(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    keys = [
        (_typed(quantity, str), tuple([_typed(label, str) for label in _typed(labels, list)]))
        for quantity, labels in json.loads(text)
    ]
    return tuple([check_part(Part(quantity, labels, 0.0))[:2] for quantity, labels in keys])


def _slice_of(body: Mapping[str, Any]) -> Slice:
    weight_ratio = float(_typed(body["weight_ratio"], int | float))
    values = _SLICE_FIGURES.read(_typed(body["values"], str))
    return slice_of(_typed(body["uuid"], str), _typed(body["profile"], str), weight_ratio, values)


def _process(body: Mapping[str, Any]) -> Process:
    used, share = body["memory_used_bytes"], body["sm_ratio"]
    if body["kind"] not in get_args(Kind):
        raise ValueError(f"a process of kind {body['kind']!r}")
    return Process(
        pid=_typed(body["pid"], int),
        kind=body["kind"],
        memory_used_bytes=None if used is None else _typed(used, int),
        sm_ratio=None if share is None else float(_typed(share, int | float)),
        slice=_typed(body["slice"], str),
    )
