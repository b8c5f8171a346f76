"""A call on a Unix socket ends by its deadline, with the answer or with a WireError."""

import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.holders.wire import LONGEST_REASON, Connection, Status, WireError
from tests.kubelet.rude import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    HELLO,
    PING,
    RST_STREAM,
    STATUS_200,
    Play,
    answer,
    frame,
    header,
    repeating,
    rude,
    saying,
    silent,
)

BEGUN = HELLO + frame(HEADERS, STATUS_200, flags=END_HEADERS)
SHORT_SECONDS = 0.3
LONG_SECONDS = 30.0
SLOW_SECONDS = 15.0  # far beyond the short deadline, as far below for ever


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a name for a socket."""
    return tmp_path / "s"


def call(path: Path, seconds: float = LONG_SECONDS) -> bytes:
    """Call some method."""
    with Connection(path, time.monotonic() + seconds) as connection:
        return connection.call("/a.Service/Method")


def refused(path: Path, play: Play, seconds: float = LONG_SECONDS) -> WireError:
    """Give what a call raises."""
    with rude(path, play), pytest.raises(WireError) as caught:
        call(path, seconds)
    return caught.value


def test_an_answer_is_given(path: Path) -> None:
    """The message comes without its prefix."""
    with rude(path, saying(answer(b"hello"))):
        assert call(path) == b"hello"


def test_an_answer_in_pieces_is_put_together(path: Path) -> None:
    """Frames may come a byte at a time."""
    with rude(path, saying(*(bytes([byte]) for byte in answer(b"hello")))):
        assert call(path) == b"hello"


@pytest.mark.parametrize(
    "play",
    [
        silent,
        repeating(PING.to_bytes(1, "big"), pause_seconds=0.01),
        repeating(b"\0", first=HELLO + frame(DATA, b"x" * 100)[:9], pause_seconds=0.01),
        repeating(frame(PING, b"12345678", stream=0), first=HELLO, pause_seconds=0.01),
        repeating(frame(DATA, b"x"), first=BEGUN, pause_seconds=0.01),
        repeating(frame(CONTINUATION, b""), first=HELLO + frame(HEADERS, b""), pause_seconds=0.05),
    ],
    ids=["silent", "drop by drop", "within a frame", "pings", "drops of an answer", "headers without end"],
)
def test_no_server_delays_a_call_beyond_its_deadline(path: Path, play: Play) -> None:
    """Whatever dribbles in, the deadline is for the whole call."""
    before = time.monotonic()

    refused(path, play, SHORT_SECONDS)

    assert time.monotonic() - before < SLOW_SECONDS


def test_a_silent_server_is_told_from_a_broken_one(path: Path) -> None:
    """No answer in time has a status of its own."""
    assert refused(path, silent, SHORT_SECONDS).code == Status.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    "piece",
    [frame(DATA, b""), frame(CONTINUATION, header("a", "b")), frame(0xBE, b"x" * 100, stream=0)],
    ids=["empty data", "continuations", "unknown frames"],
)
def test_a_flood_that_is_no_answer_ends_the_call(path: Path, piece: bytes) -> None:
    """What is no part of an answer is bounded by size, long before a deadline that is far away."""
    first = HELLO + frame(HEADERS, b"") if piece[3] == CONTINUATION else BEGUN

    error = refused(path, repeating(piece * 64, first=first))

    assert error.code == Status.UNAVAILABLE


def test_an_answer_that_is_too_large_ends_the_call(path: Path) -> None:
    """The bound holds while the answer comes, not only when it is there."""
    error = refused(path, repeating(frame(DATA, b"x" * 16_384), first=BEGUN))

    assert error.code == Status.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (b"", "hung up"),
        (HELLO, "hung up"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "hung up"),
        (BEGUN + frame(RST_STREAM, b"\0\0\0\x07"), "gave the call up"),
        (HELLO + frame(GOAWAY, b"\0\0\0\0\0\0\0\0", stream=0), "ends the connection"),
        (HELLO + frame(HEADERS, b"\xff\xff\xff\xff", flags=END_HEADERS), "HTTP/2"),
        (HELLO + frame(HEADERS, header(":status", "502"), flags=END_HEADERS | END_STREAM), "502"),
        (HELLO + frame(HEADERS, STATUS_200, flags=END_HEADERS | END_STREAM), "no status"),
        (answer(b"hello", status="x"), "no status"),
        (answer(b"hello", prefix=b"\1\0\0\0\5"), "plain message"),
        (answer(b"hello", prefix=b"\0\0\0\0\6"), "plain message"),
        (answer(b"hello", prefix=b"\0\0\0\0\4"), "plain message"),
        (answer(b"", prefix=b""), "plain message"),
    ],
)
def test_what_is_no_answer_is_said(path: Path, said: bytes, word: str) -> None:
    """Every way to fail says what was wrong."""
    assert word in str(refused(path, saying(said)))


def test_the_servers_own_refusal_is_told(path: Path) -> None:
    """Status and message come from the trailers, the message short and printable."""
    trailers = (
        STATUS_200 + header("grpc-status", "12") + header("grpc-message", "no%20such%0Amethod" + "x" * 90)
    )

    error = refused(path, saying(HELLO + frame(HEADERS, trailers, flags=END_HEADERS | END_STREAM)))

    assert error.code == Status.UNIMPLEMENTED
    assert str(error).startswith("no such?method")
    assert len(str(error)) <= LONGEST_REASON


def test_calls_follow_each_other_on_a_connection(path: Path) -> None:
    """A second call has a stream of its own."""

    def play(peer: socket.socket, _over: object) -> None:
        peer.sendall(answer(b"one"))
        while b"second" not in peer.recv(65_536):
            pass
        second = answer(b"two").removeprefix(HELLO)
        peer.sendall(second.replace(b"\0\0\0\1", b"\0\0\0\3"))
        while peer.recv(65_536):
            pass

    with rude(path, play), Connection(path, time.monotonic() + LONG_SECONDS) as connection:
        assert connection.call("/a.Service/Method") == b"one"
        assert connection.call("/a.Service/Other", b"second") == b"two"


def test_a_server_that_takes_no_more_connections_costs_nothing(path: Path) -> None:
    """A full queue is an error at once, not a wait."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind(str(path))
        door.listen(0)
        waiting = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(str(path))

        with pytest.raises(BlockingIOError):
            call(path)

        for one in waiting:
            one.close()


