"""Servers on a Unix socket that do not do what is expected of them."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Play = Callable[[socket.socket, threading.Event], None]

SETTINGS, HEADERS, DATA, RST_STREAM, GOAWAY, PING, CONTINUATION = 4, 1, 0, 3, 7, 6, 9
END_STREAM, END_HEADERS = 1, 4

STATUS_200 = b"\x88"  # of HPACK's table
HELLO = b"\0\0\0\4\0\0\0\0\0"


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 1) -> bytes:
    """Make a frame of HTTP/2."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def header(name: str, value: str) -> bytes:
    """Make a header as HPACK has it without any table."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def answer(message: bytes, *, prefix: bytes | None = None, status: str = "0") -> bytes:
    """Make a whole answer of gRPC."""
    body = (b"\0" + len(message).to_bytes(4, "big") if prefix is None else prefix) + message
    return (
        HELLO
        + frame(HEADERS, STATUS_200 + header("content-type", "application/grpc"), flags=END_HEADERS)
        + frame(DATA, body)
        + frame(HEADERS, header("grpc-status", status), flags=END_HEADERS | END_STREAM)
    )


def saying(*pieces: bytes) -> Play:
    """Say something whoever asks, and hang up when the other side has."""

    def play(peer: socket.socket, _over: threading.Event) -> None:
        for piece in pieces:
            peer.sendall(piece)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(65_536):
            pass

    return play


def repeating(piece: bytes, first: bytes = b"", pause_seconds: float = 0.0) -> Play:
    """Say something, then another thing again and again."""

    def play(peer: socket.socket, over: threading.Event) -> None:
        peer.sendall(first)
        while not over.wait(pause_seconds):
            peer.sendall(piece)

    return play


def silent(_peer: socket.socket, over: threading.Event) -> None:
    """Accept, and say nothing."""
    over.wait()


@contextmanager
def rude(path: Path, play: Play) -> Iterator[None]:
    """Play to everyone who connects, one after the other."""
    over = threading.Event()
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    door.bind(str(path))
    door.listen(4)

    def serve() -> None:
        while not over.is_set():
            with suppress(OSError):
                peer, _ = door.accept()
                with peer:
                    peer.settimeout(30)
                    play(peer, over)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        door.shutdown(socket.SHUT_RDWR)
        thread.join(30)
        door.close()
        path.unlink()
