"""A strict forward proxy on loopback: absolute addresses for http, CONNECT for https, nothing else.

It keeps what it was asked, and what it takes for a fault of the client.
"""

import base64
import http.client
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from urllib.parse import urlsplit

LONGEST_SECONDS = 20
OF_THE_HOP = {
    "proxy-authorization",
    "proxy-connection",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
}


@dataclass
class Proxy:
    """What it asks for (`user:password`, or nothing), how it refuses, and what it saw."""

    url: str = ""
    wants: str = ""
    refuses: Callable[["Handler"], None] | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def with_user(self, user: str) -> str:
        """Give its address with a user and a password."""
        return self.url.replace("://", f"://{user}@")


class Handler(BaseHTTPRequestHandler):
    """Takes one connection of a client."""

    protocol_version = "HTTP/1.1"
    proxy: Proxy
    timeout = LONGEST_SECONDS

    def do_POST(self) -> None:
        """Pass a request on to an http store."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        target = urlsplit(self.path)
        if self._is_refused():
            return
        if target.scheme != "http" or self.headers.get_all("Host") != [target.netloc]:
            self.fault(f"{self.command} {self.path} with Host {self.headers.get_all('Host')}")
            return
        origin = f"{target.path or '/'}?{target.query}" if target.query else target.path or "/"
        headers = {name: text for name, text in self.headers.items() if name.lower() not in OF_THE_HOP}
        store = http.client.HTTPConnection(target.netloc, timeout=LONGEST_SECONDS)
        try:
            store.request(self.command, origin, body or None, headers)
            answer = store.getresponse()
            self.say(answer.status, answer.read().decode())
        except OSError as error:
            self.say(502, f"cannot reach the store: {error}")
        finally:
            store.close()

    do_GET = do_POST  # noqa: N815  the server's name for it

    def do_CONNECT(self) -> None:
        """Make a tunnel to an https store."""
        host, colon, port = self.path.rpartition(":")
        if self._is_refused():
            return
        if not colon or not port.isdecimal() or "/" in host:
            self.fault(f"CONNECT {self.path}")
            return
        try:
            store = socket.create_connection((host, int(port)), timeout=LONGEST_SECONDS)
        except OSError as error:
            self.say(502, f"cannot reach the store: {error}")
            return
        self.send_response(200, "Connection established")
        self.end_headers()
        self.close_connection = True
        with store, suppress(OSError):
            _join(self.connection, store)

    def _is_refused(self) -> bool:
        proxy = self.proxy
        proxy.asked.append((self.command, self.path))
        if proxy.refuses:
            self.close_connection = True
            proxy.refuses(self)
            return True
        shown = self.headers.get_all("Proxy-Authorization") or []
        wanted = [f"Basic {base64.b64encode(proxy.wants.encode()).decode()}"] if proxy.wants else []
        if shown != wanted:
            self.say(407, "who are you", Proxy_Authenticate='Basic realm="hall2"')
        return shown != wanted

    def fault(self, what: str) -> None:
        """Keep what no client of a proxy may do."""
        self.proxy.faults.append(what)
        self.say(400, what)

    def say(self, status: int, text: str, **headers: str) -> None:
        """Answer."""
        self.send_response(status)
        if self.close_connection:
            headers["Connection"] = "close"  # else a client may use it again as it goes away
        for name, value in {"Content-Length": str(len(text.encode())), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if status not in (204, 304):
            self.wfile.write(text.encode())

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse whatever else it is asked for."""
        del explain
        self.fault(f"{code} {message}: {self.requestline[:100]}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _join(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until an end is reached."""
    with selectors.DefaultSelector() as ready:
        ready.register(one, selectors.EVENT_READ, other)
        ready.register(other, selectors.EVENT_READ, one)
        while found := ready.select(LONGEST_SECONDS):
            for key, _ in found:
                source, sink = key.fileobj, key.data
                assert isinstance(source, socket.socket)
                piece = source.recv(65_536)
                if not piece:
                    return
                sink.sendall(piece)


@contextmanager
def proxying(
    wants: str = "",
    refuses: Callable[[Handler], None] | None = None,
    context: SSLContext | None = None,
) -> Iterator[Proxy]:
    """Run a proxy; with a context it is spoken to by TLS. Fails if a client did what none may."""
    proxy = Proxy(wants=wants, refuses=refuses)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"proxy": proxy}))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    proxy.url = f"http{'s' if context else ''}://localhost:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
    assert proxy.faults == []
