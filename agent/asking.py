"""Asks a server over HTTP: an address with a path, a token or a password from a file, bounded answers.

What carries questions to stores, for rules and reports alike; urllib3 is loaded only where a store is asked.
"""

import json
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import urllib3

from agent.errors import SettingsError, StoreError
from agent.holders.names import printable

LONGEST_ANSWER = 16 << 20
LONGEST_WORD = 300
LONGEST_SECONDS = 600.0
"""An answer that has not ended by then never ends."""
_PIECE = 1 << 16
_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 401, 403, 404
_REDIRECTS = range(300, 400)
_TIMEOUT = urllib3.Timeout(connect=10, read=120)
_LONGEST_SECRET = 64 * 1024


class TooLongError(Exception):
    """An answer has more bytes than are taken."""


class Asker:
    """One server. Its address may have a path, as `/select/0/prometheus` of a cluster has.

    The token is read once; `scheme` goes before it. `tenant` is whose series are meant, for Mimir and its
    like. `longest` bounds an answer, in bytes. Raises SettingsError for what cannot be meant.
    """

    def __init__(
        self,
        url: str,
        *,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        tenant: str = "",
        scheme: str = "Bearer",
        longest: int | None = None,
    ) -> None:
        try:
            parts = urlsplit(url)
            is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_address = False
        if not is_address or parts.query or parts.fragment:
            raise SettingsError("--source must be an address such as http://store.example.org:8428")
        if parts.username is not None or parts.password is not None:
            raise SettingsError("--source must hold no password: put a token into a file, --token-file FILE")
        self.url = url.rstrip("/")
        self.longest = longest or LONGEST_ANSWER
        self._headers = {"User-Agent": "gputally", "Accept-Encoding": "gzip"}
        if token_file is not None:
            self._headers["Authorization"] = f"{scheme} {secret(token_file)}"
        if tenant:
            if not (tenant.isascii() and tenant.isprintable()):
                raise SettingsError("--tenant must be plain letters")
            self._headers["X-Scope-OrgID"] = tenant
        try:
            tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        except (OSError, ValueError) as error:
            raise SettingsError(f"cannot read the certificates {ca_file}: {error}") from error
        self._pool = urllib3.PoolManager(maxsize=2, retries=False, timeout=_TIMEOUT, ssl_context=tls)

    def close(self) -> None:
        """Let go of connections."""
        self._pool.clear()

    def ask(self, path: str, fields: Mapping[str, str]) -> bytes:
        """Post fields of a form to a path; give the whole answer. Raises StoreError, TooLongError."""
        try:
            answer = self._pool.request(
                "POST",
                f"{self.url}{path}",
                fields=dict(fields),
                encode_multipart=False,
                headers=self._headers,
                redirect=False,
                preload_content=False,
            )
            said = self._whole(answer)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            self.close()
            raise StoreError(f"{self.url} cannot be asked: {reason_of(error)}") from error
        if answer.status != _OK:
            raise StoreError(f"{self.url} answers HTTP {answer.status}: {_why(answer.status, said, path)}")
        return said

    def _whole(self, answer: urllib3.BaseHTTPResponse) -> bytes:
        """Read an answer. Raises TooLongError, TimeoutError where it never ends."""
        pieces, length, until = [], 0, time.monotonic() + LONGEST_SECONDS
        while piece := answer.read1(_PIECE):  # what is there: it may come drop by drop
            pieces.append(piece)
            length += len(piece)
            if length > self.longest:
                answer.close()
                raise TooLongError
            if time.monotonic() > until:
                answer.close()
                raise TimeoutError(f"its answer has not ended after {LONGEST_SECONDS:g} seconds")
        answer.release_conn()
        return b"".join(pieces)


def told(text: object) -> str:
    """Give a text out of an answer as one that can be written anywhere: JSON may hold halves of letters."""
    said = str(text)
    return said if said.isascii() else said.encode(errors="replace").decode()


def reason_of(error: Exception) -> str:
    """Say why a request failed, without the names of classes and objects."""
    reason = error
    while reason.__cause__ is not None or reason.__context__ is not None:
        reason = reason.__cause__ or reason.__context__  # type: ignore[assignment]
    said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return printable(said, LONGEST_WORD)


def _why(status: int, said: bytes, path: str) -> str:
    """Give a server's own message, and what helps."""
    text = said.decode(errors="replace")
    try:
        message = str(json.loads(text)["error"])
    except (LookupError, RecursionError, TypeError, ValueError):
        message = " ".join(text.split())
    message = printable(message, LONGEST_WORD) or "it does not say why"
    if status in (_UNAUTHORIZED, _FORBIDDEN):
        return f"{message}; name a file with a token: --token-file FILE"
    if status == _NOT_FOUND or status in _REDIRECTS:
        return f"{message}; the address must be what stands before {path}"
    return message


def secret(path: Path) -> str:
    """Read a token out of a file. Raises SettingsError, without a word of what is in it."""
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_SECRET).decode().strip()
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read the token {path}: {getattr(error, 'strerror', error)}") from error
    if not text or not text.isprintable() or not text.isascii():
        raise SettingsError(f"the token {path} must hold one line of plain letters")
    return text
