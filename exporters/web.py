"""The node's web server: metrics, the status page, and health for supervisors.

It answers from memory only. With a web-config file it speaks TLS and asks for passwords, for every page.
"""

import json
import socket
import ssl
import sys
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from http import HTTPStatus
from typing import NamedTuple

from agent.clock import now_ms
from agent.errors import SettingsError
from agent.view import View
from exporters.dcgm import NAMINGS
from exporters.homepage import homepage
from exporters.page import OPENMETRICS, Pages
from exporters.web_auth import Verdict
from exporters.web_client import Client, Need, Talk
from exporters.web_config import WebConfig, WebConfigFile
from exporters.web_request import Answer, BadRequest, Request, encode, read
from exporters.web_server import Server
from exporters.web_shelf import Shelf

_Headers = Mapping[str, str]
LARGEST_PORT = 65_535
SWITCH_SECONDS = 0.0002
"""How long the interpreter lets a tick or a page in the making delay each step of a scrape."""

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


class _Said(NamedTuple):
    """What was sent last, and all that it depends on."""

    answer: Answer
    config: WebConfig
    with_body: bool
    seconds: int
    data: bytes


class Web:
    """Serves pages in the background from `start` to `stop`."""

    def __init__(
        self, settings: WebSettings, pages: Pages, version: str, *, like: "Web | None" = None
    ) -> None:
        """Read the web-config file and bind the port, or share that of another.

        Raises SettingsError when either cannot be had.
        """
        self._file = WebConfigFile(settings.config_file) if settings.config_file else None
        self._plain = WebConfig()
        self._name = f"gputally/{version}"
        self._said = _Said(_NO_PAGE, self._plain, with_body=True, seconds=0, data=b"")
        self._pages = pages
        self._routes, self._ready, self._shelves = _site(pages, version, settings.dcgm_names)
        self.listening: socket.socket = like.listening.dup() if like else _bind(settings)
        self._server = Server(self.listening, self._talk)
        self.port: int = self.listening.getsockname()[1]

    def start(self) -> None:
        """Begin to answer."""
        sys.setswitchinterval(SWITCH_SECONDS)
        self._pages.tell = self._renew
        self._server.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        self._server.stop()

    def _renew(self) -> None:
        """Have the pages made that will be asked for, so that no scraper waits for that."""
        for shelf in self._shelves:
            if shelf.is_wanted():
                self._server.employ(partial(shelf.take, compressed=False))

    def _talk(self, client: Client) -> Talk:
        config = self._plain if self._file is None else (yield from _now(self._file))
        if config.tls is not None:
            secure = yield from client.secure(config.tls)
            if config.allowed_sans and not config.allowed_sans & _sans(secure):
                return
        with_body = True
        try:
            request = yield from read(client.receive)
            client.is_done = request is None or request.is_last
            if request is None:
                return
            with_body = request.method != "HEAD"
            answer = yield from self._answer(request, config)
        except BadRequest as bad:
            answer = bad.answer
        yield from client.send(self._encoded(answer, config, with_body=with_body))

    def _encoded(self, answer: Answer, config: WebConfig, *, with_body: bool) -> bytes:
        """Write an answer, or give what was written for the last client, if all is the same as then."""
        said, now_seconds = self._said, now_ms() // 1000
        if (
            said.answer is answer
            and said.config is config
            and said.with_body == with_body
            and said.seconds == now_seconds
        ):
            return said.data
        data = encode(answer, self._name, config.headers, now_seconds, with_body=with_body)
        self._said = _Said(answer, config, with_body, now_seconds, data)
        return data

    def _answer(self, request: Request, config: WebConfig) -> Generator[Need, None, Answer]:
        keeper, told = config.doorkeeper, request.headers.get("authorization", "")
        if keeper is not None:
            verdict = keeper.recall(told)
            if verdict is None:
                yield Need.WORKER
                verdict = keeper.judge(told)
            if verdict is not Verdict.WELCOME:
                return _WAIT if verdict is Verdict.BUSY else _UNKNOWN
        route, ready = self._routes.get(request.path), self._ready.get(request.path)
        if route is None:
            return _NO_PAGE
        answer = ready(request.headers) if ready else None
        if answer is None:
            yield Need.WORKER
            answer = route(request.headers)
        return answer


def _takes_gzip(headers: _Headers) -> bool:
    return _allows_gzip(headers.get("accept-encoding", ""))


@lru_cache(maxsize=64)
def _allows_gzip(accepted: str) -> bool:
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


def _now(file: WebConfigFile) -> Generator[Need, None, WebConfig]:
    config = file.unchanged()
    if config is None:
        yield Need.WORKER
        config = file.current()
    return config


def _sans(secure: ssl.SSLSocket) -> frozenset[str]:
    told = secure.getpeercert() or {}
    return frozenset(str(entry[1]) for entry in told.get("subjectAltName", ()))


class _Site(NamedTuple):
    """What makes the answer of each path, what has it at once or gives None, and where pages are kept."""

    routes: Mapping[str, Callable[[_Headers], Answer]]
    ready: Mapping[str, Callable[[_Headers], Answer | None]]
    shelves: tuple[Shelf, ...]


def _site(pages: Pages, version: str, naming: str) -> _Site:
    opened = Shelf(lambda: pages.metrics(OPENMETRICS), pages.number)
    plain = Shelf(lambda: pages.metrics(""), pages.number)
    dcgm = Shelf(lambda: pages.dcgm(naming), pages.number)

    def metrics(headers: _Headers) -> Shelf:
        wants = OPENMETRICS.partition(";")[0] in headers.get("accept", "").lower()
        return opened if wants else plain

    cheap: Mapping[str, Callable[[_Headers], Answer]] = {
        "/-/healthy": lambda _: Answer(HTTPStatus.OK, b"gputally runs\n"),
        "/-/ready": lambda _: _ready(pages),
    }
    routes: Mapping[str, Callable[[_Headers], Answer]] = {
        "/": lambda _: Answer(HTTPStatus.OK, homepage(pages.fresh(), version), "text/html; charset=utf-8"),
        "/metrics": lambda headers: metrics(headers).take(compressed=_takes_gzip(headers)),
        "/metrics/dcgm": lambda headers: dcgm.take(compressed=_takes_gzip(headers)),
        "/api/v1/status": lambda _: Answer(HTTPStatus.OK, _status(pages.fresh()), "application/json"),
        **cheap,
    }
    ready: Mapping[str, Callable[[_Headers], Answer | None]] = {
        "/metrics": lambda headers: metrics(headers).ready(compressed=_takes_gzip(headers)),
        "/metrics/dcgm": lambda headers: dcgm.ready(compressed=_takes_gzip(headers)),
        **cheap,
    }
    return _Site(routes, ready, (opened, plain, dcgm))


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
