"""The node's web server: /metrics, the status page, and health for supervisors.

It answers from memory only. Threads are bounded: what comes beyond them is told to come back.
"""

import contextlib
import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6, SHUT_RDWR, getaddrinfo, socket
from typing import Any

from agent.errors import SettingsError
from agent.view import View
from exporters.homepage import homepage
from exporters.page import Pages

THREADS = 16
_BUSY = b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"
WAKE_SECONDS = 60.0
"""A server that wakes oftener for nothing costs as much as the driver's calls."""
CLIENT_SECONDS = 10.0
LARGEST_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """Where to listen: loopback unless told otherwise. Port 0 takes any free one."""

    listen: str = "127.0.0.1"
    port: int = 9740

    def __post_init__(self) -> None:
        """Refuse values that cannot be meant."""
        if not 0 <= self.port <= LARGEST_PORT:
            raise SettingsError(f"[web] port must lie between 0 and {LARGEST_PORT}")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], family: int) -> None:
        self.address_family = family
        self._free = threading.BoundedSemaphore(THREADS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  as in the base
        if not self._free.acquire(blocking=False):
            with contextlib.suppress(OSError):
                request.settimeout(1)
                request.sendall(_BUSY)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:  # noqa: ANN401
        """Say nothing: a client that went away is no event of ours."""


class Web:
    """Serves pages in the background from `start` to `stop`."""

    def __init__(self, settings: WebSettings, pages: Pages, version: str) -> None:
        """Bind the port. Raises SettingsError when it cannot be had."""
        try:
            family = getaddrinfo(settings.listen, settings.port)[0][0]
            self._server = _Server(
                (settings.listen, settings.port),
                _handler(pages, version),
                AF_INET6 if family == AF_INET6 else family,
            )
        except (OSError, OverflowError, UnicodeError) as error:
            raise SettingsError(
                f"cannot listen on {settings.listen}:{settings.port} ({getattr(error, 'strerror', error)}): "
                "stop what uses it, or choose another with --port"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(WAKE_SECONDS,), name="web", daemon=True
        )
        self.port: int = self._server.server_address[1]

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        if self._thread.is_alive():
            stopping = threading.Thread(target=self._server.shutdown, name="web-stop", daemon=True)
            stopping.start()
            while stopping.is_alive():  # the server looks whether it shall stop only when something wakes it
                with contextlib.suppress(OSError):
                    self._server.socket.shutdown(SHUT_RDWR)
                stopping.join(0.02)
            self._thread.join()
        self._server.server_close()


def _handler(pages: Pages, version: str) -> type[BaseHTTPRequestHandler]:
    answers: dict[str, Callable[[str], tuple[HTTPStatus, bytes, str]]] = {
        "/": lambda _: (HTTPStatus.OK, homepage(pages.fresh(), version), "text/html; charset=utf-8"),
        "/metrics": lambda accept: (HTTPStatus.OK, *pages.metrics(accept)),
        "/-/healthy": lambda _: (HTTPStatus.OK, b"gputally runs\n", "text/plain; charset=utf-8"),
        "/-/ready": lambda _: _ready(pages),
        "/api/v1/status": lambda _: (HTTPStatus.OK, _status(pages.fresh()), "application/json"),
    }

    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_SECONDS
        server_version = f"gputally/{version}"
        sys_version = ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            answer = answers.get(path)
            if answer is None:
                self._send(
                    HTTPStatus.NOT_FOUND, b"no such page: try / or /metrics\n", "text/plain; charset=utf-8"
                )
            else:
                self._send(*answer(self.headers.get("Accept", "")))

        def do_HEAD(self) -> None:
            self.do_GET()

        def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as in the base
            """Log nothing: scrapes come every few seconds for years."""

    return Handler


def _ready(pages: Pages) -> tuple[HTTPStatus, bytes, str]:
    if pages.fresh() is None:
        return HTTPStatus.SERVICE_UNAVAILABLE, b"no fresh interval\n", "text/plain; charset=utf-8"
    return HTTPStatus.OK, b"ready\n", "text/plain; charset=utf-8"


def _status(view: View | None) -> bytes:
    if view is None:
        return b'{"node":null,"gpus":[]}\n'
    gpus = [
        {
            **asdict(gpu),
            "state": view.states.get(uuid),
            "holders": [{**asdict(one), "slice": piece} for one, piece in view.holders.get(uuid, ())],
            "reading": _reading(view, uuid),
        }
        for uuid, gpu in view.gpus.items()
    ]
    body = {
        "node": view.tick.node,
        "start_ms": view.tick.start_ms,
        "end_ms": view.tick.end_ms,
        "absent": view.health.absent,
        "gpus": gpus,
    }
    return json.dumps(body).encode() + b"\n"


def _reading(view: View, uuid: str) -> dict[str, object] | None:
    reading = view.readings.get(uuid)
    if reading is None:
        return None
    return {name: value for name, value in asdict(reading).items() if name != "uuid"}
