"""A stand-in of Grafana's HTTP API: a real server that keeps what it is told and refuses what Grafana would.

It is stricter than Grafana in one thing: keys of a body that Grafana would pass over are refused, and so are
paths that it does not have; both are kept in `strange`, so that a test sees them even where they do no harm.
"""

import json
import re
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.dashboards.grafana_kept import ROUTES, Stand
from tests.dashboards.grafana_rules import NoError

Trouble = Callable[["Handler"], None]
TOKEN = "glsa_kNqS0vJ8mZ3xTqk2yRrL5b7WcP1dE4fG_1a2b3c4d"  # noqa: S105  nobody's
DRIP_SECONDS = 0.02


class Handler(BaseHTTPRequestHandler):
    """Answers for a Grafana."""

    stand: Stand
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # answers come in two pieces

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    def do_POST(self) -> None:
        """Answer."""
        self._answer()

    def do_PUT(self) -> None:
        """Answer."""
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        asked = f"{self.command} {path.removeprefix(self.stand.prefix)}"
        self.stand.asked.append(asked)
        for pattern, trouble in self.stand.troubles.items():
            if re.fullmatch(pattern, asked):
                return trouble(self)
        try:
            told = self._told(asked if path.startswith(self.stand.prefix) else path, body)
        except NoError as no:
            if no.is_strange:
                self.stand.strange.append(f"{asked}: {no}")
            return self.say(no.status, no.body)
        return self.say(200, told)

    def _told(self, asked: str, body: bytes) -> object:
        for route, (answer, role, action) in ROUTES.items():
            found = re.fullmatch(route, asked)
            if found and (self.stand.has_alerting or "provisioning" not in route):
                if role:
                    self._sign_in(role, action)
                words: list[Any] = [unquote(one) for one in found.groups()]
                if not asked.startswith("GET "):
                    words.append(self._read(body))
                return answer(self.stand, *words)
        raise NoError(404, "Not found", is_strange=self.stand.has_alerting)

    def _sign_in(self, role: str, action: str) -> None:
        if self.headers.get("Authorization") is None:
            raise NoError(401, "Unauthorized", messageId="auth.unauthorized")
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            raise NoError(401, "Invalid API key", messageId="api-key.invalid")
        self.stand.allow(role, action)

    def _read(self, body: bytes) -> object:
        if self.headers.get_content_type() != "application/json":
            raise NoError(415, "content type is no application/json", is_strange=True)
        try:
            return json.loads(body)
        except ValueError:
            raise NoError(400, "bad request data", is_strange=True) from None

    def say(
        self, status: int, told: object, *, kind: str = "application/json", location: str = "", extra: int = 0
    ) -> None:
        """Send an answer; it may promise more than it has."""
        text = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(text) + extra))
        self.end_headers()
        self.wfile.write(text)
        self.close_connection = extra > 0

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def saying(status: int, told: object, kind: str = "application/json", location: str = "") -> Trouble:
    """Give this answer."""
    return lambda handler: handler.say(status, told, kind=kind, location=location)


def cut(handler: Handler) -> None:
    """Promise more than comes."""
    handler.say(200, b'{"dashboard": ', extra=1000)


def drip(handler: Handler) -> None:
    """Send a byte now and then, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    with suppress(OSError):
        while not handler.stand.over.wait(DRIP_SECONDS):
            handler.wfile.write(b" ")
    handler.close_connection = True


def silent(handler: Handler) -> None:
    """Say nothing, for ever."""
    handler.stand.over.wait()
    handler.close_connection = True


@contextmanager
def grafana(context: ssl.SSLContext | None = None, prefix: str = "") -> Iterator[Stand]:
    """Run one on a free port of loopback; with `context` it speaks TLS."""
    stand = Stand()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"stand": stand}))
    server.daemon_threads, server.block_on_close = True, False
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: _troubled(stand)  # type: ignore[method-assign]
    stand.prefix = prefix
    stand.url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}{prefix}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stand
    finally:
        stand.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _troubled(stand: Stand) -> None:
    """Keep what went wrong here; clients may hang up."""
    error = sys.exception()
    if not isinstance(error, OSError):
        stand.strange.append(repr(error))
