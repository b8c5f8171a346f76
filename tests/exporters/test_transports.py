"""Transports: whatever a store or a network does is an outcome, in time, and secrets stay secret."""

import gzip
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which

import pytest

from exporters.destination import ExporterSettings
from exporters.fleet import shipment_of, telling_of
from exporters.settle import Outcome, Transport, Verdict, seconds_of, settled

KINDS = ("influx", "influx1", "remote_write", "otlp", "alertmanager", "webhook")
_KEY = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1"
BODY = b"gpu,node=n busy_ratio=0.5 1767700800000\n" * 50


class Seen:
    """What a stand-in of a store saw, and what it answers."""

    def __init__(self, act: Callable[["Handler"], None]) -> None:
        self.act = act
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.url = ""


class Handler(BaseHTTPRequestHandler):
    """Reads a request and lets the test act."""

    seen: Seen

    def do_POST(self) -> None:
        """Take a batch."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        self.seen.act(self)

    def say(self, status: int, text: str = "", **headers: str) -> None:
        """Answer."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text.encode())), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def standing(act: Callable[[Handler], None], context: ssl.SSLContext | None = None) -> Iterator[Seen]:
    """Run a stand-in of a store."""
    seen = Seen(act)
    handler = type("Bound", (Handler,), {"seen": seen})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    seen.url = f"http{'s' if context else ''}://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()


def transport(kind: str, url: str, **more: object) -> Transport:
    """Make the transport of a kind."""
    needed: dict[str, object] = {"influx": {"bucket": "gpu"}, "influx1": {"database": "gpu"}}.get(kind, {})  # type: ignore[assignment]
    settings = ExporterSettings(name="x", kind=kind, url=url, **{"timeout_seconds": 2.0, **needed, **more})  # type: ignore[arg-type]
    return telling_of(settings).post if settings.tells else shipment_of(settings).transport


def sent(kind: str, url: str, **more: object) -> Outcome:
    """Send a batch."""
    one = transport(kind, url, **more)
    try:
        return one.send(BODY)
    finally:
        one.close()


@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_batch_arrives_with_what_its_protocol_wants(kind: str) -> None:
    """Path, query, encoding and headers are those of the protocol."""
    with standing(lambda handler: handler.say(204)) as seen:
        outcome = sent(kind, seen.url + ("/push" if kind == "remote_write" else ""))
    assert outcome.verdict is Verdict.DELIVERED
    ((path, headers, body),) = seen.requests
    if kind == "remote_write":
        assert path == "/push"
        assert headers["content-encoding"] == "snappy"
        assert headers["x-prometheus-remote-write-version"] == "0.1.0"
        assert headers["content-type"] == "application/x-protobuf"
        assert body == BODY
    else:
        assert path.startswith("/api/v2/write?" if kind == "influx" else "/write?")
        assert "precision=ms" in path
        assert headers["content-encoding"] == "gzip"
        assert gzip.decompress(body) == BODY


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, "delivered"),
        (400, "refused"),
        (413, "refused"),
        (422, "refused"),
        (401, "unreachable"),
        (403, "unreachable"),
        (404, "unreachable"),
        (429, "unreachable"),
        (500, "unreachable"),
        (503, "unreachable"),
        (302, "unreachable"),
    ],
)
def test_a_status_settles_a_batch(kind: str, status: int, verdict: str) -> None:
    """The reason carries the status and what the store says."""
    headers = {"Location": "http://127.0.0.1:9/"} if status == 302 else {"Retry_After": "7"}
    with standing(lambda handler: handler.say(status, "the bucket is full\nof water", **headers)) as seen:
        outcome = sent(kind, seen.url)
    assert outcome.verdict == verdict
    assert len(seen.requests) == 1
    if verdict != "delivered":
        assert f"HTTP {status}" in outcome.reason
        assert outcome.reason.isprintable()
    if verdict == "unreachable" and status != 302:
        assert outcome.retry_seconds == 7.0


def _hangs(handler: Handler) -> None:
    handler.connection.settimeout(20)
    handler.rfile.read(1)


