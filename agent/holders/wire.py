"""Unary calls to a gRPC server on a Unix socket.

Nothing that a server does makes a call last beyond its deadline, costs more than the bounds below, or raises
anything but WireError. HTTP/2 itself is the package h2, loaded by the first connection.
"""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

if TYPE_CHECKING:
    from h2.connection import H2Connection
    from h2.events import Event

MOST_MESSAGE_BYTES = 16 * 1024 * 1024
MOST_OVERHEAD_BYTES = 1024 * 1024
LONGEST_REASON = 200

_CHUNK_BYTES = 65_536
_WINDOW_BYTES = 1024 * 1024
_MOST_HEADER_BYTES = 16_384
_PREFIX_BYTES = 5  # every message of gRPC begins with whether it is compressed and its length
_HOSTILE = re.compile(r"[^\x20-\x7e]+")


class Status(IntEnum):
    """How a call ended, in gRPC's numbers; those that are told apart here."""

    OK = 0
    UNKNOWN = 2
    DEADLINE_EXCEEDED = 4
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    UNAVAILABLE = 14


class WireError(Exception):
    """A call did not succeed; `code` is gRPC's status, UNAVAILABLE where there was no usable answer."""

    def __init__(self, reason: str, code: int = Status.UNAVAILABLE) -> None:
        super().__init__(tidy(reason, LONGEST_REASON))
        self.code = code


def tidy(text: str, longest: int) -> str:
    """Give a text without anything but printable ASCII, and not longer than told."""
    return _HOSTILE.sub("?", text[:longest])


class Connection:
    """A connection for calls one after the other, all of them done by `deadline` (of time.monotonic).

    Making one raises OSError where the socket cannot be opened; all else that may fail raises WireError.
    """

    def __init__(self, path: Path, deadline: float) -> None:
        self._deadline = deadline
        self._overhead = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(self._left())
            self._socket.connect(str(path))
            self._http = _client()
            with _understood():
                self._http.initiate_connection()
                self._http.increment_flow_control_window(_WINDOW_BYTES)
            self._send()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, method: str, message: bytes = b"") -> bytes:
        """Call a method such as `/v1.PodResourcesLister/List` and give the answer's message."""
        with _understood():
            stream = self._http.get_next_available_stream_id()
            self._http.send_headers(stream, self._headers(method))
            self._http.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)
        self._send()
        call = _Call(stream)
        while not call.done:
            chunk = self._receive()
            with _understood():
                for event in self._http.receive_data(chunk):
                    call.take(event)
                    self._acknowledge(event)
            self._overhead += len(chunk)
            if self._overhead - call.received > MOST_OVERHEAD_BYTES:
                raise WireError("the server sends much that is no answer")
            self._send()
        self._overhead -= call.received
        return call.message()

    def _headers(self, method: str) -> list[tuple[str, str]]:
        return [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "gputally"),
            ("grpc-timeout", f"{max(1, int(self._left() * 1000))}m"),
        ]

    def _acknowledge(self, event: "Event") -> None:
        from h2.events import DataReceived  # noqa: PLC0415  only where there is a kubelet

        if isinstance(event, DataReceived) and event.flow_controlled_length:
            self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def _receive(self) -> bytes:
        self._socket.settimeout(self._left())
        try:
            chunk = self._socket.recv(_CHUNK_BYTES)
        except TimeoutError:
            raise _too_late() from None
        except OSError as error:
            raise WireError(f"the connection broke ({error.strerror})") from None
        if not chunk:
            raise WireError("the server hung up")
        return chunk

    def _send(self) -> None:
        self._socket.settimeout(self._left())
        try:
            self._socket.sendall(self._http.data_to_send())
        except TimeoutError:
            raise _too_late() from None
        except OSError as error:
            raise WireError(f"the connection broke ({error.strerror})") from None

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise _too_late()
        return left


class _Call:
    """What has come of one call."""

    def __init__(self, stream: int) -> None:
        self.done = False
        self.received = 0
        self._stream = stream
        self._pieces: list[bytes] = []
        self._heads: dict[str, str] = {}

    def take(self, event: "Event") -> None:
        from h2 import events  # noqa: PLC0415  only where there is a kubelet

        if isinstance(event, events.ConnectionTerminated):
            raise WireError("the server ends the connection")
        if getattr(event, "stream_id", None) != self._stream:
            return
        match event:
            case events.StreamReset():
                raise WireError(f"the server gave the call up (HTTP/2 code {int(event.error_code or 0)})")
            case events.ResponseReceived() | events.TrailersReceived():
                self._heads.update((_text(name), _text(value)) for name, value in event.headers or ())
            case events.DataReceived():
                self._add(event.data or b"")
            case events.StreamEnded():
                self.done = True
            case _:
                pass

    def _add(self, data: bytes) -> None:
        self.received += len(data)
        if self.received > MOST_MESSAGE_BYTES + _PREFIX_BYTES:
            raise WireError(
                f"the answer is larger than {MOST_MESSAGE_BYTES >> 20} MiB", Status.RESOURCE_EXHAUSTED
            )
        self._pieces.append(data)

    def message(self) -> bytes:
        if self._heads.get(":status") != "200":
            raise WireError(f"HTTP status {self._heads.get(':status')} is no answer of gRPC")
        status = self._heads.get("grpc-status", "")
        if not (status.isascii() and status.isdigit() and len(status) <= 2):  # noqa: PLR2004  codes end at 16
            raise WireError("the answer has no status of gRPC")
        if int(status) != Status.OK:
            raise WireError(unquote(self._heads.get("grpc-message", ""))[:LONGEST_REASON], int(status))
        body = b"".join(self._pieces)
        if (
            len(body) < _PREFIX_BYTES
            or body[0]
            or int.from_bytes(body[1:5], "big") != len(body) - _PREFIX_BYTES
        ):
            raise WireError("the answer is not exactly one plain message")
        return body[_PREFIX_BYTES:]


def _client() -> "H2Connection":
    from h2.config import H2Configuration  # noqa: PLC0415  only where there is a kubelet
    from h2.connection import H2Connection  # noqa: PLC0415
    from h2.settings import SettingCodes, Settings  # noqa: PLC0415

    http = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    http.local_settings = Settings(
        client=True,
        initial_values={
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW_BYTES,
            SettingCodes.MAX_HEADER_LIST_SIZE: _MOST_HEADER_BYTES,
        },
    )
    return http


@contextmanager
def _understood() -> Iterator[None]:
    from h2.exceptions import H2Error  # noqa: PLC0415  only where there is a kubelet

    try:
        yield
    except H2Error as error:
        raise WireError(f"this is not HTTP/2 as gRPC speaks it ({type(error).__name__})") from None


def _text(word: str | bytes) -> str:
    return word if isinstance(word, str) else word.decode("utf-8", "replace")


def _too_late() -> WireError:
    return WireError("no answer in time", Status.DEADLINE_EXCEEDED)
