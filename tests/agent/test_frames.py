"""Frames between probe and parent: what goes in comes out, and nothing else is believed."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import FrameError
from agent.figures import Figures, write_numbers
from agent.frames import LENGTH_BYTES, MAX_BYTES, Absent, Alive, decode, encode
from agent.pieces import PARTS, SLICE_QUANTITIES
from agent.quantities import QUANTITIES
from agent.simulated.scenario import parse_simulation
from agent.tick import (
    Condition,
    Gpu,
    Part,
    Process,
    Reading,
    Refusal,
    Tick,
    Xid,
    reading_of,
    slice_of,
)

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
NOON_MS = 1_767_700_800_000

_counts = st.integers(0, 2**53)
_amounts = st.none() | st.floats(-1e15, 1e15)
_times = st.tuples(st.integers(0, 2**53), st.integers(1, 2**40)).map(lambda pair: (pair[0], sum(pair)))
_processes = st.builds(
    Process,
    pid=_counts,
    kind=st.sampled_from(["compute", "graphics", "mps"]),
    memory_used_bytes=st.none() | _counts,
    sm_ratio=st.none() | st.floats(0, 1),
    slice=st.text(max_size=9),
)
_parts = st.sampled_from(sorted(PARTS)).flatmap(
    lambda name: st.builds(
        Part,
        quantity=st.just(name),
        labels=st.tuples(*(st.text(max_size=5) for _ in PARTS[name].labels)),
        value=st.floats(-1e15, 1e15),
    )
)
_slices = st.builds(
    slice_of,
    uuid=st.text(max_size=9),
    profile=st.text(max_size=9),
    weight_ratio=st.floats(0, 1),
    values=st.dictionaries(st.sampled_from(sorted(SLICE_QUANTITIES)), _amounts),
)
_xids = st.builds(
    Xid,
    at_ms=_counts,
    uuid=st.text(max_size=9),
    number=_counts,
    source=st.sampled_from(["nvml", "kernel"]),
    text=st.text(),
    pci_bus=st.text(max_size=9),
)
_readings = st.builds(
    lambda uuid, times, values, **rest: reading_of(uuid, times[0], times[1], values, **rest),
    uuid=st.text(max_size=50),
    times=_times,
    values=st.dictionaries(st.sampled_from(sorted(QUANTITIES)), _amounts),
    condition=st.sampled_from(Condition),
    processes=st.none() | st.lists(_processes, max_size=3).map(tuple),
    parts=st.none() | st.lists(_parts, max_size=3).map(tuple),
    slices=st.none() | st.lists(_slices, max_size=3).map(tuple),
)
_gpus = st.builds(
    Gpu,
    index=_counts,
    **{field.name: st.text(max_size=9) for field in fields(Gpu) if field.name != "index"},
)
_seconds = st.floats(0, 1e9)
_ticks = st.builds(
    lambda times, **rest: Tick(start_ms=times[0], end_ms=times[1], **rest),
    times=_times,
    node=st.text(),
    readings=st.lists(_readings, max_size=4).map(tuple),
    gpus=st.none() | st.lists(_gpus, max_size=4).map(tuple),
    refusals=st.lists(st.builds(Refusal, st.text(), st.text(), st.text(), _counts), max_size=3).map(tuple),
    xids=st.lists(_xids, max_size=3).map(tuple),
    since_ms=_counts,
    driver_calls=_counts,
    driver_seconds=_seconds,
    late_seconds=_seconds,
)
_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["tick", "alive", "absent", "ok", "busy_ratio", "nvml", "fan_speed_ratio"])
)
_json = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["kind", "node", "values", "uuid"]) | st.text(max_size=3), inner)
    ),
    max_leaves=12,
)


def tick_of(gpus: int = 2) -> Tick:
    """Make a tick as a probe sends it."""
    simulation = parse_simulation(f"h200x{gpus}:training")
    return Tick(
        node="hall2-n017",
        start_ms=NOON_MS,
        end_ms=NOON_MS + 10_000,
        readings=tuple(_told(simulation.reading(index, NOON_MS, NOON_MS + 10_000)) for index in range(gpus)),
        gpus=tuple(simulation.gpu(index) for index in range(gpus)),
        refusals=(Refusal(simulation.uuid(0), "field_82", "unsupported", 1),),
        xids=(Xid(NOON_MS + 17, simulation.uuid(0), 79), Xid(NOON_MS, "", 48, "kernel", "DBE", "0000:19:00")),
        since_ms=NOON_MS - 4_000,
        driver_calls=131,
        driver_seconds=0.0173,
        late_seconds=0.004,
    )


def _told(reading: Reading) -> Reading:
    """Give a reading with everything that one may have, its amounts as the floats that a watch makes."""
    values = {name: getattr(reading, name) for name in QUANTITIES}
    return reading_of(
        reading.uuid,
        reading.start_ms,
        reading.end_ms,
        {name: None if value is None else float(value) for name, value in values.items()},
        processes=reading.processes,
        parts=(
            Part("fan_speed_ratio", ("0",), 0.41),
            Part("nvlink_link_errors_total", ("17", "replay"), 3.0),
            Part("ecc_location_errors_total", ("corrected", "aggregate", "dram"), 12.0),
        ),
        slices=(
            slice_of("MIG-0a9f", "3g.71gb", 3 / 7, {"sm_active_ratio": 0.6, "memory_used_bytes": 2.0**35}),
            slice_of("MIG-0aa0", "1g.18gb", 1 / 7, {}),
        ),
    )


def body_of(tick: Tick) -> Any:  # noqa: ANN401  JSON
    """Give the JSON of a tick's frame, with the JSON that stands in it as text."""
    body = json.loads(encode(tick)[LENGTH_BYTES:])
    body["gpus"] = [json.loads(gpu) for gpu in body["gpus"]]
    for reading in body["readings"]:
        reading["parts"][0] = json.loads(reading["parts"][0])
    return body


