"""A rude way to a store: stands before a real one, and does what networks and servers do on a bad day."""

import gzip
import random
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cramjam import snappy

from tests.stores.server import Server, program

DRIP_SECONDS = 0.2
_KEY = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
_AT_ONCE = b"\1\0\0\0\0\0\0\0"
"""A linger of nothing: closing resets the connection."""


class Fate(StrEnum):
    """What becomes of a request."""

    WELL = "it is forwarded, and so is the answer"
    LOST_ANSWER = "the store takes it, and the connection is reset"
    CUT = "the connection is reset in the middle of the body"
    HALF_CUT = "the store takes half of it, and the connection is reset in the middle of the answer"
    HALF_ERROR = "the store takes half of it and says 500"
    LIE = "the store takes half of it and says 204"
    BUSY = "429, come back later"
    ERROR = "500"
    AWAY = "503"
    BABBLE = "the answer is no HTTP"
    SLOW = "the answer never ends"


TRANSIENT = tuple(fate for fate in Fate if fate not in (Fate.WELL, Fate.LIE))
"""All that may happen to a store that does not lie."""
WHOLE = tuple(fate for fate in TRANSIENT if fate not in (Fate.HALF_CUT, Fate.HALF_ERROR))
"""Likewise, of a store that takes a body as a whole or not at all."""


class Rude:
    """What the way does: `fate` decides on each request, `poison` names what the store will never take."""

    def __init__(self, store: Server, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self.fate: Callable[[], Fate] = lambda: Fate.WELL
        self.poison: Callable[[str], bool] = lambda _: False
        self.met: dict[Fate, int] = dict.fromkeys(Fate, 0)
        self.port = 0
        self.expired = False
        self.contexts: Mapping[bool, ssl.SSLContext] = {}

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://localhost:{self.port}"

    @property
    def authority(self) -> str:
        """The certificates to believe, of which one has expired."""
        return str(self._folder / "authority.pem")

    def forward(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Hand a request to the store; the v2 path becomes that of InfluxDB 1.x, as later servers have it."""
        asked = urlsplit(path)
        if asked.path == "/api/v2/write":
            query = {name: one for name, (one,) in parse_qs(asked.query, strict_parsing=True).items()}
            assert query.keys() == {"org", "bucket", "precision"}, query
            path = f"/write?db={query['bucket']}&precision={query['precision']}"
        kept = {name: text for name, text in headers.items() if name.lower().startswith(("content-", "x-"))}
        kept.pop("Content-Length", None)
        return self._store.ask("POST", path, body, kept)


class _Handler(BaseHTTPRequestHandler):
    rude: Rude

    def setup(self) -> None:
        self.request = self.rude.contexts[self.rude.expired].wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()
        self.request.close()

    def do_POST(self) -> None:
        fate = self.rude.fate()
        self.rude.met[fate] += 1
        length = int(self.headers["Content-Length"])
        if fate is Fate.CUT:
            self.rfile.read(length // 2)
            return self._reset()
        body = self.rfile.read(length)
        if self.rude.poison(readable(body)):
            return self._say(400, b"unable to parse: bad line")
        if fate in (Fate.WELL, Fate.LOST_ANSWER):
            status, text = self.rude.forward(self.path, body, dict(self.headers))
            return self._say(status, text) if fate is Fate.WELL else self._reset()
        if fate in (Fate.HALF_CUT, Fate.HALF_ERROR, Fate.LIE):
            status, text = self.rude.forward(self.path, half(body), dict(self.headers))
            assert status in (200, 204), text
        return self._misbehave(fate)

    def _misbehave(self, fate: Fate) -> None:
        if fate is Fate.HALF_CUT:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of ")
            self._reset()
        elif fate is Fate.BABBLE:
            self.wfile.write(b"\x16\x03 nothing that one could read\r\n\r\n")
        elif fate is Fate.SLOW:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            with suppress(OSError):
                for _ in range(1000):
                    self.wfile.write(b".")
                    time.sleep(DRIP_SECONDS)
        else:
            self._say({Fate.LIE: 204, Fate.BUSY: 429, Fate.AWAY: 503}.get(fate, 500), b"")

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.connection.close()
        self.close_connection = True

    def _say(self, status: int, text: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0" if status == 204 else str(len(text)))
        if status == 429:
            self.send_header("Retry-After", "1")
        self.end_headers()
        if status != 204:
            self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def readable(body: bytes) -> str:
    """Give what a body says, packed or not, so that one may look for words in it."""
    if body[:2] == b"\x1f\x8b":
        return gzip.decompress(body).decode()
    return bytes(snappy.decompress_raw(body)).decode("latin-1")


def half(body: bytes) -> bytes:
    """Give the first half of a body: its first lines, or its first series."""
    if body[:2] == b"\x1f\x8b":
        lines = gzip.decompress(body).splitlines(keepends=True)
        return gzip.compress(b"".join(lines[: len(lines) // 2]))
    whole = bytes(snappy.decompress_raw(body))
    ends = [0]
    while ends[-1] < len(whole):  # each series is one field: its tag, its length, itself
        length, at, shift = 0, ends[-1] + 1, 0
        while True:
            length |= (whole[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if whole[at - 1] < 128:
                break
        ends.append(at + length)
    return bytes(snappy.compress_raw(whole[: ends[len(ends) // 2]]))


@contextmanager
def rude(store: Server, folder: Path) -> Iterator[Rude]:
    """Stand before a store, with TLS; certificates are made in a folder."""
    one = Rude(store, folder)
    one.contexts = {False: _context(folder, "good", 2), True: _context(folder, "expired", -1)}
    both = [(folder / f"{name}.pem").read_text() for name in ("good", "expired")]
    (folder / "authority.pem").write_text("".join(both))
    handler = type("Bound", (_Handler,), {"rude": one})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads, server.block_on_close = True, False
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    one.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield one
    finally:
        server.shutdown()
        server.server_close()


def _context(folder: Path, name: str, days: int) -> ssl.SSLContext:
    openssl = program("openssl", "openssl")
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    for command in (
        f"{_KEY} -subj /CN={name} -keyout {name}.key -out asked",
        f"x509 -req -in asked -signkey {name}.key -days {days} -extfile names -out {name}.pem",
    ):
        subprocess.run([openssl, *command.split()], cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


def by_chance(chance: random.Random, fates: tuple[Fate, ...], share: float) -> Callable[[], Fate]:
    """Make a day on which so many of all requests fare ill: each fate in its turn, in a random order."""
    deck: list[Fate] = []

    def deal() -> Fate:
        if chance.random() >= share:
            return Fate.WELL
        if not deck:
            deck.extend(chance.sample(fates, len(fates)))
        return deck.pop()

    return deal
