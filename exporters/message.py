"""A message about findings: what is sent, and how it says when."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

_LATEST_MS = 253_402_300_799_999


class Message(NamedTuple):
    """A body, and headers that belong to it alone."""

    body: bytes
    headers: Mapping[str, str]


def rfc3339(at_ms: int) -> str:
    """Say a moment in UTC, to the millisecond; what no calendar has becomes the nearest that it has."""
    seconds, milliseconds = divmod(min(max(0, at_ms), _LATEST_MS), 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03}Z"