def bytes_of(body: Any) -> bytes:  # noqa: ANN401  JSON
    """Give the bytes of a frame whose JSON `body_of` gave, where that is still in it."""
    if isinstance(body, dict):
        if isinstance(body.get("gpus"), list):
            body["gpus"] = [json.dumps(gpu) if isinstance(gpu, dict) else gpu for gpu in body["gpus"]]
        for reading in body["readings"] if isinstance(body.get("readings"), list) else ():
            parts = reading.get("parts") if isinstance(reading, dict) else None
            if isinstance(parts, list) and parts and isinstance(parts[0], list):
                parts[0] = json.dumps(parts[0])
    return json.dumps(body).encode()


def parts(body: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:  # noqa: ANN401
    """List the paths to all values in JSON."""
    inner = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    return [path, *(found for key, value in inner for found in parts(value, (*path, key)))]


def altered(body: Any, path: tuple[Any, ...], value: Any) -> bytes:  # noqa: ANN401
    """Put another value at a path; give it as JSON."""
    if not path:
        return json.dumps(value).encode()
    place = body
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return bytes_of(body)


def taken_or_refused(data: bytes) -> None:
    """Assert that bytes are a frame or a FrameError, and a frame is a sound one that can be sent on."""
    try:
        frame = decode(data)
    except FrameError:
        return
    assert decode(encode(frame)[LENGTH_BYTES:]) == frame


# There and back


@patient
@given(_ticks)
def test_a_tick_comes_back_as_it_was(tick: Tick) -> None:
    """Every field of every part survives, None and absent inventory included."""
    data = encode(tick)
    assert int.from_bytes(data[:LENGTH_BYTES]) == len(data) - LENGTH_BYTES
    assert decode(data[LENGTH_BYTES:]) == tick


@pytest.mark.parametrize("frame", [Alive(), Absent("no driver: load it"), tick_of(), tick_of(64)])
def test_every_kind_of_frame_comes_back(frame: Alive | Absent | Tick) -> None:
    """A sign of life, the reason for absence, and the tick of a whole node, well below the largest frame."""
    data = encode(frame)
    assert decode(data[LENGTH_BYTES:]) == frame
    assert len(data) < MAX_BYTES / 10


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_what_has_no_bounds_is_no_figure(value: float) -> None:
    """An infinity is refused as a figure of a reading, of a slice, and of a part."""
    for of in (
        {"values": {"power_watts": value}},
        {"values": {}, "slices": (slice_of("MIG-1", "1g.18gb", 1 / 7, {"sm_active_ratio": value}),)},
        {"values": {}, "parts": (Part("fan_speed_ratio", ("0",), value),)},
    ):
        reading = reading_of("GPU-1", NOON_MS, NOON_MS + 1, **of)
        with pytest.raises(FrameError, match="bounds"):
            decode(encode(replace(tick_of(), readings=(reading,)))[LENGTH_BYTES:])


def test_what_is_no_number_is_not_known() -> None:
    """NaN comes out as nothing; of a part, where a row must have its figure, the frame is refused."""
    reading = reading_of("GPU-1", NOON_MS, NOON_MS + 1, {"power_watts": float("nan"), "busy_ratio": 0.5})
    told = decode(encode(replace(tick_of(), readings=(reading,)))[LENGTH_BYTES:])
    assert isinstance(told, Tick)
    assert (told.readings[0].power_watts, told.readings[0].busy_ratio) == (None, 0.5)
    bare = replace(reading, parts=(Part("fan_speed_ratio", ("0",), float("nan")),))
    with pytest.raises(FrameError, match="bounds"):
        decode(encode(replace(tick_of(), readings=(bare,)))[LENGTH_BYTES:])


# What is no frame


@patient
@given(st.binary(max_size=300))
def test_random_bytes_are_no_frame(data: bytes) -> None:
    """Garbage raises FrameError and nothing else."""
    taken_or_refused(data)


@patient
@given(_json)
def test_random_json_is_no_frame(body: object) -> None:
    """JSON of any shape is a frame or raises FrameError."""
    taken_or_refused(json.dumps(body).encode())


@patient
@given(st.data())
def test_a_frame_with_a_wrong_part_is_no_frame(data: st.DataObject) -> None:
    """Any value of a tick, replaced by anything, is believed only where it is of the right kind."""
    body = body_of(tick_of(1))
    path = data.draw(st.sampled_from(parts(body)))
    taken_or_refused(altered(body, path, data.draw(_json)))


@patient
@given(st.data())
def test_a_frame_with_wrong_bytes_is_no_frame(data: st.DataObject) -> None:
    """Bytes that are altered, lost or doubled raise FrameError, or the frame is sound all the same."""
    whole = bytearray(encode(tick_of(1))[LENGTH_BYTES:])
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 20)))
    whole[start:end] = data.draw(st.binary(max_size=20))
    taken_or_refused(bytes(whole))


