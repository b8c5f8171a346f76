"""What clients of the pages send: each gets an answer or none, and the next one is served."""

import socket
from collections.abc import Generator, Sequence
from contextlib import suppress
from itertools import pairwise

from hypothesis import strategies as st

from exporters.page import Pages
from exporters.web import Web, WebSettings
from exporters.web_request import LONGEST_HEAD, BadRequest, Request, read
from tests.exporters.views import view
from tests.fuzz.spoilt import QUICK, examples, hold, spoilt

REQUESTS = (
    b"GET /metrics HTTP/1.1\r\nHost: n1:9740\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n",
    b"GET / HTTP/1.0\n\n",
    b"HEAD /healthz?x=1 HTTP/1.1\r\nhost: n1\r\nAccept-Encoding: gzip;q=0.5, identity\r\n\r\n",
    b"GET /gpus HTTP/1.1\r\nHost: n1\r\nAuthorization: Basic bWU6c2VjcmV0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
)
PLAIN = b"GET /metrics HTTP/1.0\r\n\r\n"
SECONDS = 20.0


def _read(pieces: Sequence[bytes]) -> Request | None:
    waiting = iter(pieces)

    def receive(most: int) -> Generator[None, None, bytes]:
        yield None
        return next(waiting, b"")[:most]

    going = read(receive)
    try:
        while True:
            next(going)
    except StopIteration as ended:
        return ended.value  # type: ignore[no-any-return]


@examples
def test_heads(examples: int) -> None:
    """In whatever pieces it comes: a request, a reason with a status, or nothing."""

    def check(drawn: tuple[bytes, list[int]]) -> None:
        said, cuts = drawn
        edges = sorted({0, len(said), *(cut % (len(said) + 1) for cut in cuts)})
        pieces = [said[start:end] for start, end in pairwise(edges) if start < end]
        request, refused = None, None
        try:
            request = _read(pieces)
        except BadRequest as error:
            refused = error
        if refused is not None:
            assert 400 <= refused.answer.status < 600
        if request is not None:
            assert request.method in {"GET", "HEAD"}
            assert len(request.path) + sum(map(len, request.headers)) <= LONGEST_HEAD
            assert not set("\r\n") & set("".join(request.headers.values()))

    hold(st.tuples(spoilt(REQUESTS), st.lists(st.integers(0, 400), max_size=4)), examples, check)


def _say(port: int, said: bytes) -> bytes:
    heard = b""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as client:
        with suppress(OSError):  # it may have had enough in the middle
            client.sendall(said)
            client.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while piece := client.recv(65_536):
                heard += piece
    return heard


@examples
def test_a_server_goes_on(examples: int) -> None:
    """After each of them who asks well is served; nothing but HTTP is ever said."""
    pages = Pages({}, "1", lambda: 0.0)
    pages.publish(view())
    web = Web(WebSettings(listen="127.0.0.1", port=0), pages, "1")
    web.start()

    def check(said: bytes) -> None:
        heard = _say(web.port, said)
        assert heard == b"" or heard.startswith(b"HTTP/1.1 ")
        assert b"Traceback" not in heard
        assert _say(web.port, PLAIN).startswith(b"HTTP/1.1 200 ")

    try:
        hold(spoilt(REQUESTS), min(examples, QUICK * 10), check)
    finally:
        web.stop()
