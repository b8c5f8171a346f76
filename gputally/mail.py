"""Hands letters to a mail server over SMTP: encrypted, with its certificate checked, and within time.

What became of a letter is a value. Once a server has all of it and does not answer, nobody knows whether it
will be delivered: that is told apart from what certainly was not taken, so that nothing is sent twice.
"""

import contextlib
import smtplib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, EmailPolicy
from email.utils import format_datetime, make_msgid
from typing import Any, Self

from agent.errors import ReportError, SettingsError
from exporters.destination import secret
from gputally.mail_settings import MailSettings
from reports.window import at
from reports.wording import cut, printable

MOST_SUBJECT = 200
MOST_REPLY = 200
_GOES = 421
"""With this a server says that it ends the connection."""


class _Policy(EmailPolicy):
    """Writes for 7 bits; a header begins on the line of its name, which the library forgets of long ones."""

    def fold_binary(self, name: str, value: Any) -> bytes:  # noqa: ANN401  as the library says
        """Write a header."""
        folded, head = super().fold_binary(name, value), f"{name}:".encode()
        return head + folded[len(head) + 2 :] if folded.startswith(head + b"\r\n ") else folded


_POLICY = _Policy(linesep=SMTP.linesep, cte_type="7bit")


class MailError(ReportError):
    """The mail server cannot be reached, is not who it should be, or lets us not in."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The server took the letter."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The letter was certainly not taken."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unsure:
    """The letter may have been taken, or not."""

    reason: str


Outcome = Taken | Refused | Unsure


def message(settings: MailSettings, to: str, subject: str, at_ms: int) -> EmailMessage:
    """Begin a letter: all of its headers, and nothing in them that a name could break.

    It says that a machine wrote it, so that nobody's out-of-office answers.
    """
    domain = settings.sender_address.partition("@")[2]
    letter = EmailMessage(policy=_POLICY)
    letter["From"] = Address(settings.sender_name, addr_spec=settings.sender_address)
    letter["To"] = Address(addr_spec=to)
    letter["Subject"] = cut(_plain(subject), MOST_SUBJECT)
    letter["Date"] = format_datetime(at(at_ms // 1000 * 1000))
    letter["Message-ID"] = make_msgid("gputally", domain)
    letter["List-Id"] = f"GPU report <gputally.{domain}>"
    letter["Auto-Submitted"] = "auto-generated"
    letter["X-Auto-Response-Suppress"] = "All"
    return letter


def _plain(text: str) -> str:
    """Make a text printable that the library would decode where it looks encoded, line ends and all."""
    return printable(text).replace("=?", "= ?")


class Post:
    """A connection to the mail server; one that broke is made anew for the next letter."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings
        self._where = f"the mail server {settings.host}:{settings.resolved_port}"
        self._smtp: smtplib.SMTP | None = None

    def __enter__(self) -> Self:
        """Connect, encrypt and log in. Raises MailError, SettingsError."""
        self._smtp = self._connected()
        return self

    def __exit__(self, *_: object) -> None:
        """Say goodbye."""
        if self._smtp:
            with contextlib.suppress(OSError):
                self._smtp.quit()
        self._drop()

    def send(self, to: str, letter: EmailMessage) -> Outcome:
        """Hand one letter over, for one address."""
        content = letter.as_bytes()
        try:
            smtp = self._smtp = self._smtp or self._connected()
            with self._translated():
                refused = self._envelope(smtp, to, len(content))
        except (MailError, SettingsError) as error:
            self._drop()
            return Refused(str(error))
        if refused:
            return refused
        try:
            with self._translated():
                return self._content(smtp, content)
        except MailError as error:
            self._drop()
            return Unsure(str(error))

    def _envelope(self, smtp: smtplib.SMTP, to: str, size: int) -> Refused | None:
        options = (f"size={size}",) if smtp.has_extn("size") else ()
        code, text = smtp.mail(self._settings.sender_address, options)
        if _is_fine(code):
            code, text = smtp.rcpt(to)
        return None if _is_fine(code) else self._refused(smtp, code, text)

    def _content(self, smtp: smtplib.SMTP, content: bytes) -> Outcome:
        try:
            code, text = smtp.data(content)
        except smtplib.SMTPDataError as error:  # before anything of the letter was sent
            return self._refused(smtp, error.smtp_code, error.smtp_error)
        return Taken() if _is_fine(code) else self._refused(smtp, code, text)

    def _refused(self, smtp: smtplib.SMTP, code: int, text: bytes | str) -> Refused:
        """Forget the letter, so that the next one can be sent."""
        try:
            if code == _GOES or not _is_fine(smtp.rset()[0]):
                self._drop()
        except OSError:
            self._drop()
        return Refused(f"{self._where} refused it: {_reply(code, text)}")

    def _drop(self) -> None:
        if self._smtp:
            self._smtp.close()
        self._smtp = None

    def _connected(self) -> smtplib.SMTP:
        settings = self._settings
        password = _password(settings) if settings.username else ""
        context = None if settings.security in ("none", "insecure") else _context(settings)
        address, seconds = (settings.host, settings.resolved_port), settings.timeout_seconds
        with self._translated():
            if settings.security == "tls":
                smtp: smtplib.SMTP = smtplib.SMTP_SSL(*address, timeout=seconds, context=context)
            else:
                smtp = smtplib.SMTP(*address, timeout=seconds)
            try:
                smtp.ehlo_or_helo_if_needed()
                if settings.security == "starttls":
                    smtp.starttls(context=context)
                    smtp.ehlo_or_helo_if_needed()
                if settings.username:
                    smtp.login(settings.username, password)
            except BaseException:
                smtp.close()
                raise
        return smtp

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what goes wrong on a connection into a MailError of one sentence."""
        try:
            yield
        except (OSError, UnicodeError) as error:  # SMTPException and SSLError are OSErrors
            raise MailError(f"{self._where} {self._told(error)}") from error

    def _told(self, error: Exception) -> str:
        settings = self._settings
        match error:
            case ssl.SSLCertVerificationError(verify_message=why):
                told = (
                    f"is not trusted ({why}): name who signed its certificate with ca_file, "
                    "and the server as its certificate does"
                )
            case ssl.SSLError(reason=why):
                told = f'speaks no TLS ({why}): is port {settings.resolved_port} of "{settings.security}"?'
            case TimeoutError() | smtplib.SMTPServerDisconnected(__context__=TimeoutError()):
                told = f"did not answer within {settings.timeout_seconds:g} s"
            case smtplib.SMTPAuthenticationError(smtp_code=code, smtp_error=text):
                told = f"lets {settings.username} not in: {_reply(code, text)}"
            case smtplib.SMTPResponseException(smtp_code=code, smtp_error=text):
                told = f"refused: {_reply(code, text)}"
            case smtplib.SMTPServerDisconnected():
                told = "closed the connection"
            case smtplib.SMTPNotSupportedError() if "STARTTLS" in str(error):
                told = 'offers no STARTTLS, so nothing was sent: has it a port for security = "tls"?'
            case UnicodeError():
                told = "takes a username and a password of ASCII letters only"
            case OSError(strerror=str(why)):
                told = f"cannot be reached: {printable(why)}"
            case _:
                told = f"failed: {cut(printable(str(error)), MOST_REPLY)}"
        return told


def _is_fine(code: int) -> bool:
    return code // 100 == 2  # noqa: PLR2004  RFC 5321


def _reply(code: int, text: bytes | str) -> str:
    said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {cut(printable(' '.join(said.split())), MOST_REPLY)}".strip()


def _password(settings: MailSettings) -> str:
    try:
        return secret(settings.password_file)
    except (OSError, ValueError) as error:
        raise SettingsError(f"[mail] cannot read password_file: {error}") from error


def _context(settings: MailSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file or None)
    except OSError as error:
        why = error.strerror or str(error)
        raise SettingsError(f"[mail] cannot use ca_file {settings.ca_file}: {why}") from error
