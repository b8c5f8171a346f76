"""Webhooks over HTTP: what is sent, what answers mean, and that secrets and settings are as for stores."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporters.destination import ExporterSettings
from exporters.fleet import telling_of, trial
from exporters.settle import DELIVERED, Verdict
from exporters.teller import Teller
from tests.exporters.findings import HOT, IDLE, LABELS, NAME, Node, Said, node, said, settle
from tests.exporters.test_transports import Handler, Seen, standing

Act = Callable[[Handler], None]


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Node]:
    """Let a node live."""
    with node(tmp_path / "j.db") as one:
        one.tick()
        yield one


def to_webhook(living: Node, seen: Seen, **more: object) -> Teller:
    """Make what tells a stand-in of a receiver."""
    settings = ExporterSettings(
        name=NAME,
        kind="webhook",
        url=f"{seen.url}/hook?team=gpu",
        **{"timeout_seconds": 2.0, **more},  # type: ignore[arg-type]
    )
    return Teller(telling_of(settings), living.path, LABELS, living.clock)


def received(seen: Seen) -> list[Said]:
    """Read what came, strictly."""
    found = []
    for path, headers, body in seen.requests:
        assert path == "/hook?team=gpu"
        assert headers["content-type"] == "application/json"
        assert headers["user-agent"] == "gputally"
        assert "content-encoding" not in headers
        found.append(said(body, {"Idempotency-Key": headers["idempotency-key"]}))
    return found


def test_each_change_is_a_request_of_its_own(living: Node, tmp_path: Path) -> None:
    """With the receiver's token, to the whole address."""
    token = tmp_path / "token"
    token.write_text("s3cr3t\n")
    with standing(lambda handler: handler.say(202)) as seen:
        one = to_webhook(living, seen, token_file=str(token), headers={"X-Team": "gpu"})
        for found in ((HOT, IDLE), (HOT, IDLE), (IDLE,)):
            living.tick(*found)
            settle(one)
    told = received(seen)
    assert [(one.status, one.rule) for one in told] == [
        ("firing", HOT[0]),
        ("firing", IDLE[0]),
        ("resolved", HOT[0]),
    ]
    assert {headers["authorization"] for _, headers, _ in seen.requests} == {"Bearer s3cr3t"}
    assert {headers["x-team"] for _, headers, _ in seen.requests} == {"gpu"}
    assert "s3cr3t" not in json.dumps([one.finding for one in told])


def _resets(handler: Handler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()
    handler.close_connection = True


@pytest.mark.parametrize(
    ("act", "wanted"),
    [
        (lambda handler: handler.say(500), "HTTP 500"),
        (lambda handler: handler.say(429, Retry_After="7"), "HTTP 429"),
        (lambda handler: handler.say(401, "who are you"), "HTTP 401: who are you"),
        (lambda handler: handler.say(302, Location="http://elsewhere/"), "HTTP 302"),
        (_resets, "ProtocolError"),
    ],
)
def test_what_was_not_taken_is_told_again_under_its_key(living: Node, act: Act, wanted: str) -> None:
    """Also when it was taken and the answer was lost; nothing that waits behind it goes first."""
    with standing(act) as seen:
        one = to_webhook(living, seen)
        living.tick(HOT)
        living.tick(HOT, IDLE)
        pause = one.step()
        assert one.standing.failure.startswith(wanted)
        assert pause == 7.0 or (wanted != "HTTP 429" and 0 < pause <= 1)
        one.step()
        seen.act = lambda handler: handler.say(200)
        settle(one)
        settle(one)
    told = received(seen)
    assert [one.rule for one in told] == [HOT[0], HOT[0], HOT[0], IDLE[0]]
    assert len({one.key for one in told[:3]}) == 1
    assert (one.standing.delivered_ticks, one.standing.failure) == (2, "")


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_is_refused_is_asked_once(living: Node, status: int) -> None:
    """It is counted, and named in the log."""
    with standing(lambda handler: handler.say(status, "no such rule")) as seen:
        one = to_webhook(living, seen)
        living.tick(HOT)
        settle(one)
        settle(one)
    assert len(seen.requests) == 1
    assert (one.standing.refused_rows, one.standing.failure) == (1, "")


def test_a_trial_is_about_nothing() -> None:
    """Receivers know it by its status."""
    with standing(lambda handler: handler.say(204)) as seen:
        settings = ExporterSettings(name=NAME, kind="webhook", url=seen.url)
        assert trial(settings, {}, 0)[0] == DELIVERED
    ((_, headers, body),) = seen.requests
    assert json.loads(body) == {"schema_version": 1, "status": "test"}
    assert "idempotency-key" not in headers


@pytest.mark.parametrize("kind", ["influx1", "otlp"])
def test_a_trial_of_a_store_is_a_figure(kind: str) -> None:
    """As an exporter writes them."""
    more = {"database": "gpu"} if kind == "influx1" else {}
    with standing(lambda handler: handler.say(500)) as seen:
        settings = ExporterSettings(name=NAME, kind=kind, url=seen.url, **more)  # type: ignore[arg-type]
        assert trial(settings, {"node": "n"}, 0)[0].verdict is Verdict.UNREACHABLE
    assert len(seen.requests) == 1
