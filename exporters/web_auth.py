"""Basic authentication by bcrypt hashes that costs an attacker more than it costs us.

A password that was right is remembered by a keyed hash, so that only the first scrape pays for bcrypt. All
others are checked one at a time, each wrong one is followed by a pause, and few may wait.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
import threading
import time
from collections.abc import Mapping
from enum import Enum

MOST_WAITING = 4
"""So many requests may wait for a check; the others are told to come back."""

MOST_KNOWN = 256
DEAREST_COST = 16
"""Beyond this a single check takes seconds."""

_PAUSE_TIMES = 3
"""After a wrong password nothing is checked for so many times as long as it took: a quarter of a core."""

_HASH = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")


class Verdict(Enum):
    """What is said to a request."""

    WELCOME = "welcome"
    REFUSED = "refused"
    BUSY = "busy"


def cost_of(hashed: str) -> int:
    """Give the cost of a bcrypt hash. Raises ValueError for what is none, or is too dear."""
    match = _HASH.fullmatch(hashed)
    if match is None:
        raise ValueError("is not a bcrypt hash; make one with: htpasswd -nBC 10 USER")
    cost = int(match[1])
    if not 4 <= cost <= DEAREST_COST:  # noqa: PLR2004  bcrypt has no lower
        raise ValueError(f"has a cost of {cost}; choose 10 to {DEAREST_COST}")
    return cost


class Doorkeeper:
    """Knows users and their hashes; safe to use from several threads. Hashes were seen by `cost_of`."""

    def __init__(self, users: Mapping[str, str]) -> None:
        import bcrypt  # noqa: PLC0415  only where a file asks for it

        self._check = bcrypt.checkpw
        self._users = {name: hashed.encode() for name, hashed in users.items()}
        dearest = max(map(cost_of, users.values()), default=10)
        self._nobody = f"$2b${dearest:02}$".encode() + b"." * 53  # as dear to check as a real one
        self._key = os.urandom(32)
        self._known: set[bytes] = set()
        self._seats = threading.BoundedSemaphore(MOST_WAITING)
        self._one_at_a_time = threading.Lock()
        self._nap = threading.Event()

    def recall(self, authorization: str) -> Verdict | None:
        """Judge the value of an Authorization header; None where a password would have to be checked."""
        if not self._users:
            return Verdict.WELCOME
        named = _credentials(authorization)
        if named is None:
            return Verdict.REFUSED
        return Verdict.WELCOME if self._seen(*named) in self._known else None

    def judge(self, authorization: str) -> Verdict:
        """Judge the value of an Authorization header, empty where there is none."""
        verdict, named = self.recall(authorization), _credentials(authorization)
        if verdict is not None or named is None:
            return verdict or Verdict.REFUSED
        name, password = named
        hashed, seen = self._users.get(name, self._nobody), self._seen(name, password)
        if not self._seats.acquire(blocking=False):
            return Verdict.BUSY
        try:
            right = self._is_right(password, hashed) and name in self._users
        finally:
            self._seats.release()
        if right and len(self._known) < MOST_KNOWN:
            self._known.add(seen)
        return Verdict.WELCOME if right else Verdict.REFUSED

    def _seen(self, name: str, password: bytes) -> bytes:
        hashed = self._users.get(name, self._nobody)
        return hmac.digest(self._key, b"\0".join((hashed, name.encode(), password)), hashlib.sha256)

    def _is_right(self, password: bytes, hashed: bytes) -> bool:
        with self._one_at_a_time:
            began = time.monotonic()
            try:
                right = self._check(password, hashed)
            except ValueError:  # longer than bcrypt can tell apart
                right = False
            if not right:
                self._nap.wait((time.monotonic() - began) * _PAUSE_TIMES)
            return right


def _credentials(authorization: str) -> tuple[str, bytes] | None:
    scheme, _, told = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(told.strip(), validate=True).partition(b":")
        return (name.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None
