"""One client's conversation: a generator that stops wherever it would have to wait, and says what for.

So whoever waits holds no thread, however slowly he sends or takes; one thread can wait for all of them.
"""

import logging
import selectors
import socket
import ssl
from collections.abc import Callable, Generator
from enum import Enum

log = logging.getLogger("gputally")

MOST_IGNORED_BYTES = 1 << 20
_MANY_BYTES = 1 << 16
_MORE = getattr(socket, "MSG_MORE", 0)
"""Keeps the end of an answer back until the connection is closed, a moment later: so both go at once."""


class Need(Enum):
    """What a conversation cannot go on without: something to read, room to write, or a thread of its own."""

    READ = selectors.EVENT_READ
    WRITE = selectors.EVENT_WRITE
    WORKER = 0


Talk = Generator[Need, None, None]


class Client:
    """A connection that never blocks; `connection` may become one of TLS.

    `is_done` says that all that it sent was read: one closed over unread bytes is reset, and the answer lost.
    `needs` is what it is watched for; nothing means that a worker has it.
    """

    __slots__ = ("connection", "deadline", "is_done", "is_late", "is_leaving", "is_silent", "needs", "talk")

    def __init__(self, connection: socket.socket, deadline: float, talk: "Callable[[Client], Talk]") -> None:
        """Take a connection, and what is to be said when the client has spoken."""
        connection.setblocking(False)
        self.connection = connection
        self.deadline = deadline
        self.talk = talk(self)
        self.needs: Need | None = None
        self.is_silent = True
        self.is_done = False
        self.is_late = False
        self.is_leaving = False

    @property
    def is_secure(self) -> bool:
        """Whether TLS is spoken: each step of it costs, so that workers take them."""
        return isinstance(self.connection, ssl.SSLSocket)

    def step(self) -> Need | None:
        """Go on until the conversation has to wait, in any thread; None is its end."""
        try:
            return next(self.talk, None)
        except (OSError, ValueError):  # a client that went away is no event of ours
            return None
        except Exception:
            log.exception("web: a request ended in an error, and nothing else did")
            return None

    def receive(self, most: int) -> Generator[Need, None, bytes]:
        """Give some of what it sends, or nothing when it is at its end. Raises OSError."""
        while True:
            try:
                some = self.connection.recv(most)
            except (BlockingIOError, ssl.SSLWantReadError):
                yield Need.READ
            except ssl.SSLWantWriteError:
                yield Need.WRITE
            else:
                self.is_silent = False
                return some

    def send(self, data: bytes) -> Talk:
        """Send all of it, and close TLS without waiting for an answer. Raises OSError."""
        view, sent, flags = memoryview(data), 0, 0 if self.is_secure else _MORE
        while sent < len(data):
            try:
                sent += self.connection.send(view[sent:], flags)
            except (BlockingIOError, ssl.SSLWantWriteError):
                yield Need.WRITE
            except ssl.SSLWantReadError:
                yield Need.READ
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.unwrap()

    def secure(self, context: ssl.SSLContext) -> Generator[Need, None, ssl.SSLSocket]:
        """Begin TLS, in a worker. Raises OSError, ValueError."""
        yield Need.WORKER
        secure = context.wrap_socket(self.connection, server_side=True, do_handshake_on_connect=False)
        self.connection = secure
        while True:
            try:
                secure.do_handshake()
            except ssl.SSLWantReadError:
                yield Need.READ
            except ssl.SSLWantWriteError:
                yield Need.WRITE
            else:
                return secure

    def leave(self) -> None:
        """Say nothing more, and read what it still sends until its time is over."""
        self.is_leaving = True
        self.talk = self._ignore()

    def _ignore(self) -> Talk:
        socket.socket.shutdown(self.connection, socket.SHUT_WR)
        left = MOST_IGNORED_BYTES
        while left > 0:
            yield Need.READ
            try:
                more = socket.socket.recv(self.connection, _MANY_BYTES)
            except BlockingIOError:
                continue
            if not more:
                return
            left -= len(more)
