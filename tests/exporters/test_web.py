"""The web server: every route, every kind of bad client, every reason not to start."""

import contextlib
import gzip
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from html.parser import HTMLParser
from http import HTTPStatus

import pytest

from agent.errors import SettingsError
from agent.quantities import QUANTITIES
from exporters import web_server as module
from exporters.page import Pages
from exporters.web import Web, WebSettings
from exporters.web_request import Answer as Said
from exporters.web_server import MOST_CLIENTS, THREADS
from exporters.web_shelf import Shelf
from tests.command.waiting import until
from tests.exporters.views import FULL, GPUS, LOST, NODE, renamed, view

VERSION = "1.2.3"
LOOPBACK = "127.0.0.1"
SECONDS = 30.0
Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
def pages() -> Pages:
    """Give pages that show a view and never become stale."""
    pages = Pages({}, VERSION, lambda: 0.0)
    pages.publish(view())
    return pages


@contextlib.contextmanager
def serving(pages: Pages, listen: str = LOOPBACK) -> Iterator[int]:
    """Serve pages on a free port."""
    with running(pages, listen) as web:
        yield web.port


@contextlib.contextmanager
def running(pages: Pages, listen: str = LOOPBACK) -> Iterator[Web]:
    """Run a web server on a free port."""
    web = Web(WebSettings(listen=listen, port=0), pages, VERSION)
    try:
        web.start()
        yield web
    finally:
        web.stop()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Serve pages that nobody changes, for all tests, and give the port."""
    pages = Pages({}, VERSION, lambda: 0.0)
    pages.publish(view())
    with serving(pages) as port:
        yield port


def ask(port: int, path: str, method: str = "GET", accept: str = "*/*", host: str = LOOPBACK) -> Answer:
    """Ask for a page as a well-behaved client does."""
    with closing(http.client.HTTPConnection(host, port, timeout=SECONDS)) as connection:
        connection.request(method, path, headers={"Accept": accept})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def connect(port: int) -> socket.socket:
    """Connect and say nothing."""
    return socket.create_connection((LOOPBACK, port), timeout=SECONDS)


def send(port: int, data: bytes) -> bytes:
    """Send bytes and give all that comes back; a reset is an end as well."""
    with connect(port) as client:
        with contextlib.suppress(OSError):
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        return rest(client)


def rest(client: socket.socket) -> bytes:
    """Read until the server ends the connection."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := client.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("path", "kind", "part"),
    [
        ("/", "text/html; charset=utf-8", b"<table>"),
        ("/?refresh=1", "text/html; charset=utf-8", b"<table>"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8", b"gpu_busy_ratio{"),
        ("/metrics/dcgm", "text/plain; version=0.0.4; charset=utf-8", b"DCGM_FI_DEV_GPU_UTIL{"),
        ("/-/healthy", "text/plain; charset=utf-8", b"gputally runs"),
        ("/-/ready", "text/plain; charset=utf-8", b"ready"),
        ("/api/v1/status", "application/json", b'"end_ms"'),
    ],
)
def test_every_route_answers(port: int, path: str, kind: str, part: bytes) -> None:
    """Each page comes with its type and its length; HEAD gives the same without the page."""
    status, headers, body = ask(port, path)

    assert (status, headers["Content-Type"], headers["Content-Length"]) == (200, kind, str(len(body)))
    assert part in body
    status, without, nothing = ask(port, path, "HEAD")
    assert (status, nothing) == (200, b"")
    assert {**without, "Date": ""} == {**headers, "Date": ""}


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/api/v1/", "/api/v2/status", "/-/quit"])
def test_what_is_not_there_is_404(port: int, path: str) -> None:
    """An unknown path is answered with where to look instead."""
    status, _, body = ask(port, path)

    assert (status, body) == (404, b"no such page: try / or /metrics\n")
    assert ask(port, path, "HEAD")[::2] == (404, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/metrics/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/..%5c..%5cetc/passwd",
        "/etc/passwd%00.html",
    ],
)
def test_no_path_leads_to_a_file(port: int, path: str) -> None:
    """Dots, slashes and escapes in a path lead nowhere."""
    status, _, body = ask(port, path)

    assert status == 404
    assert b"root" not in body


