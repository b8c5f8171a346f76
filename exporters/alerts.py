"""Findings as alerts, as Alertmanager's v2 API takes them.

An alert is its labels: they stay the same from the opening of a finding to its end. One that is open ends by
itself after a while, so that what an agent no longer says goes away: it has to be sent again before that.
"""

import json
from collections.abc import Mapping, Sequence

from agent.alerts import alert_name
from exporters.message import Message, rfc3339
from exporters.sendable import sendable
from exporters.tidings import Tiding

PATH = "/api/v2/alerts"
REPEAT_MS, LASTS_MS = 60_000, 240_000
"""How often what is open is sent again, and after what time Alertmanager takes it for over."""
MOST = 64
HEADERS = {"Content-Type": "application/json"}


def encode(tidings: Sequence[Tiding], labels: Mapping[str, str], at_ms: int) -> Message:
    """Write alerts as they are at a moment; none are an empty list."""
    told = [_alert(one, labels, at_ms) for one in tidings]
    return Message(json.dumps(told).encode(), {})


def _alert(one: Tiding, labels: Mapping[str, str], at_ms: int) -> dict[str, object]:
    found = one.finding
    ends_ms = at_ms + LASTS_MS if found.closed_ms is None else found.closed_ms
    return {
        "labels": _known({**labels, **_labels(one)}),
        "annotations": _known(_annotations(one)),
        "startsAt": rfc3339(found.opened_ms),
        "endsAt": rfc3339(max(ends_ms, found.opened_ms)),  # clocks may be set back
    }


def _labels(one: Tiding) -> dict[str, str]:
    found = one.finding
    return {
        "alertname": alert_name(found.rule),
        "rule": found.rule,
        "severity": found.severity,
        "node": found.node,
        "gpu": "" if one.gpu is None else str(one.gpu),
        "uuid": found.uuid,
        "model": one.model,
    }


def _annotations(one: Tiding) -> dict[str, str]:
    found, known = one.finding, one.acknowledged
    return {
        "summary": found.summary,
        "action": found.action,
        "held_by": found.held_by,
        "times": str(found.times),
        "acknowledged": f"{known.author}: {known.reason}" if known else "",
    }


def _known(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: sendable(text) for name, text in texts.items() if text}
