"""How a batch is settled: delivered, refused for good, or to be tried again."""

import email.utils
import time
from enum import StrEnum
from typing import NamedTuple, Protocol

LONGEST_REASON = 300
LONGEST_RETRY_SECONDS = 3600.0


class Verdict(StrEnum):
    """What became of a batch."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


class Outcome(NamedTuple):
    """What became of a batch, why, and how long the store asks to be left alone.

    `of_time` says that all of a batch was refused because it is too old or comes too late: parts of it would
    be refused as well. `refused` is how many figures of a batch that was delivered were refused all the same;
    which ones is not known.
    """

    verdict: Verdict
    reason: str = ""
    retry_seconds: float = 0.0
    of_time: bool = False
    refused: int = 0


DELIVERED = Outcome(Verdict.DELIVERED)
_TIME = (
    "out of bounds",
    "out of order",
    "too old",
    "outside retention",
    "beyond retention",
    "too far behind",
)
_PERMANENT = "permanent error"
_REFUSING_STATUS = 500
"""What Prometheus with a window for late samples answers to those from before it, and a collector of
OpenTelemetry to what it calls a permanent error; any other 500 may pass."""
_FOR_GOOD = (400, 413, 422)
"""The batch as it is will never be taken. Everything else may be put right: 401, 403 and 404 by whoever runs
the store or the settings, 429 and 5xx by waiting."""


class Transport(Protocol):
    """Sends encoded batches to one store."""

    def send(self, body: bytes) -> Outcome:
        """Send a batch; never raises for what a store or a network may do."""

    def close(self) -> None:
        """Let go of connections."""


def settled(status: int, text: str, retry_after: str | None = None) -> Outcome:
    """Settle a batch by the store's answer."""
    if 200 <= status < 300:  # noqa: PLR2004
        return DELIVERED
    reason = tidy(f"HTTP {status}: {text}" if text else f"HTTP {status}")
    of_time = any(sign in text.lower() for sign in _TIME)
    is_meant = of_time or _PERMANENT in text.lower()
    if status in _FOR_GOOD or (is_meant and status == _REFUSING_STATUS):
        return Outcome(Verdict.REFUSED, reason, of_time=of_time)
    return Outcome(Verdict.UNREACHABLE, reason, seconds_of(retry_after))


def failed(error: Exception) -> Outcome:
    """Settle a batch whose sending failed."""
    return Outcome(Verdict.UNREACHABLE, tidy(f"{type(error).__name__}: {error}"))


def seconds_of(retry_after: str | None) -> float:
    """Read a Retry-After header: seconds, or a date; 0 for none or nonsense."""
    text = (retry_after or "").strip()
    seconds = 0.0
    if text.isascii() and text.isdecimal():
        seconds = float(text[:9])
    elif text:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()  # noqa: TID251
        except (ValueError, TypeError, OverflowError):
            seconds = 0.0
    return min(max(0.0, seconds), LONGEST_RETRY_SECONDS)


def tidy(text: str) -> str:
    """Make an answer of a store fit for a log: one short printable line."""
    return "".join(one if one.isprintable() else " " for one in text[:LONGEST_REASON]).strip()