@patient
@given(st.data())
def test_a_part_that_is_missing_is_noticed(data: st.DataObject) -> None:
    """A frame without one of its keys raises FrameError, unless it is a quantity or a text that may lack."""
    body = body_of(tick_of(1))
    path = data.draw(st.sampled_from([path for path in parts(body) if path and isinstance(path[-1], str)]))
    place = body
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    if path[0] == "gpus" and path[-1] not in ("gpus", "uuid", "index", "model"):
        taken_or_refused(bytes_of(body))
    else:
        with pytest.raises(FrameError):
            decode(bytes_of(body))


@pytest.mark.parametrize("depth", [500, 100_000])
@pytest.mark.parametrize(
    "build", [lambda n: b"[" * n + b"]" * n, lambda n: b'{"kind":' * n + b"1" + b"}" * n]
)
def test_nesting_beyond_reason_is_no_frame(depth: int, build: Callable[[int], bytes]) -> None:
    """Brackets in brackets raise FrameError, not the end of the stack."""
    with pytest.raises(FrameError):
        decode(build(depth))


_NUMBERS = [
    ("start_ms",),
    ("end_ms",),
    ("driver_calls",),
    ("driver_seconds",),
    ("late_seconds",),
    ("gpus", 0, "index"),
    ("refusals", 0, 3),
    ("readings", 0, "start_ms"),
    ("readings", 0, "end_ms"),
    ("readings", 0, "processes", 0, "pid"),
    ("readings", 0, "processes", 0, "memory_used_bytes"),
    ("readings", 0, "slices", 0, "weight_ratio"),
    ("since_ms",),
    ("xids", 0, "at_ms"),
    ("xids", 0, "number"),
]