def test_a_socket_that_is_not_there_is_an_error_of_the_system(path: Path) -> None:
    """Whoever asks says what to do about it."""
    with pytest.raises(FileNotFoundError):
        call(path)


FRAMES = st.builds(
    lambda kind, payload, flags, stream: frame(kind, payload, flags=flags, stream=stream),
    st.integers(0, 12),
    st.binary(max_size=60),
    st.integers(0, 255),
    st.sampled_from([0, 1, 1, 2, 3]),
)
HEADS = st.lists(
    st.tuples(
        st.sampled_from([":status", "grpc-status", "grpc-message", "x"]), st.text("0129%aé\n", max_size=9)
    ),
    max_size=4,
).map(
    lambda pairs: frame(
        HEADERS, b"".join(header(*pair) for pair in pairs if pair[1].isascii()), flags=END_HEADERS
    )
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.one_of(
        st.binary(max_size=200), st.lists(FRAMES | HEADS, max_size=8).map(lambda f: HELLO + b"".join(f))
    )
)
def test_nothing_that_is_said_raises_anything_else(path: Path, said: bytes) -> None:
    """Garbage, and frames in any order with anything in them, are an answer or a WireError."""
    with rude(path, saying(said)), suppress(WireError):
        call(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 200), byte=st.integers(0, 255))
def test_an_answer_that_was_damaged_raises_nothing_else(path: Path, at: int, byte: int) -> None:
    """One wrong byte anywhere is an answer or a WireError."""
    said = bytearray(answer(b"hello" * 20))
    said[at % len(said)] = byte

    with rude(path, saying(bytes(said))), suppress(WireError):
        call(path)