def test_other_methods_are_refused(port: int) -> None:
    """Nothing can be sent to a node."""
    assert {ask(port, "/metrics", method)[0] for method in ("POST", "PUT", "DELETE", "BREW")} == {405}


def test_without_a_fresh_interval_the_node_is_healthy_but_not_ready() -> None:
    """Before the first tick all pages answer, and only readiness says 503."""
    with serving(Pages({}, VERSION, lambda: 0.0)) as port:
        answers = {path: ask(port, path) for path in ("/", "/metrics", "/-/healthy", "/-/ready")}
        state = ask(port, "/api/v1/status")

    assert {path: answer[0] for path, answer in answers.items()} == {
        "/": 200,
        "/metrics": 200,
        "/-/healthy": 200,
        "/-/ready": 503,
    }
    assert b"the log of gputally says why" in answers["/"][2]
    assert json.loads(state[2]) == {"node": None, "gpus": []}


def test_the_status_tells_all_of_every_gpu(port: int) -> None:
    """The status as JSON holds identity, state, holders and every quantity, null where not told."""
    body = json.loads(ask(port, "/api/v1/status")[2])

    assert body["node"] == NODE
    assert [gpu["uuid"] for gpu in body["gpus"]] == list(GPUS)
    full, sparse, lost = body["gpus"]
    assert (full["state"], sparse["state"], lost["state"]) == ("active", "free", "down")
    assert [holder["owner"] for holder in full["holders"]] == ["alice", "bob"]
    assert set(QUANTITIES) <= set(sparse["reading"])
    assert (sparse["reading"]["busy_ratio"], sparse["reading"]["power_watts"]) == (0.0, None)
    assert lost["reading"]["condition"] == "lost"


def test_the_home_page_shows_zero_and_absence_apart(port: int) -> None:
    """An idle GPU shows 0.0 %, a lost one a dash."""
    rows = ask(port, "/")[2].decode().split("<tr>")[2:]

    assert "87.5 %" in rows[0]
    assert "0.0 %" in rows[1]
    assert "%" not in rows[2]
    assert "down" in rows[2]


class _Tags(HTMLParser):
    """Collects the tags of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take a tag, and every attribute that could run something."""
        self.tags |= {tag, *(name for name, _ in attrs if name.startswith("on"))}

    def handle_data(self, data: str) -> None:
        """Take text."""
        self.text += data


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "'><img src=x onerror=alert(1)>",
        '" onmouseover="alert(1)',
        "</td></table><h1>x",
    ],
)
def test_hostile_names_are_text_on_the_home_page(pages: Pages, name: str) -> None:
    """A process, node or model with markup in its name is shown as it is called, and does nothing."""
    plain, hostile = _Tags(), _Tags()
    seen = renamed(name)
    uuid = f"GPU{name}"
    seen = replace(
        seen,
        gpus={**seen.gpus, uuid: replace(seen.gpus[FULL.uuid], uuid=uuid)},
        readings={**seen.readings, uuid: seen.readings[LOST.uuid]},
    )
    with serving(pages) as port:
        plain.feed(ask(port, "/")[2].decode())
        pages.publish(seen)
        _, headers, body = ask(port, "/")
    hostile.feed(body.decode())

    assert hostile.tags == plain.tags
    assert name in hostile.text
    assert headers["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_many_clients_at_once_get_the_same_page(port: int) -> None:
    """Concurrent scrapes are all answered, with the same bytes."""
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda _: ask(port, "/metrics"), range(200)))

    assert {status for status, _, _ in answers} == {200}
    assert len({body for _, _, body in answers}) == 1


def test_a_client_that_says_nothing_keeps_nobody_waiting(port: int) -> None:
    """While a client is connected and silent, others are served."""
    with connect(port):
        assert ask(port, "/metrics")[0] == 200


