"""What the probe says to its parent: frames of four bytes of length, big-endian, and that much JSON.

A frame is a tick, a sign of life, or the sentence that says why NVML cannot be used. The parent trusts none
of it: whatever is not exactly a frame raises FrameError.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from agent.errors import FrameError
from agent.tick import QUANTITIES, Condition, Gpu, Process, Reading, Refusal, Tick, reading_of

LENGTH_BYTES = 4
MAX_BYTES = 8 * 1024 * 1024
_TICK_NUMBERS = ("start_ms", "end_ms", "driver_calls", "driver_seconds", "late_seconds")


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
        "gpus": None if tick.gpus is None else [asdict(gpu) for gpu in tick.gpus],
        "refusals": [list(refusal) for refusal in tick.refusals],
        "readings": [_reading(reading) for reading in tick.readings],
    }


def _reading(reading: Reading) -> dict[str, Any]:
    known = {name: getattr(reading, name) for name in QUANTITIES}
    return {
        "uuid": reading.uuid,
        "condition": reading.condition.value,
        "start_ms": reading.start_ms,
        "end_ms": reading.end_ms,
        "processes": None if reading.processes is None else [asdict(one) for one in reading.processes],
        "values": {name: value for name, value in known.items() if value is not None},
    }


def decode(data: bytes) -> Frame:
    """Read a frame's body. Raises FrameError for anything else."""
    try:
        body = json.loads(data, parse_constant=_no_number)
        _check(body)
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


def _check(value: object) -> None:
    """Raise ValueError for numbers and texts that no journal can hold."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check(name)
            _check(inner)
    elif isinstance(value, list):
        for inner in value:
            _check(inner)
    elif isinstance(value, str):
        value.encode()
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{value!r} is beyond all bounds")


def _typed(value: Any, kind: Any) -> Any:  # noqa: ANN401  whatever JSON held
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _tick_of(body: Mapping[str, Any]) -> Tick:
    start_ms, end_ms = _span(body)
    gpus = body["gpus"]
    return Tick(
        node=_typed(body["node"], str),
        start_ms=start_ms,
        end_ms=end_ms,
        driver_calls=_typed(body["driver_calls"], int),
        driver_seconds=float(_typed(body["driver_seconds"], int | float)),
        late_seconds=float(_typed(body["late_seconds"], int | float)),
        gpus=None if gpus is None else tuple(_gpu(gpu) for gpu in gpus),
        refusals=tuple(
            Refusal(_typed(uuid, str), _typed(what, str), _typed(why, str), _typed(times, int))
            for uuid, what, why, times in body["refusals"]
        ),
        readings=tuple(_reading_of(reading) for reading in body["readings"]),
    )


def _gpu(body: Mapping[str, Any]) -> Gpu:
    texts = {name: _typed(value, str) for name, value in body.items() if name != "index"}
    return Gpu(index=_typed(body["index"], int), **texts)


def _span(body: Mapping[str, Any]) -> tuple[int, int]:
    start_ms, end_ms = _typed(body["start_ms"], int), _typed(body["end_ms"], int)
    if not 0 <= start_ms < end_ms:
        raise ValueError(f"an interval from {start_ms} to {end_ms}")
    return start_ms, end_ms


def _reading_of(body: Mapping[str, Any]) -> Reading:
    start_ms, end_ms = _span(body)
    processes = body["processes"]
    return reading_of(
        _typed(body["uuid"], str),
        start_ms,
        end_ms,
        {name: float(_typed(value, int | float)) for name, value in body["values"].items()},
        condition=Condition(body["condition"]),
        processes=None if processes is None else tuple(_process(one) for one in processes),
    )


def _process(body: Mapping[str, Any]) -> Process:
    used = body["memory_used_bytes"]
    return Process(
        pid=_typed(body["pid"], int), memory_used_bytes=None if used is None else _typed(used, int)
    )
