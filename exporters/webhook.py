"""Findings as messages to a web address: one for each that opened or closed.

Whoever receives them may get one again when its answer was lost; the key tells that it is the same.
"""

import json
from collections.abc import Mapping, Sequence

from exporters.message import Message, rfc3339
from exporters.sendable import sendable
from exporters.tidings import Tiding

SCHEMA_VERSION = 1
HEADERS = {"Content-Type": "application/json"}
KEY_HEADER = "Idempotency-Key"
_TEST = {"schema_version": SCHEMA_VERSION, "status": "test"}


def encode(tidings: Sequence[Tiding], labels: Mapping[str, str], at_ms: int) -> Message:
    """Write a change; without one it is a test, about nothing."""
    del at_ms
    if not tidings:
        return Message(json.dumps(_TEST).encode(), {})
    (one,) = tidings
    told = {
        "schema_version": SCHEMA_VERSION,
        "status": "firing" if one.is_open else "resolved",
        "key": one.key,
        "finding": _finding(one, labels),
    }
    return Message(json.dumps(told).encode(), {KEY_HEADER: one.key})


def _finding(one: Tiding, labels: Mapping[str, str]) -> dict[str, object]:
    found, known = one.finding, one.acknowledged
    return {
        "id": one.number,
        "rule": sendable(found.rule),
        "severity": sendable(found.severity),
        "node": sendable(found.node),
        "gpu": one.gpu,
        "uuid": sendable(found.uuid),
        "model": sendable(one.model),
        "opened_at": rfc3339(found.opened_ms),
        "closed_at": None if found.closed_ms is None else rfc3339(found.closed_ms),
        "times": found.times,
        "summary": sendable(found.summary),
        "action": sendable(found.action),
        "held_by": sendable(found.held_by),
        "labels": {name: sendable(text) for name, text in labels.items()},
        "acknowledged": {
            "at": rfc3339(known.at_ms),
            "author": sendable(known.author),
            "reason": sendable(known.reason),
        }
        if known
        else None,
    }
