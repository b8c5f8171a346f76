"""Makes bad input of good: bytes that are cut, doubled and swapped, JSON with odd things at odd places."""

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

QUICK, LONG = 80, 4000
PIECES = (
    *(b"\0", b"\n", b"\r\n", b"\r\n\r\n", b"\xff\xfe", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b" " * 300),
    *(b"-1", b"0", b"1e999", b"NaN", b"-Infinity", b"18446744073709551616", b"9" * 400, b"0x", b"1_0"),
    *(b"[" * 3000, b"{" * 50, b'"', b"'", b"\\u0000", b"\\ud800", b"%00", b"%s%n", b"../../../etc/passwd"),
    *(b"<script>", b"=cmd|' /C calc'!A0", b"&a *a", b"!!python/object:os.system x", b"{{7*7}}", b"${x}"),
)
"""What has broken parsers before."""
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**31, 2**63, 2**64, -(2**70), 10**400, 1e308, float("nan"), float("inf")),
    *("", " ", "\0", "\ud800", "\u202e", "a" * 5000, "1e999", "-0", "nan", "9" * 400, "<b>", "\r\nX: y"),
    *([], {}, [[]], [{}], {"": None}, [None] * 3, {"a": {"a": {"a": []}}}),
)
examples = pytest.mark.parametrize(
    "examples", [QUICK, pytest.param(LONG, marks=pytest.mark.slow)], ids=["quick", "long"]
)


def hold(wanted: st.SearchStrategy[Any], count: int, check: Callable[[Any], object]) -> None:
    """See to it that a check holds for so many examples."""

    @settings(
        max_examples=count,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.function_scoped_fixture,
        ],
    )
    @given(wanted)
    def holds(one: object) -> None:
        check(one)

    holds()


@st.composite
def spoilt(draw: st.DrawFn, sound: Sequence[bytes]) -> bytes:
    """Spoil one of several sound inputs at some places."""
    told = bytearray(draw(st.sampled_from(sound)))
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, len(told)))
        end = draw(st.integers(start, min(len(told), start + draw(st.sampled_from([0, 1, 4, 40, 100_000])))))
        other = draw(st.sampled_from(sound))
        told[start:end] = draw(
            st.one_of(
                st.just(b""),
                st.binary(max_size=8),
                st.sampled_from(PIECES),
                st.just(bytes(told[start:end]) * 2),
                st.integers(0, len(other)).map(lambda at, other=other: other[at:]),  # type: ignore[misc]
            )
        )
    return bytes(told)


@st.composite
def spoilt_json(draw: st.DrawFn, sound: Sequence[Any]) -> bytes:
    """Put odd things at some places of a sound document, or leave something out; it is still JSON."""
    document = [copy.deepcopy(draw(st.sampled_from(sound)))]
    for _ in range(draw(st.integers(1, 4))):
        holder, key = draw(st.sampled_from(list(_places(document))))
        if isinstance(holder, dict) and draw(st.booleans()):
            del holder[key]
        else:
            holder[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
    text = json.dumps(document[0], ensure_ascii=draw(st.booleans()))
    return text.encode("utf-8", "surrogatepass")


def json_of(sound: Sequence[Any]) -> st.SearchStrategy[bytes]:
    """Spoil documents both ways."""
    return st.one_of(spoilt_json(sound), spoilt([json.dumps(one).encode() for one in sound]))


def _places(found: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401  whatever JSON holds
    inside = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    for key, one in list(inside):
        yield found, key
        yield from _places(one)
