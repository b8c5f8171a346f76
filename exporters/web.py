"""The node's web server: metrics, the status page, and health for supervisors.

It answers from memory only. With a web-config file it speaks TLS and asks for passwords, for every page.
"""

import gzip
import json
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus

from agent.errors import SettingsError
from agent.view import View
from exporters.dcgm import NAMINGS
from exporters.homepage import homepage
from exporters.page import OPENMETRICS, Pages
from exporters.web_auth import Verdict
from exporters.web_config import WebConfig, WebConfigFile
from exporters.web_request import Answer, BadRequest, Request, encode, read
from exporters.web_server import Client, Server

_Route = Callable[[Mapping[str, str]], Answer]
LARGEST_PORT = 65_535
SWITCH_SECONDS = 0.0005
"""How long the interpreter lets a tick or a page in the making delay each step of a scrape."""

_FAST = 2
_CHALLENGE = (("WWW-Authenticate", 'Basic realm="gputally"'),)
_UNKNOWN = Answer(HTTPStatus.UNAUTHORIZED, b"who are you? use basic authentication\n", headers=_CHALLENGE)
_WAIT = Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"too many passwords\n", headers=(("Retry-After", "5"),))
_VARY = (("Vary", "Accept, Accept-Encoding"),)
_SMALL = (*_VARY, ("Content-Encoding", "gzip"))
_NOTHING = (Answer(HTTPStatus.OK, b""), Answer(HTTPStatus.OK, b""))
_NO_PAGE = Answer(HTTPStatus.NOT_FOUND, b"no such page: try / or /metrics\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """Where to listen: loopback unless told otherwise. Port 0 takes any free one.

    `config_file` is a web-config file of the Prometheus world; `dcgm_names` are those of /metrics/dcgm.
    """

    listen: str = "127.0.0.1"
    port: int = 9740
    config_file: str = ""
    dcgm_names: str = NAMINGS[0]

    def __post_init__(self) -> None:
        """Refuse values that cannot be meant."""
        if not 0 <= self.port <= LARGEST_PORT:
            raise SettingsError(f"[web] port must lie between 0 and {LARGEST_PORT}")
        if self.dcgm_names not in NAMINGS:
            raise SettingsError(f"[web] dcgm_names must be one of {', '.join(NAMINGS)}")


class Web:
    """Serves pages in the background from `start` to `stop`."""

    def __init__(self, settings: WebSettings, pages: Pages, version: str) -> None:
        """Read the web-config file and bind the port. Raises SettingsError when either cannot be had."""
        self._file = WebConfigFile(settings.config_file) if settings.config_file else None
        self._plain = WebConfig()
        self._name = f"gputally/{version}"
        self._routes = _routes(pages, version, settings.dcgm_names)
        listening = _bind(settings)
        self._server = Server(listening, self._serve)
        self.port: int = listening.getsockname()[1]

    def start(self) -> None:
        """Begin to answer."""
        sys.setswitchinterval(SWITCH_SECONDS)
        self._server.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        self._server.stop()

    def _serve(self, client: Client) -> None:
        config = self._file.current() if self._file else self._plain
        if config.tls is not None:
            secure = config.tls.wrap_socket(
                client.connection, server_side=True, do_handshake_on_connect=False
            )
            client.connection = secure
            secure.do_handshake()
            if config.allowed_sans and not config.allowed_sans & _sans(secure):
                return
        with_body = True
        try:
            request = read(client.connection.recv)
            client.is_done = True
            if request is None:
                return
            with_body = request.method != "HEAD"
            answer = self._answer(request, config)
        except BadRequest as bad:
            answer = bad.answer
        _send(client.connection, encode(answer, self._name, config.headers, with_body=with_body))

    def _answer(self, request: Request, config: WebConfig) -> Answer:
        if config.doorkeeper is not None:
            verdict = config.doorkeeper.judge(request.headers.get("authorization", ""))
            if verdict is not Verdict.WELCOME:
                return _WAIT if verdict is Verdict.BUSY else _UNKNOWN
        route = self._routes.get(request.path)
        if route is None:
            return _NO_PAGE
        return route(request.headers)


class _Shelf:
    """Keeps a page as it was last made, plain and compressed. Whoever comes while it is made anew gets that.

    Making the page of 8 GPUs takes tens of milliseconds, and everybody else would wait for it.
    """

    def __init__(self, make: Callable[[], tuple[bytes, str]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._kept = _NOTHING

    def take(self, *, compressed: bool) -> Answer:
        """Give the page."""
        kept = self._kept
        if self._lock.acquire(blocking=kept is _NOTHING):
            try:
                kept = self._kept = self._made(self._kept)
            finally:
                self._lock.release()
        return kept[compressed]

    def _made(self, kept: tuple[Answer, Answer]) -> tuple[Answer, Answer]:
        body, kind = self._make()
        if kept[0].body is body:
            return kept
        small = gzip.compress(body, _FAST, mtime=0)
        return Answer(HTTPStatus.OK, body, kind, _VARY), Answer(HTTPStatus.OK, small, kind, _SMALL)


def _takes_gzip(headers: Mapping[str, str]) -> bool:
    for part in headers.get("accept-encoding", "").lower().split(","):
        coding, _, weight = part.replace(" ", "").partition(";")
        if coding in {"gzip", "*"}:
            return weight.rstrip("0.") != "q="
    return False


def _bind(settings: WebSettings) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            settings.listen, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except BaseException:
            listening.close()
            raise
    except (OSError, OverflowError, UnicodeError, ValueError) as error:
        raise SettingsError(
            f"cannot listen on {settings.listen}:{settings.port} ({getattr(error, 'strerror', error)}): "
            "stop what uses it, or choose another with --port"
        ) from error
    return listening


def _send(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data)
    if isinstance(connection, ssl.SSLSocket):
        connection.setblocking(False)  # say goodbye, and do not wait for an answer
        connection.unwrap()


def _sans(secure: ssl.SSLSocket) -> frozenset[str]:
    told = secure.getpeercert() or {}
    return frozenset(str(entry[1]) for entry in told.get("subjectAltName", ()))


def _routes(pages: Pages, version: str, naming: str) -> Mapping[str, _Route]:
    opened, plain = _Shelf(lambda: pages.metrics(OPENMETRICS)), _Shelf(lambda: pages.metrics(""))
    dcgm = _Shelf(lambda: pages.dcgm(naming))

    def metrics(headers: Mapping[str, str]) -> Answer:
        wants = OPENMETRICS.partition(";")[0] in headers.get("accept", "").lower()
        return (opened if wants else plain).take(compressed=_takes_gzip(headers))

    return {
        "/": lambda _: Answer(HTTPStatus.OK, homepage(pages.fresh(), version), "text/html; charset=utf-8"),
        "/metrics": metrics,
        "/metrics/dcgm": lambda headers: dcgm.take(compressed=_takes_gzip(headers)),
        "/-/healthy": lambda _: Answer(HTTPStatus.OK, b"gputally runs\n"),
        "/-/ready": lambda _: _ready(pages),
        "/api/v1/status": lambda _: Answer(HTTPStatus.OK, _status(pages.fresh()), "application/json"),
    }


def _ready(pages: Pages) -> Answer:
    if pages.fresh() is None:
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"no fresh interval\n")
    return Answer(HTTPStatus.OK, b"ready\n")


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