@pytest.mark.parametrize(
    "value",
    [True, False, "17", [], float("nan"), float("inf"), float("-inf"), 10**400],
    ids=["true", "false", "text", "list", "NaN", "Infinity", "-Infinity", "400 digits"],
)
def test_what_is_no_number_is_not_taken_for_one(value: object) -> None:
    """Booleans, texts, NaN, infinities and numbers beyond all bounds raise FrameError wherever they stand."""
    believed = []
    for path in _NUMBERS:
        try:
            decode(altered(body_of(tick_of(1)), path, value))
        except FrameError:
            continue
        except OverflowError:
            believed.append(("crash", *path))
        else:
            believed.append(path)
    assert believed == []


def test_a_number_that_overflows_is_not_taken() -> None:
    """1e999 is valid JSON, and no number."""
    data = bytes_of(body_of(tick_of(1))).decode().replace('"late_seconds": 0.004', '"late_seconds": 1e999')
    assert "1e999" in data
    with pytest.raises(FrameError):
        decode(data.encode())


@pytest.mark.parametrize(
    "path",
    [
        *[
            ("end_ms",),
            ("driver_calls",),
            ("refusals", 0, 3),
            ("readings", 0, "end_ms"),
            ("gpus", 0, "index"),
        ],
        *[("since_ms",), ("xids", 0, "at_ms"), ("xids", 0, "number")],
    ],
    ids=str,
)
def test_a_number_that_no_journal_can_hold_is_not_taken(path: tuple[Any, ...]) -> None:
    """Whole numbers are written with 64 bits: larger ones raise FrameError here, not trouble there."""
    with pytest.raises(FrameError):
        decode(altered(body_of(tick_of(1)), path, 2**63))


@pytest.mark.parametrize(
    "path",
    [
        *[("node",), ("readings", 0, "uuid"), ("gpus", 0, "model"), ("xids", 0, "text")],
        *[("readings", 0, "parts", 0, 0, 1, 0), ("readings", 0, "slices", 0, "uuid"), ("refusals", 0, 1)],
    ],
    ids=str,
)
def test_text_that_no_file_can_hold_is_not_taken(path: tuple[Any, ...]) -> None:
    """Half of a surrogate pair is valid JSON, but no text that a journal can hold."""
    with pytest.raises(FrameError):
        decode(altered(body_of(tick_of(1)), path, "\ud800"))


@pytest.mark.parametrize(("start_ms", "end_ms"), [(10, 10), (10, 9), (-5, 10)])
def test_an_interval_must_go_forward(start_ms: int, end_ms: int) -> None:
    """Empty intervals, backward ones and those before 1970 raise FrameError."""
    body = body_of(tick_of(1))
    body["start_ms"], body["end_ms"] = start_ms, end_ms
    with pytest.raises(FrameError, match="an interval from"):
        decode(bytes_of(body))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("readings", 0, "parts", 0, 0, 0), "fan_speed"),
        (("readings", 0, "parts", 0, 0, 1), []),
        (("readings", 0, "parts", 0, 0, 1), ["0", "1"]),
        (("readings", 0, "parts", 0, 0, 1), "0"),
        (("readings", 0, "parts", 0, 0), ["fan_speed_ratio"]),
        (("readings", 0, "parts", 0), []),
        (("readings", 0, "parts"), []),
        (("readings", 0, "parts", 1), write_numbers([1.0])),
        (("readings", 0, "slices", 0, "values"), Figures(["power_watts"]).write({"power_watts": 3.0})),
        (("readings", 0, "values"), Figures(["fan_speed_ratio"]).write({"fan_speed_ratio": 0.5})),
        (("readings", 0, "values"), Figures(sorted(QUANTITIES)).write({"power_watts": 3.0})),
        (("readings", 0, "processes", 0, "kind"), "idle"),
        (("readings", 0, "condition"), "well"),
        (("xids", 0, "source"), "rumour"),
        (("gpus", 0, "colour"), "green"),
    ],
)
def test_what_no_list_knows_is_no_frame(path: tuple[Any, ...], value: object) -> None:
    """A part with other labels than its quantity has, or a name that nothing lists, raises FrameError."""
    with pytest.raises(FrameError):
        decode(altered(body_of(tick_of(1)), path, value))


@pytest.mark.parametrize("kind", ["tock", None, 5, ["tick"]])
def test_an_unknown_kind_is_named(kind: object) -> None:
    """The error says which kind it was."""
    with pytest.raises(FrameError, match="unknown kind"):
        decode(json.dumps({"kind": kind}).encode())
