"""Connections of the web server: who waits, who is served, and who has had all the time that he gets.

One thread accepts and keeps time. A connection that has said nothing costs no thread; when it speaks, one
of a few workers serves it, TLS and all. Whoever is not done after CLIENT_SECONDS is cut off in any case.
"""

import contextlib
import errno
import selectors
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

THREADS = 16
MOST_CLIENTS = 128
"""Beyond so many, who says nothing makes room; where nobody is silent the next is told to come back."""

CLIENT_SECONDS = 10.0
LINGER_SECONDS = 1.0
MOST_IGNORED_BYTES = 1 << 20
_BACKLOG = 128
_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE_SECONDS = 0.1
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


class Client:
    """A connection; `connection` may become one of TLS.

    `is_done` says that all that it sent was read: one closed over unread bytes is reset, and the answer lost.
    """

    __slots__ = ("connection", "deadline", "is_done", "is_silent")

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.connection = connection
        self.deadline = deadline
        self.is_silent = True
        self.is_done = False

    def cut(self) -> None:
        """End it under the hands of whoever waits for it."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.connection, socket.SHUT_RDWR)

    def end(self) -> None:
        """Close it; where it is not done, read for a moment what it still sends."""
        if not self.is_done:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self.connection, socket.SHUT_WR)
                self.connection.settimeout(LINGER_SECONDS)
                left = MOST_IGNORED_BYTES
                while left > 0 and (more := socket.socket.recv(self.connection, 1 << 16)):
                    left -= len(more)
        self.connection.close()


class Server:
    """Accepts on a bound socket from `start` to `stop` and has each client served by `serve`."""

    def __init__(self, listening: socket.socket, serve: Callable[[Client], None]) -> None:
        self._listening = listening
        self._serve = serve
        self._lock = threading.Lock()
        self._clients: dict[Client, None] = {}  # he whose time ends first is first
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._pool = ThreadPoolExecutor(THREADS, "web")
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to accept."""
        self._listening.listen(_BACKLOG)
        self._listening.setblocking(False)
        self._thread.start()

    def stop(self) -> None:
        """Cut everybody off and free the port."""
        self._stopping.set()
        if self._thread.is_alive():
            self._nudge()
            self._thread.join()
        self._listening.close()
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            client.cut()
        self._pool.shutdown()
        self._wake.close()
        self._waker.close()

    def _nudge(self) -> None:
        with contextlib.suppress(OSError):
            self._waker.send(b"x")

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listening, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while not self._stopping.is_set():
                for key, _ in selector.select(self._seconds_left()):
                    if key.data is not None:
                        self._hand_over(selector, key.data)
                    elif key.fileobj is self._listening:
                        self._accept(selector)
                self._expire(selector)
            for key in list(selector.get_map().values()):
                if key.data is not None:
                    self._drop(selector, key.data)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            connection, _ = self._listening.accept()
        except OSError as error:  # gone again, or no descriptors are left
            if error.errno in _SCARCE and not self._make_room(selector):
                self._stopping.wait(_PAUSE_SECONDS)
            return
        if len(self._clients) >= MOST_CLIENTS and not self._make_room(selector):
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.send(_BUSY)
            connection.close()
            return
        connection.settimeout(CLIENT_SECONDS)
        client = Client(connection, time.monotonic() + CLIENT_SECONDS)
        with self._lock:
            self._clients[client] = None
        selector.register(connection, selectors.EVENT_READ, client)

    def _make_room(self, selector: selectors.BaseSelector) -> bool:
        with self._lock:
            silent = next((client for client in self._clients if client.is_silent), None)
        if silent is not None:
            self._drop(selector, silent)
        return silent is not None

    def _drop(self, selector: selectors.BaseSelector, client: Client) -> None:
        selector.unregister(client.connection)
        client.connection.close()
        with self._lock:
            self._clients.pop(client, None)

    def _hand_over(self, selector: selectors.BaseSelector, client: Client) -> None:
        if (
            client.is_silent and client.connection.fileno() >= 0
        ):  # it may have been dropped in this very round
            selector.unregister(client.connection)
            client.is_silent = False
            self._pool.submit(self._work, client)

    def _work(self, client: Client) -> None:
        try:
            with contextlib.suppress(OSError, ValueError):  # a client that went away is no event of ours
                self._serve(client)
        finally:
            client.end()
            with self._lock:
                self._clients.pop(client, None)

    def _seconds_left(self) -> float | None:
        with self._lock:
            first = next(iter(self._clients), None)
        return max(0.0, first.deadline - time.monotonic()) if first else None

    def _expire(self, selector: selectors.BaseSelector) -> None:
        now = time.monotonic()
        while True:
            with self._lock:
                first = next(iter(self._clients), None)
                if first is None or first.deadline > now:
                    return
                if not first.is_silent:  # cut once more later: it may change into TLS at this very moment
                    del self._clients[first]
                    first.deadline = now + CLIENT_SECONDS
                    self._clients[first] = None
            if first.is_silent:
                self._drop(selector, first)
            else:
                first.cut()
