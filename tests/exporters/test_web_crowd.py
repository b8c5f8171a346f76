"""The web server among many clients at once: slow ones, rude ones, and a burst of them."""

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from http import HTTPStatus

import pytest

from exporters.page import Pages
from exporters.web_client import Need
from exporters.web_request import Answer as Said
from exporters.web_request import Request, read
from exporters.web_server import CLIENT_SECONDS, THREADS
from tests.command.waiting import until
from tests.exporters.test_web import VERSION, ask, connect, rest, running, send, serving
from tests.exporters.views import view


@pytest.fixture
def pages() -> Pages:
    """Give pages that show a view and never become stale."""
    pages = Pages({}, VERSION, lambda: 0.0)
    pages.publish(view())
    return pages


@pytest.fixture
def port(pages: Pages) -> Iterator[int]:
    """Serve these pages, and give the port."""
    with serving(pages) as port:
        yield port


def test_a_crowd_that_drips_delays_nobody(port: int) -> None:
    """Twice as many as there are workers send a request byte by byte; others get their page at once."""
    request = b"GET /metrics HTTP/1.1\r\nX: drip\r\n\r\n"
    with ExitStack() as stack:
        crowd = [stack.enter_context(connect(port)) for _ in range(2 * THREADS)]
        for at in range(len(request)):
            for client in crowd:
                client.sendall(request[at : at + 1])
            if at % 10 == 0:
                with connect(port) as scraper:
                    scraper.settimeout(CLIENT_SECONDS / 2)
                    scraper.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
                    assert whole(rest(scraper))
        assert all(whole(rest(client)) for client in crowd)


def test_a_burst_of_clients_all_get_whole_pages(port: int) -> None:
    """200 connect before the first of them speaks; each gets all of the page."""
    with ExitStack() as stack:
        crowd = [stack.enter_context(connect(port)) for _ in range(200)]
        for client in crowd:
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert all(whole(rest(client)) for client in crowd)


def whole(answer: bytes) -> bool:
    """Say whether an answer is a page, from its first byte to its last."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.startswith(b"HTTP/1.1 200 ") and b"Content-Length: %d\r\n" % len(body) in head


def test_what_comes_after_a_request_does_not_spoil_the_answer(port: int) -> None:
    """Garbage behind a request is read and forgotten, not answered with a reset that eats the page."""
    with connect(port) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n" + b"garbage\r\n\r\n" * 10_000)
        assert whole(rest(client))


def test_a_client_that_has_shut_its_side_gets_its_page(port: int) -> None:
    """Whoever says that it will send no more is still answered; half a request before that is no request."""
    assert whole(send(port, b"GET /metrics HTTP/1.1\r\n\r\n"))
    assert send(port, b"GET /metrics HTTP/1.1\r\n") == b""


def test_a_client_that_reads_late_gets_all_and_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, pages: Pages
) -> None:
    """Pages larger than all buffers wait for their clients without a thread; each is whole in the end."""
    with running(pages) as web, ExitStack() as stack:
        routes = {"/big": lambda _: Said(HTTPStatus.OK, b"x" * 20_000_000)}
        monkeypatch.setattr(web, "_routes", {**web._routes, **routes})
        crowd = [stack.enter_context(connect(web.port)) for _ in range(2)]
        crowd += [stack.enter_context(connect(web.port)) for _ in range(THREADS)]
        for client in crowd:
            client.sendall(b"GET /%b HTTP/1.1\r\n\r\n" % (b"big" if client in crowd[:2] else b"metrics"))
        assert all(whole(rest(client)) for client in crowd[2:])
        until(lambda: {one.needs for one in web._server._clients} == {Need.WRITE}, "two that are waited for")
        assert all(whole(rest(client)) for client in crowd[:2])


def test_a_header_of_blanks_costs_nothing(port: int) -> None:
    """The time for a header grows with its length and no faster."""
    head = b"GET /metrics HTTP/1.1\r\nX: a" + b" " * 15_000 + b"a\r\n\r\n"
    with connect(port) as client:
        before = time.thread_time()
        assert parsed(head).headers["x"] == "a" + " " * 15_000 + "a"
        assert time.thread_time() - before < 0.2
        client.sendall(head)
        assert whole(rest(client))


def parsed(head: bytes) -> Request:
    """Read a request that came in one piece."""

    def receive(_most: int) -> Generator[None, None, bytes]:
        yield from ()
        return head

    reading = read(receive)
    with pytest.raises(StopIteration) as end:
        next(reading)
    assert isinstance(end.value.value, Request)
    return end.value.value


def test_a_page_is_made_beforehand_for_whoever_asks_regularly(pages: Pages) -> None:
    """In an interval after two with a scrape the page is made before it is asked for; then no more."""
    made = []
    real = pages.metrics

    def metrics(accept: str) -> tuple[bytes, str]:
        made.append(accept)
        return real(accept)

    pages.metrics = metrics  # type: ignore[method-assign]
    with running(pages) as web:
        ask(web.port, "/metrics")
        pages.publish(view())
        ask(web.port, "/metrics")
        assert len(made) == 2
        pages.publish(view())
        until(lambda: len(made) == 3, "a page that nobody asked for")
        pages.publish(view())
        pages.publish(view())
        until(web._server._pool._work_queue.empty, "workers without work")
        assert len(made) <= 4
