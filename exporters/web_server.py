"""Connections of the web server: who waits, who is served, and who has had all the time that he gets.

One thread accepts, reads, writes and keeps time, and never blocks. What costs goes to a few workers: TLS,
passwords, a page that must be made. Whoever is not done after CLIENT_SECONDS is cut off in any case.
"""

import contextlib
import errno
import math
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from exporters.web_client import Client, Need, Talk

THREADS = 16
MOST_CLIENTS = 256
"""Beyond so many, who says nothing makes room; where nobody is silent the next is told to come back."""

CLIENT_SECONDS = 10.0
LINGER_SECONDS = 1.0
_BACKLOG = 1024
_ACCEPTED_AT_ONCE = 64
"""So many are let in before those are heard that have spoken meanwhile."""

_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE_SECONDS = 0.1
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


class Server:
    """Accepts on a bound socket from `start` to `stop` and holds the conversation `talk` with each client."""

    def __init__(self, listening: socket.socket, talk: Callable[[Client], Talk]) -> None:
        self._listening = listening
        self._talk = talk
        self._clients: dict[Client, None] = {}  # whoever came first is first
        self._over: list[Client] = []
        self._look_at = math.inf  # when somebody's time may be over
        self._back: deque[tuple[Client, Need | None]] = deque()  # from workers
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._pool = ThreadPoolExecutor(THREADS, "web")
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to accept."""
        with contextlib.suppress(AttributeError, OSError):  # only Linux: who says nothing is not let in
            self._listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
        self._listening.listen(_BACKLOG)
        self._listening.setblocking(False)
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread.start()

    def stop(self) -> None:
        """Cut everybody off and free the port."""
        self._stopping.set()
        if self._thread.is_alive():
            self._nudge()
            self._thread.join()
        self._listening.close()
        self._pool.shutdown(cancel_futures=True)
        for client in list(self._clients):
            self._drop(client)
        self._selector.close()
        self._wake.close()
        self._waker.close()

    def employ(self, work: Callable[[], object]) -> None:
        """Have a worker do something, unless all is over."""
        with contextlib.suppress(RuntimeError):
            self._pool.submit(work)

    def _nudge(self) -> None:
        with contextlib.suppress(OSError):
            self._waker.send(b"x")

    def _run(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(self._seconds_left()):
                if key.data is not None:
                    self._hear(key.data)
                elif key.fileobj is self._listening:
                    self._accept()
                else:
                    self._take_back()
            # All at once: a client that is woken by the first goes on with the others, and need not be woken.
            for client in self._over:
                self._drop(client)
            self._over.clear()
            if time.monotonic() >= self._look_at:
                self._expire()

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, _ = self._listening.accept()
            except OSError as error:  # nobody more, gone again, or no descriptors are left
                if error.errno in _SCARCE and not self._make_room():
                    self._stopping.wait(_PAUSE_SECONDS)
                return
            if len(self._clients) >= MOST_CLIENTS and not self._make_room():
                connection.setblocking(False)
                with contextlib.suppress(OSError):
                    connection.send(_BUSY)
                connection.close()
                continue
            client = Client(connection, time.monotonic() + CLIENT_SECONDS, self._talk)
            self._clients[client] = None
            self._look_at = min(self._look_at, client.deadline)
            self._heed(client, client.step())  # most have spoken already

    def _make_room(self) -> bool:
        waiting = (client for client in self._clients if client.is_silent and client.needs is not None)
        silent = next(waiting, None)
        if silent is not None:
            self._drop(silent)
        return silent is not None

    def _drop(self, client: Client) -> None:
        self._watch(client, None)
        client.connection.close()
        self._clients.pop(client, None)

    def _hear(self, client: Client) -> None:
        if client not in self._clients:
            return  # it made room in this very round
        client.is_silent = False
        self._heed(client, Need.WORKER if client.is_secure and not client.is_leaving else client.step())

    def _heed(self, client: Client, need: Need | None) -> None:
        """Wait for what a client needs; None is the end of what it has to be told."""
        if need is None and not client.is_done and not client.is_leaving:
            client.leave()
            client.deadline = min(client.deadline, time.monotonic() + LINGER_SECONDS)
            self._look_at = min(self._look_at, client.deadline)
            need = client.step()
        if need is None:
            self._over.append(client)
        elif need is Need.WORKER:
            self._watch(client, None)
            self._pool.submit(self._work, client)
        else:
            self._watch(client, need)

    def _watch(self, client: Client, need: Need | None) -> None:
        if need is client.needs:
            return
        if need is None:
            self._selector.unregister(client.connection)
        elif client.needs is None:
            self._selector.register(client.connection, need.value, client)
        else:
            self._selector.modify(client.connection, need.value, client)
        client.needs = need

    def _work(self, client: Client) -> None:
        need = None
        try:
            need = client.step()
            while need is Need.WORKER:
                need = client.step()
        finally:
            self._back.append((client, need))
            self._nudge()

    def _take_back(self) -> None:
        with contextlib.suppress(OSError):
            self._wake.recv(1 << 12)
        while self._back:
            client, need = self._back.popleft()
            if client.is_late:
                self._drop(client)
            else:
                self._heed(client, need)

    def _seconds_left(self) -> float | None:
        return max(0.0, self._look_at - time.monotonic()) if self._look_at < math.inf else None

    def _expire(self) -> None:
        now = time.monotonic()
        self._look_at = math.inf
        for client in list(self._clients):
            if client.deadline > now:
                self._look_at = min(self._look_at, client.deadline)
            elif client.needs is None:
                client.is_late = True  # its worker gives it back before long
            else:
                self._drop(client)
