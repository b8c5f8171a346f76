"""What Grafana answers: read to a bound, and what helps when it says no."""

import io
import ssl
import time

import requests

from agent.asking import LONGEST_ANSWER

SECONDS = 30.0
"""So long may Grafana be silent; a whole answer may take twice as long."""
BAD, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, CHANGED, SERVER = 400, 401, 403, 404, 409, 412, 500
_PIECE = 1 << 16
_HELPS = {
    NOT_FOUND: "is it older than 11.0, is its alerting switched off, or does the address lack a path?",
    CONFLICT: "something else has this name or UID: rename or delete that, or use it",
    CHANGED: "somebody else has changed it or has its name: look at it in Grafana, then push again",
    SERVER: "Grafana has trouble of its own: its log says more; push again when it is well",
}
PROVISIONED = "it came out of a file of Grafana's provisioning: change it there, or take it out there"


class ElsewhereError(Exception):
    """The answer is a redirect, to what this says."""


def bounded(answer: requests.Response, *_: object, **__: object) -> None:
    """Read an answer to its end, but not for ever: a hook of requests. Raises ElsewhereError, OSError."""
    if answer.is_redirect:
        answer.close()
        raise ElsewhereError(answer.headers["Location"])
    try:
        answer.raw = io.BytesIO(_whole(answer))
    except BaseException:
        answer.close()
        raise


def _whole(answer: requests.Response) -> bytes:
    pieces, length, until = [], 0, time.monotonic() + 2 * SECONDS
    while piece := answer.raw.read1(_PIECE, decode_content=True):  # what is there: it may come drop by drop
        pieces.append(piece)
        length += len(piece)
        if length > LONGEST_ANSWER:
            raise OSError(f"its answer is longer than {LONGEST_ANSWER >> 20} MiB")
        if time.monotonic() > until:
            raise TimeoutError(f"its answer has not ended after {2 * SECONDS:g} seconds")
    return b"".join(pieces)


def message(status: int, told: object) -> str:
    """Give Grafana's own words; of a page only that it is one."""
    if isinstance(told, dict):
        return str(told.get("message") or told.get("title") or "it does not say why")
    return f"HTTP {status}"


def helps(status: int, told: str, needs: str) -> str:
    """Say what helps, as the end of a sentence; `needs` is the role or permission that it takes."""
    words = told.lower()
    if status == FORBIDDEN and "read-only" not in words:
        return f"; the service account needs {needs}" if needs else ""
    if any(word in words for word in ("provisioned", "provenance", "read-only")):
        return f"; {PROVISIONED}"
    text = _HELPS.get(min(status, SERVER), "")
    return f"; {text}" if text else ""


def is_about_certificates(error: BaseException | None) -> bool:
    """Tell whether a certificate was not believed."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
