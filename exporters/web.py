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
from exporters.page import Pages
from exporters.web_auth import Verdict
from exporters.web_config import WebConfig, WebConfigFile
from exporters.web_request import Answer, BadRequest, Request, encode, read
from exporters.web_server import Client, Server

LARGEST_PORT = 65_535
SWITCH_SECONDS = 0.0005
"""How long the interpreter lets a tick or a page in the making delay each step of a scrape."""

_WORTH_SQUEEZING = 2_000
_FAST = 2
_CHALLENGE = (("WWW-Authenticate", 'Basic realm="gputally"'),)
_UNKNOWN = Answer(HTTPStatus.UNAUTHORIZED, b"who are you? use basic authentication\n", headers=_CHALLENGE)
_WAIT = Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"too many passwords\n", headers=(("Retry-After", "5"),))
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
        self._squeezer = _Squeezer()
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
        answer = route(request.headers.get("accept", ""))
        if len(answer.body) < _WORTH_SQUEEZING or not _takes_gzip(request.headers.get("accept-encoding", "")):
            return answer
        body = self._squeezer.squeezed(request.path, answer)
        return answer._replace(body=body, headers=(("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")))


class _Squeezer:
    """Compresses each page once for as long as it stays the same."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages: dict[tuple[str, str], tuple[bytes, bytes]] = {}

    def squeezed(self, path: str, answer: Answer) -> bytes:
        """Give a page's body compressed; pages are few, as are their formats."""
        key = path, answer.kind
        with self._lock:
            body, small = self._pages.get(key, (b"", b""))
            if body is not answer.body:
                small = gzip.compress(answer.body, _FAST, mtime=0)
                self._pages[key] = answer.body, small
            return small


def _takes_gzip(accepted: str) -> bool:
    for part in accepted.lower().split(","):
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


def _routes(pages: Pages, version: str, naming: str) -> Mapping[str, Callable[[str], Answer]]:
    return {
        "/": lambda _: Answer(HTTPStatus.OK, homepage(pages.fresh(), version), "text/html; charset=utf-8"),
        "/metrics": lambda accept: Answer(HTTPStatus.OK, *pages.metrics(accept)),
        "/metrics/dcgm": lambda _: Answer(HTTPStatus.OK, *pages.dcgm(naming)),
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
