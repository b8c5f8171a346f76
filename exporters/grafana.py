"""Puts annotations up in a Grafana over its HTTP API, each once: its key is looked for before it is posted.

An answer that was lost, an agent that was killed, a finding that closes: in all these cases the mark is there
already, and is written anew (PUT) instead of posted a second time.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode

import urllib3

from exporters.annotations import TAG
from exporters.connections import connections, failure
from exporters.destination import ExporterSettings
from exporters.http_store import USER_AGENT, authorization
from exporters.settle import DELIVERED, Outcome, Verdict, settled, tidy

PATH = "/api/annotations"
LONGEST_SAID = 120
_WHO = (401, 403)
_ELSEWHERE = (*range(300, 400), 404)
_HELP = dict.fromkeys(_WHO, "the token must be of a service account with the role Editor") | dict.fromkeys(
    _ELSEWHERE, f"the address must be what stands before {PATH}"
)


class _Answer(NamedTuple):
    outcome: Outcome
    said: bytes = b""


class Grafana:
    """One Grafana, by its address, maybe with a path. What goes wrong is an outcome that says what helps."""

    def __init__(self, settings: ExporterSettings) -> None:
        self._settings = settings
        self._url = settings.url.rstrip("/")
        self._pool: urllib3.PoolManager | None = None

    def send(self, body: bytes, more: Mapping[str, str] | None = None) -> Outcome:  # noqa: ARG002  the protocol's
        """Put an annotation up, or in the place of what has its key; one without a time leaves no mark."""
        return self.put(body) if "time" in json.loads(body) else self._tried(body)

    def put(self, body: bytes, *, since_ms: int = 0, renews: bool = True) -> Outcome:
        """Put an annotation up; what has its key is replaced, or left as it is.

        It is looked for at its own time, or, where that changes, from `since_ms` on.
        """
        told = json.loads(body)
        to_ms = told["time"]
        around = {"from": min(since_ms or to_ms, to_ms), "to": to_ms}
        answer, number = self._find(told["tags"][-1], around)
        if answer.outcome.verdict is not Verdict.DELIVERED or (number and not renews):
            return answer.outcome
        if number:
            return self._ask("PUT", f"{PATH}/{number}", body).outcome
        return self._ask("POST", PATH, body).outcome

    def close(self) -> None:
        """Let go of connections."""
        if self._pool is not None:
            self._pool.clear()
        self._pool = None

    def _tried(self, body: bytes) -> Outcome:
        """Tell whether marks can be read and would be taken: only then what can be none is refused as bad."""
        answer, _ = self._find(TAG, {})
        if answer.outcome.verdict is not Verdict.DELIVERED:
            return answer.outcome
        outcome = self._ask("POST", PATH, body).outcome
        return DELIVERED if outcome.verdict is Verdict.REFUSED else outcome

    def _find(self, key: str, around: Mapping[str, int]) -> tuple[_Answer, int]:
        """Look for the newest annotation with a tag; 0 for none."""
        query = urlencode({**around, "tags": key, "type": "annotation", "limit": 1})
        answer = self._ask("GET", f"{PATH}?{query}")
        if answer.outcome.verdict is not Verdict.DELIVERED:
            return answer, 0
        try:
            return answer, _number(answer.said, key)
        except (LookupError, RecursionError, TypeError, ValueError):
            reason = f"what answers is no Grafana; {_HELP[404]}"
            return _Answer(Outcome(Verdict.UNREACHABLE, reason)), 0

    def _ask(self, method: str, path: str, body: bytes = b"") -> _Answer:
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json", **self._settings.headers}
        if body:
            headers["Content-Type"] = "application/json"
        try:
            who = authorization(self._settings)
            if self._pool is None:
                self._pool = connections(self._settings)
            answer = self._pool.request(
                method, self._url + path, body=body or None, headers=headers | who, redirect=False
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            self.close()  # a certificate may be renewed, an address changed
            return _Answer(failure(error))
        text = answer.data.decode(errors="replace")
        for one in filter(None, (value.partition(" ")[2] for value in who.values())):
            text = text.replace(one, "…")  # some proxies tell what they were told
        outcome = settled(answer.status, text, answer.headers.get("Retry-After"))
        if outcome.verdict is not Verdict.DELIVERED:
            outcome = outcome._replace(reason=_reason(answer.status, text))
        return _Answer(outcome, answer.data)


def _number(said: bytes, key: str) -> int:
    """Read which annotation has a tag; 0 for none. Raises what reading of anything else raises."""
    told = json.loads(said)
    if not isinstance(told, list):
        raise TypeError
    number = next((one["id"] for one in told if key in one["tags"]), 0)
    if type(number) is not int:
        raise TypeError
    return number


def _reason(status: int, text: str) -> str:
    """Give what Grafana says, and what helps."""
    try:
        message = str(json.loads(text)["message"])
    except (LookupError, RecursionError, TypeError, ValueError):
        message = text
    said = tidy(message[:LONGEST_SAID])
    parts = (f"HTTP {status}" + (f": {said}" if said else ""), _HELP.get(status, ""))
    return "; ".join(part for part in parts if part)
