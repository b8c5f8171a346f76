"""A store that fails in the middle: it answers some questions as a real one does, and then no more."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.stores.server import Server

DRIP_SECONDS = 0.02
Trouble = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Forwards questions to a store; `trouble` answers those from number `since` on."""

    store: Server
    trouble: Trouble
    since: int
    asked: list[str]
    over: threading.Event

    def do_POST(self) -> None:
        """Answer."""
        self._body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append(self.path)
        if len(self.asked) > self.since:
            type(self).trouble(self)
        else:
            self.say(*self.forwarded())

    def forwarded(self) -> tuple[int, bytes]:
        """Give what the store says."""
        return self.store.ask("POST", self.path, self._body, {"Content-Type": self.headers["Content-Type"]})

    def say(self, status: int, text: bytes, *, length: int | None = None, location: str = "") -> None:
        """Send an answer; it may promise more than it has."""
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(text) if length is None else length))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def failing(store: Server, trouble: Trouble, since: int) -> Iterator[tuple[str, list[str]]]:
    """Stand before a store; give the address, and the list of the paths that are asked."""
    asked: list[str] = []
    over = threading.Event()
    bound = {"store": store, "trouble": staticmethod(trouble), "since": since, "asked": asked, "over": over}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), bound))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def hang_up(handler: Handler) -> None:
    """Close the connection without a word."""
    handler.close_connection = True
    handler.connection.close()


def cut(handler: Handler) -> None:
    """Promise more than comes."""
    handler.say(200, b'{"status":"success","data":{"resultType":"vector","result":[', length=10_000)
    handler.close_connection = True


def cut_silently(handler: Handler) -> None:
    """End in the middle, without having said how long it would be."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b'{"status":"success","data":{"result":[],"results":[{"series":[')
    handler.close_connection = True


def cut_chunks(handler: Handler) -> None:
    """End between chunks, without the last one."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    whole = b'{"status":"success","data":{"resultType":"vector","result":[]},"results":[{}]}'
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(whole), whole))
    handler.close_connection = True


def drip(handler: Handler) -> None:
    """Send a byte now and then, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    with suppress(OSError):
        while not handler.over.wait(DRIP_SECONDS):
            handler.wfile.write(b" ")
            handler.wfile.flush()
    handler.close_connection = True


def saying(status: int, text: bytes | object, location: str = "") -> Trouble:
    """Give this answer, whatever is asked."""
    body = text if isinstance(text, bytes) else json.dumps(text).encode()
    return lambda handler: handler.say(status, body, location=location)