def _resets(handler: Handler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()


def _babbles(handler: Handler) -> None:
    handler.wfile.write(b"\x16\x03 not HTTP at all\r\n\r\n")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("act", [_hangs, _resets, _babbles], ids=lambda act: act.__name__)
def test_a_store_that_misbehaves_is_unreachable(kind: str, act: Callable[[Handler], None]) -> None:
    """No answer, a reset in the middle, and what is no HTTP: an outcome with a reason, within the time."""
    with standing(act) as seen:
        began = time.monotonic()
        outcome = sent(kind, seen.url)
        assert time.monotonic() - began < 15
    assert outcome.verdict is Verdict.UNREACHABLE
    assert outcome.reason


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_that_is_not_there_is_unreachable(kind: str) -> None:
    """No such name, nothing listens, no route: each says so."""
    for url in ("http://no-such-name.invalid:8086", "http://127.0.0.1:9"):
        outcome = sent(kind, url)
        assert outcome.verdict is Verdict.UNREACHABLE
        assert outcome.reason


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_read_anew_and_never_told(kind: str, tmp_path: Path) -> None:
    """A rotated token counts at once; one that cannot be read is an outcome, and no reason holds it."""
    token = tmp_path / "token"
    token.write_text("s3cr3t-one\n")
    with standing(lambda handler: handler.say(401, "who are you")) as seen:
        one = transport(kind, seen.url, token_file=str(token))
        outcomes = [one.send(BODY)]
        token.write_text("s3cr3t-two\n")
        outcomes.append(one.send(BODY))
        token.unlink()
        outcomes.append(one.send(BODY))
        token.write_bytes(b"\xff\xfe")
        outcomes.append(one.send(BODY))
        one.close()
    scheme = "Token" if kind.startswith("influx") else "Bearer"
    told = [headers["authorization"] for _, headers, _ in seen.requests]
    assert told == [f"{scheme} s3cr3t-one", f"{scheme} s3cr3t-two"]
    assert {outcome.verdict for outcome in outcomes} == {Verdict.UNREACHABLE}
    assert not [outcome for outcome in outcomes if "s3cr3t" in outcome.reason]


@pytest.mark.parametrize("kind", KINDS)
def test_basic_authentication_and_own_headers_are_sent(kind: str, tmp_path: Path) -> None:
    """User, password of a file, and a tenant."""
    (tmp_path / "password").write_text("pa:ss\n")
    with standing(lambda handler: handler.say(204)) as seen:
        more = {"username": "ada", "password_file": str(tmp_path / "password")}
        assert sent(kind, seen.url, headers={"X-Scope-OrgID": "hall2"}, **more).verdict is Verdict.DELIVERED
    ((_, headers, _),) = seen.requests
    assert headers["authorization"] == "Basic YWRhOnBhOnNz"
    assert headers["x-scope-orgid"] == "hall2"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[Path, ssl.SSLContext]]:
    """Make certificates of localhost that sign themselves, for so many days."""
    openssl = which("openssl")
    if openssl is None:
        pytest.skip("not installed: openssl")

    def make(days: int) -> tuple[Path, ssl.SSLContext]:
        folder = tmp_path_factory.mktemp("tls")
        (folder / "names").write_text("subjectAltName=DNS:localhost")
        for command in (
            f"{_KEY} -nodes -subj /CN=localhost -keyout key -out asked",
            f"x509 -req -in asked -signkey key -days {days} -extfile names -out cert",
        ):
            subprocess.run([openssl, *command.split()], cwd=folder, check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert", folder / "key")
        return folder / "cert", context

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_tls_is_checked(kind: str, certificate: Callable[[int], tuple[Path, ssl.SSLContext]]) -> None:
    """Our own authority is believed where it is named, and nobody else's."""
    authority, context = certificate(2)
    with standing(lambda handler: handler.say(204), context) as seen:
        assert sent(kind, seen.url, ca_file=str(authority)).verdict is Verdict.DELIVERED
        stranger = sent(kind, seen.url)
        other_name = sent(kind, seen.url.replace("localhost", "127.0.0.1"), ca_file=str(authority))
    assert stranger.verdict is other_name.verdict is Verdict.UNREACHABLE
    assert "certificate" in stranger.reason.lower()
    assert len(seen.requests) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_that_expired_is_unreachable(
    kind: str, certificate: Callable[[int], tuple[Path, ssl.SSLContext]]
) -> None:
    """The batch is kept until there is a new one."""
    authority, context = certificate(-1)
    with standing(lambda handler: handler.say(204), context) as seen:
        outcome = sent(kind, seen.url, ca_file=str(authority))
    assert outcome.verdict is Verdict.UNREACHABLE
    assert "expired" in outcome.reason.lower()
    assert seen.requests == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 0.0),
        ("17", 17.0),
        ("9" * 30, 3600.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ],
)
def test_retry_after_is_read_within_reason(text: str, seconds: float) -> None:
    """Seconds, a date of the past, and nonsense."""
    assert seconds_of(text) == seconds


def test_a_date_to_come_is_a_pause() -> None:
    """Up to an hour of it."""
    assert 3000 < seconds_of("Fri, 31 Dec 2100 23:59:59 GMT") <= 3600


@pytest.mark.parametrize(
    ("text", "of_time"),
    [
        ("out of bounds", True),
        ("Out of order sample", True),
        ("too old sample", True),
        ("bad label", False),
        ("", False),
    ],
)
def test_what_is_refused_for_its_time_is_known(text: str, of_time: bool) -> None:  # noqa: FBT001
    """Such a batch is not searched for good rows."""
    assert settled(400, text).of_time is of_time


def test_too_old_for_a_window_is_refused_though_it_is_called_an_error() -> None:
    """Prometheus with a window for late samples answers 500 to older ones; any other 500 may pass."""
    assert settled(500, "too old sample").verdict is Verdict.REFUSED
    assert settled(500, "disk full").verdict is Verdict.UNREACHABLE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [200, 400, 503])
def test_an_answer_that_never_ends_is_cut_off(kind: str, status: int) -> None:
    """A store that drips is waited for as long as for one that says nothing."""

    def drips(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        for _ in range(600):
            handler.wfile.write(b".")
            time.sleep(0.1)

    with standing(drips) as seen:
        began = time.monotonic()
        outcome = sent(kind, seen.url)
        assert time.monotonic() - began < 30
    assert outcome.verdict is Verdict.UNREACHABLE
    assert "does not end" in outcome.reason


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_may_say_what_it_likes(kind: str) -> None:
    """No UTF-8, or a megabyte of it: the status counts, and the reason is short."""

    def babbles(handler: Handler) -> None:
        handler.send_response(400)
        handler.send_header("Content-Length", str(10**6))
        handler.end_headers()
        handler.wfile.write(b"\xff\xfe" * (10**6 // 2))

    with standing(babbles) as seen:
        outcome = sent(kind, seen.url)
    assert outcome.verdict is Verdict.REFUSED
    assert len(outcome.reason) <= 300
