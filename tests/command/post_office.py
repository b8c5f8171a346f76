"""Mail servers on loopback: a real one that keeps what it is given, and rude ones that follow a script."""

import asyncio
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from shutil import which
from typing import Any, NamedTuple

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from gputally.mail_settings import MailSettings

LONGEST_SECONDS = 20.0
USER, PASSWORD = "reporter", "pa:ss word"
GREETING = ("220 post", "250 post")
_KEY = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"


class Got(NamedTuple):
    """A letter that came in: who sent it to whom by the envelope, its bytes, and how."""

    sender: str
    to: tuple[str, ...]
    content: bytes
    is_encrypted: bool
    user: str

    @property
    def letter(self) -> EmailMessage:
        """What it says."""
        letter = message_from_bytes(self.content, policy=default)
        assert isinstance(letter, EmailMessage)
        return letter

    def text(self, kind: str = "plain") -> str:
        """Give what it says as text or HTML, with the ends of lines as they were."""
        body = self.letter.get_body((kind,))
        assert body is not None
        content = body.get_content()
        assert isinstance(content, str)
        return content.replace("\r\n", "\n")


@dataclass
class Office:
    """Where it is, what it refuses by address, and what it got."""

    port: int = 0
    refuses: dict[str, str] = field(default_factory=dict)
    answers: str = "250 taken"
    got: list[Got] = field(default_factory=list)
    tried: list[tuple[str, str]] = field(default_factory=list)

    @property
    def to(self) -> list[str]:
        """Who got letters, in their order."""
        return [address for one in self.got for address in one.to]

    async def handle_RCPT(  # noqa: N802  aiosmtpd's name and arguments
        self, _: SMTP, __: Session, envelope: Envelope, address: str, ___: list[str]
    ) -> str:
        """Take or refuse who a letter is for."""
        if address in self.refuses:
            return self.refuses[address]
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a letter."""
        assert isinstance(envelope.content, bytes)
        user = session.auth_data.login.decode() if session.auth_data else ""
        self.got.append(
            Got(
                envelope.mail_from or "",
                tuple(envelope.rcpt_tos),
                envelope.content,
                server.transport is not None and server.transport.get_extra_info("sslcontext") is not None,
                user,
            )
        )
        return self.answers

    def authenticate(
        self,
        _: SMTP,
        __: Session,
        ___: Envelope,
        mechanism: str,
        data: Any,  # noqa: ANN401
    ) -> AuthResult:
        """Let the one user in."""
        if not isinstance(data, LoginPassword):
            return AuthResult(success=False, handled=False)
        self.tried.append((mechanism, data.login.decode()))
        known = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=known, handled=False, auth_data=data)


@contextmanager
def office(
    *,
    tls: ssl.SSLContext | None = None,
    starttls: ssl.SSLContext | None = None,
    **options: Any,  # noqa: ANN401
) -> Iterator[Office]:
    """Run a mail server in a thread: encrypted from the first byte, by STARTTLS, or not at all."""
    one = Office()
    loop = asyncio.new_event_loop()

    def made() -> SMTP:
        more = {"tls_context": starttls, "require_starttls": starttls is not None, **options}
        if options.get("auth_required"):
            more["authenticator"] = one.authenticate
        return SMTP(one, hostname="post.example.org", loop=loop, **more)

    server = loop.run_until_complete(loop.create_server(made, "127.0.0.1", 0, ssl=tls))
    one.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield one
    finally:
        loop.call_soon_threadsafe(server.close)
        asyncio.run_coroutine_threadsafe(_settled(), loop).result(LONGEST_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(LONGEST_SECONDS)
        loop.close()


async def _settled() -> None:
    """End what still goes on."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


Talk = Callable[[socket.socket], None]


def says(*replies: str, then: str = "close") -> Talk:
    """Make a server that gives one reply to each line, whatever it says, and then closes or hangs.

    The reply after one that begins with 354 comes when a line with a single dot did.
    """

    def talk(connection: socket.socket) -> None:
        with connection.makefile("rwb") as stream:
            for number, reply in enumerate(replies):
                if number and replies[number - 1].startswith("354"):
                    while stream.readline() not in (b".\r\n", b""):
                        pass
                elif number and not stream.readline():
                    return
                stream.write(reply.encode() + b"\r\n")
                stream.flush()
            if then == "hang":
                while stream.readline():
                    pass
            elif replies and replies[-1].startswith("354"):
                while stream.readline() not in (b".\r\n", b""):
                    pass

    return talk


@contextmanager
def rude(*talks: Talk) -> Iterator[int]:
    """Serve connections, each by its own script, the last one for all that follow; give the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ends = threading.Event()
        listener.settimeout(LONGEST_SECONDS)
        thread = threading.Thread(target=_serve, args=(listener, talks, ends), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ends.set()
            with suppress(OSError):
                socket.create_connection(listener.getsockname(), 1).close()
            thread.join(LONGEST_SECONDS)


def _serve(listener: socket.socket, talks: Sequence[Talk], ends: threading.Event) -> None:
    number = 0
    while not ends.is_set():
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.settimeout(LONGEST_SECONDS)
        with connection, suppress(OSError):
            if not ends.is_set():
                talks[min(number, len(talks) - 1)](connection)
        number += 1


def plain(port: int, **more: object) -> MailSettings:
    """Give settings of an unencrypted server on this machine."""
    told: dict[str, object] = {"sender": "GPU report <gpu@example.org>", "timeout_seconds": 5.0, **more}
    return MailSettings(host="localhost", port=port, security="none", **told)  # type: ignore[arg-type]


class Certificates:
    """Certificates of localhost that sign themselves."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._openssl = which("openssl")

    def make(self, days: int = 2, name: str = "localhost") -> tuple[str, ssl.SSLContext]:
        """Give the path of one, and a server's context with it."""
        if self._openssl is None:
            pytest.skip("not installed: openssl")
        folder = self._folder / f"{name}{days}"
        folder.mkdir(exist_ok=True)
        if not (folder / "cert").exists():
            (folder / "names").write_text(f"subjectAltName=DNS:{name}")
            for command in (
                f"{_KEY} -subj /CN={name} -keyout key -out asked",
                f"x509 -req -in asked -signkey key -days {days} -extfile names -out cert",
            ):
                subprocess.run([self._openssl, *command.split()], cwd=folder, check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert", folder / "key")
        return str(folder / "cert"), context