def test_a_client_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch, pages: Pages) -> None:
    """A silent client is disconnected when its time is over."""
    monkeypatch.setattr(module, "CLIENT_SECONDS", 0.2)
    with serving(pages) as port, connect(port) as client:
        assert rest(client) == b""


def test_a_client_that_sends_a_byte_now_and_then_is_left(
    monkeypatch: pytest.MonkeyPatch, pages: Pages
) -> None:
    """All the time that a client gets is counted together, not from byte to byte."""
    monkeypatch.setattr(module, "CLIENT_SECONDS", 0.5)
    with serving(pages) as port, connect(port) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
        client.settimeout(0.01)

        def is_cut() -> bool:
            try:
                client.sendall(b"X")
                return client.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        until(is_cut, "the end of a client that drips", 20)


def test_a_client_that_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch, pages: Pages) -> None:
    """A client that takes its answer too slowly is cut off as well, and its thread is free again."""
    monkeypatch.setattr(module, "CLIENT_SECONDS", 0.5)
    with running(pages) as web:
        routes = {"/big": lambda _: Said(HTTPStatus.OK, b"x" * 60_000_000)}
        monkeypatch.setattr(web, "_routes", {**web._routes, **routes})
        with connect(web.port) as client:
            client.sendall(b"GET /big HTTP/1.1\r\n\r\n")
            until(lambda: web._server._clients, "the client to be served")
            until(lambda: not web._server._clients, "the end of a client that does not read", 20)


def test_a_crowd_that_says_nothing_shuts_nobody_out(port: int) -> None:
    """However many are connected and silent, whoever asks is served at once: they hold no threads."""
    with ExitStack() as stack:
        for _ in range(2 * MOST_CLIENTS):
            stack.enter_context(connect(port))
        assert ask(port, "/metrics")[0] == 200


def test_clients_beyond_the_threads_are_served_when_these_are_free(
    monkeypatch: pytest.MonkeyPatch, pages: Pages
) -> None:
    """While every thread has a client that drips, the next one waits until their time is over."""
    monkeypatch.setattr(module, "CLIENT_SECONDS", 3.0)
    with serving(pages) as port, ExitStack() as stack:
        for _ in range(THREADS):
            stack.enter_context(connect(port)).sendall(b"GET")
        served_again(port)


def test_clients_beyond_the_most_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch, pages: Pages) -> None:
    """When there is no room and nobody is silent the next client hears 503 and is not kept."""
    monkeypatch.setattr(module, "MOST_CLIENTS", 2)
    with running(pages) as web, ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connect(web.port)).sendall(b"GET")
        until(lambda: [one.is_silent for one in web._server._clients] == [False] * 2, "two that speak")
        with connect(web.port) as beyond:
            assert rest(beyond).startswith(b"HTTP/1.1 503 ")
    assert not web._server._clients


@pytest.mark.parametrize(
    ("accepted", "coded"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("", False),
        ("gzip;q=0", False),
        ("br", False),
    ],
)
def test_a_page_is_compressed_for_whoever_takes_that(port: int, accepted: str, coded: bool) -> None:  # noqa: FBT001
    """A scraper that takes gzip gets gzip, of the same page."""
    plain = ask(port, "/metrics")[2]
    with closing(http.client.HTTPConnection(LOOPBACK, port, timeout=SECONDS)) as connection:
        connection.request("GET", "/metrics", headers={"Accept-Encoding": accepted})
        answer = connection.getresponse()
        body = answer.read()
    assert (answer.getheader("Content-Encoding") == "gzip") is coded
    assert (gzip.decompress(body) if coded else body) == plain


def test_while_a_page_is_made_the_last_one_is_served() -> None:
    """Only the first of many scrapes makes a new page; the others get the one before and wait for nothing."""
    making, go_on = threading.Event(), threading.Event()
    bodies = iter([b"old", b"new"])

    def make() -> tuple[bytes, str]:
        body = next(bodies)
        if body == b"new":
            making.set()
            assert go_on.wait(SECONDS)
        return body, "text/plain"

    shelf = Shelf(make)
    assert shelf.take(compressed=False).body == b"old"
    with ThreadPoolExecutor(1) as other:
        new = other.submit(shelf.take, compressed=True)
        assert making.wait(SECONDS)
        assert shelf.take(compressed=False).body == b"old"
        go_on.set()
        assert gzip.decompress(new.result().body) == b"new"


