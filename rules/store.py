"""Asks a store that speaks PromQL over HTTP: VictoriaMetrics, Prometheus, Mimir, Thanos.

Raw samples are had by instant queries of ranges, `gpu_up[1h]`. Answers are bounded: what would be longer is
asked for in two halves.
"""

import json
import math
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import urllib3

from agent.errors import GputallyError, SettingsError
from agent.holders.names import printable
from rules.series import span

LONGEST_ANSWER = 16 << 20
LONGEST_WORD = 300
SHORTEST_SPAN_MS = 1000
_PIECE = 1 << 16
_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 401, 403, 404
_REDIRECTS = range(300, 400)
_TIMEOUT = urllib3.Timeout(connect=10, read=120)
_LONGEST_SECRET = 64 * 1024
T = TypeVar("T")


class StoreError(GputallyError):
    """A store cannot be reached, refuses to answer, or does not hold what is asked for."""


class _TooLongError(Exception):
    """An answer has more bytes than are taken."""


class Series(NamedTuple):
    """A series: its labels, and its samples as (ms since the epoch, value) in order of time."""

    labels: Mapping[str, str]
    samples: list[tuple[int, float]]


class Value(NamedTuple):
    """What an expression is for some labels."""

    labels: Mapping[str, str]
    value: float


class Store:
    """One store. Its address may have a path, as `/select/0/prometheus` of a cluster has.

    The token's file is read once. Raises SettingsError for what cannot be meant.
    """

    def __init__(self, url: str, *, token_file: Path | None = None, ca_file: Path | None = None) -> None:
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
        self._headers = {"User-Agent": "gputally", "Accept-Encoding": "gzip"}
        if token_file is not None:
            self._headers["Authorization"] = f"Bearer {_secret(token_file)}"
        try:
            tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        except (OSError, ValueError) as error:
            raise SettingsError(f"cannot read the certificates {ca_file}: {error}") from error
        self._pool = urllib3.PoolManager(maxsize=1, retries=False, timeout=_TIMEOUT, ssl_context=tls)

    def close(self) -> None:
        """Let go of connections."""
        self._pool.clear()

    def samples(self, selector: str, from_ms: int, until_ms: int) -> Iterator[Series]:
        """Give the samples of (from_ms, until_ms] as they are stored. Raises StoreError."""
        try:
            told = self._asked(f"{selector}[{span(until_ms - from_ms)}]", until_ms, _series)
        except _TooLongError:
            middle_ms = (from_ms + until_ms) // 2
            if middle_ms - from_ms < SHORTEST_SPAN_MS:
                raise StoreError(
                    f"{self.url} has more than {LONGEST_ANSWER >> 20} MiB of {selector} in one interval"
                ) from None
            yield from self.samples(selector, from_ms, middle_ms)
            yield from self.samples(selector, middle_ms, until_ms)
            return
        for labels, samples in told:  # some stores count in the far end as well
            yield Series(labels, [one for one in samples if from_ms < one[0] <= until_ms])

    def values(self, query: str, at_ms: int) -> list[Value]:
        """Give what an expression is at a moment, by labels. Raises StoreError."""
        try:
            return [one for one in self._asked(query, at_ms, _value) if math.isfinite(one.value)]
        except _TooLongError:
            raise StoreError(f"{self.url} answers {query} with too much") from None

    def _asked(self, query: str, at_ms: int, read: Callable[[Any], T]) -> list[T]:
        """Ask, and read each result. Raises StoreError, _TooLongError."""
        said = self._body({"query": query, "time": f"{at_ms / 1000:.3f}"})
        try:
            told = json.loads(said)
            is_partial, found = bool(told.get("isPartial")), [read(one) for one in told["data"]["result"]]
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise StoreError(
                f"{self.url} does not answer as Prometheus does: is it the address of a store, "
                "with the path before /api/v1/query if it has one?"
            ) from error
        if is_partial:
            raise StoreError(f"{self.url} says that its answers are not whole: a part of it is away")
        return found

    def _body(self, fields: Mapping[str, str]) -> bytes:
        try:
            answer = self._pool.request(
                "POST",
                f"{self.url}/api/v1/query",
                fields=dict(fields),
                encode_multipart=False,
                headers=self._headers,
                redirect=False,
                preload_content=False,
            )
            said = _whole(answer)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            self.close()
            raise StoreError(f"{self.url} cannot be asked: {_reason(error)}") from error
        if answer.status != _OK:
            raise StoreError(f"{self.url} answers HTTP {answer.status}: {_why(answer.status, said)}")
        return said


def _series(told: Any) -> Series:  # noqa: ANN401  whatever JSON held
    samples = ((round(at * 1000), float(text)) for at, text in told["values"])
    return Series(_labels(told), [one for one in samples if math.isfinite(one[1])])


def _value(told: Any) -> Value:  # noqa: ANN401
    return Value(_labels(told), float(told["value"][1]))


def _labels(told: Any) -> dict[str, str]:  # noqa: ANN401
    return {str(name): str(text) for name, text in told["metric"].items()}


def _whole(answer: urllib3.BaseHTTPResponse) -> bytes:
    """Read an answer. Raises _TooLongError."""
    pieces, length = [], 0
    for piece in answer.stream(_PIECE, decode_content=True):
        pieces.append(piece)
        length += len(piece)
        if length > LONGEST_ANSWER:
            answer.close()
            raise _TooLongError
    answer.release_conn()
    return b"".join(pieces)


def _reason(error: Exception) -> str:
    """Say why a request failed, without the names of classes and objects."""
    reason = error
    while reason.__cause__ is not None or reason.__context__ is not None:
        reason = reason.__cause__ or reason.__context__  # type: ignore[assignment]
    said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return printable(said, LONGEST_WORD)


def _why(status: int, said: bytes) -> str:
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
        return f"{message}; the address must be what stands before /api/v1/query"
    return message


def _secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_SECRET).decode().strip()
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read the token {path}: {getattr(error, 'strerror', error)}") from error
    if not text or not text.isprintable() or not text.isascii():
        raise SettingsError(f"the token {path} must hold one line of plain letters")
    return text
