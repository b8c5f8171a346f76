"""What a client asks for: the head of an HTTP/1 request, read within bounds, and the bytes of an answer."""

import re
from collections.abc import Callable, Generator, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple, TypeVar

LONGEST_LINE = 4096
LONGEST_HEAD = 16_384
_SHORT = 1024
_MOST_KNOWN = 64
TEXT = "text/plain; charset=utf-8"

_LINE = re.compile(rb"([A-Z]{1,16}) (\S{1,%d}) HTTP/(\d)\.(\d)" % LONGEST_LINE)
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
T = TypeVar("T")


class Request(NamedTuple):
    """A sound request; names of headers are in lower case, of several of a name the last counts.

    `is_last` says that nothing came after it.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    is_last: bool = True


class Answer(NamedTuple):
    """What is said to a request."""

    status: HTTPStatus
    body: bytes
    kind: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()


_known: dict[bytes, Request] = {}
"""What was said lately, and is secret to nobody: scrapers say the same each time."""


class BadRequest(Exception):  # noqa: N818  it is the client's
    """What came is no request that we answer; `answer` says why."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.answer = Answer(status, f"{why}\n".encode())


def read(receive: Callable[[int], Generator[T, None, bytes]]) -> Generator[T, None, Request | None]:
    """Read a request's head; None when the client went away before its end. Raises BadRequest, OSError.

    It waits as `receive` does.
    """
    head = b""
    while b"\r\n\r\n" not in head and b"\n\n" not in head:
        more = yield from receive(LONGEST_HEAD)
        if not more:
            return None
        known = None if head else _known.get(more)
        if known is not None:
            return known
        head = (head + more).lstrip(b"\r\n")  # some clients send an empty line first
        if b"\n" not in head and len(head) > LONGEST_LINE:
            raise BadRequest(HTTPStatus.REQUEST_URI_TOO_LONG, "the first line is too long")
        if len(head) > LONGEST_HEAD:
            raise BadRequest(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "there is too much before the empty line"
            )
    ours, _, rest = head.replace(b"\r\n", b"\n").partition(b"\n\n")
    request = _parse(ours, is_last=not rest)
    if request.is_last and len(head) <= _SHORT and "authorization" not in request.headers:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[head] = request
    return request


def _parse(head: bytes, *, is_last: bool) -> Request:
    first, *lines = head.split(b"\n")
    match = _LINE.fullmatch(first)
    if match is None:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "this is no request of HTTP/1.1")
    method, target, major, _ = (part.decode("ascii", "replace") for part in match.groups())
    if major != "1":
        raise BadRequest(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "speak HTTP/1.1")
    if method not in {"GET", "HEAD"}:
        raise BadRequest(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are answered")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or _NAME.fullmatch(name) is None or b"\r" in value:
            raise BadRequest(HTTPStatus.BAD_REQUEST, "a header is not written as name: value")
        headers[name.decode("ascii").lower()] = value.strip(b" \t").decode("latin-1")
    return Request(method, target.partition("?")[0], headers, is_last)


def encode(
    answer: Answer, server: str, extra: Mapping[str, str], now_seconds: float, *, with_body: bool
) -> bytes:
    """Write an answer; every connection ends with it. `extra` wins over what we set ourselves."""
    headers = {
        "Server": server,
        "Date": formatdate(now_seconds, usegmt=True),
        "Content-Type": answer.kind,
        "Content-Length": str(len(answer.body)),
        "Connection": "close",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
        **dict(answer.headers),
        **extra,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n{lines}\r\n".encode("ascii")
    return head + answer.body if with_body else head