def served_again(port: int) -> None:
    """Wait until a page comes."""

    def answers() -> bool:
        try:
            return ask(port, "/-/healthy")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    until(answers, "a page after the crowd")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\xff\r\n\r\n", b"400"),  # a TLS hello
        (b"\x00" * 5_000, b"414"),
        (b"\r\n\r\n", None),
        (b"GET\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
        (b"GET / HTTP/1.x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1 and more\r\n\r\n", b"400"),
        (b"get / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5_000 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n: no name\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", b"405"),
        (b"\r\nGET /metrics HTTP/1.0\n\n", b"200"),
        (b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text; version=abc\r\n\r\n", b"200"),
        (b"GET /metrics HTTP/1.1\r\nAccept: \xff\xfe;version=\xff\r\n\r\n", b"200"),
        (b"GET /metrics HTTP/1.1\r\nAccept: text/plain;version=1.0.0\r\n Evil: yes\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n", b"200"),
    ],
)
def test_garbage_gets_an_error_and_does_no_harm(
    port: int, capfd: pytest.CaptureFixture[str], data: bytes, status: bytes | None
) -> None:
    """Whatever is sent, the answer is sound or none, nothing is printed, the next client is served."""
    answer = send(port, data)

    if status is None:
        assert answer == b""
    else:
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\nEvil" not in answer.partition(b"\r\n\r\n")[0]
    assert ask(port, "/metrics")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_client_that_goes_away_is_no_event(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    """A client that asks and leaves without reading is not reported and blocks nothing."""
    for _ in range(3 * THREADS):
        with contextlib.suppress(ConnectionError), connect(port) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    served_again(port)

    assert capfd.readouterr() == ("", "")


def test_a_port_in_use_is_said_with_what_to_do(pages: Pages) -> None:
    """A second server on the same port fails with the port and the option that chooses another."""
    with (
        serving(pages) as port,
        pytest.raises(SettingsError, match=rf"cannot listen on 127\.0\.0\.1:{port} \(.*in use.*--port"),
    ):
        Web(WebSettings(port=port), pages, VERSION)


@pytest.mark.parametrize(
    "address", ["192.0.2.1", "no-such-host.invalid", "999.1.1.1", "127..0.1", "a" * 70, "", "x\0y"]
)
def test_an_address_that_is_not_ours_is_said(pages: Pages, address: str) -> None:
    """An address that is mistyped, unknown or of another host is an error that names it."""
    with pytest.raises(SettingsError, match="cannot listen on") as error:
        Web(WebSettings(listen=address, port=0), pages, VERSION)

    assert address in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("port", [-1, 65_536, 10**30])
def test_an_impossible_port_is_refused(port: int) -> None:
    """A port that no host has is refused with the range."""
    with pytest.raises(SettingsError, match="between 0 and 65535"):
        WebSettings(port=port)


def test_names_of_dcgm_that_are_not_known_are_refused() -> None:
    """A naming that does not exist is refused with those that do."""
    with pytest.raises(SettingsError, match=r"classic, 4\.6, 4\.7"):
        WebSettings(dcgm_names="5.0")


def test_it_serves_ipv6(pages: Pages) -> None:
    """An IPv6 address works as well."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"this host has no IPv6 loopback: {error}")
    with serving(pages, "::1") as port:
        assert ask(port, "/metrics", host="::1")[0] == 200


def test_a_stopped_server_frees_its_port(pages: Pages) -> None:
    """After stop the port can be had again at once, and nobody answers on it."""
    with serving(pages) as port:
        assert ask(port, "/")[0] == 200
    with pytest.raises(ConnectionError):
        ask(port, "/")
    web = Web(WebSettings(port=port), pages, VERSION)
    web.stop()
