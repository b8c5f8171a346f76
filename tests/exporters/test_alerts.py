"""Alertmanager: what is open is active there, what closed is not, whatever becomes of it in between."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agent.alerts import alert_name
from agent.clock import now_ms
from exporters.alerts import LASTS_MS, MOST, REPEAT_MS
from exporters.destination import ExporterSettings
from exporters.fleet import telling_of, trial
from exporters.settle import DELIVERED, Outcome, Verdict
from exporters.teller import REFUSED_REST_MS, Teller
from tests.agent.histories import INTERVAL_MS, MIDNIGHT
from tests.exporters.findings import (
    DOWN,
    HOT,
    IDLE,
    LABELS,
    NAME,
    REFUSED,
    Alerts,
    Node,
    node,
    settle,
    teller,
)
from tests.stores.alertmanager import Alertmanager, alertmanager


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Node]:
    """Let a node live."""
    with node(tmp_path / "j.db") as one:
        one.tick()
        yield one


def ms(text: str) -> int:
    """Read a moment."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def test_alerts_are_called_as_in_prometheus() -> None:
    """A route that knows the one knows the other."""
    assert alert_name("thermal_margin_low") == "GpuThermalMarginLow"


def test_an_alert_says_all_of_a_finding(living: Node) -> None:
    """Labels name it, annotations say what to do; it ends by itself, or when it closed."""
    to = Alerts()
    one = teller(living, to)
    living.tick(HOT)
    living.acknowledge()
    settle(one)
    living.tick()
    settle(one)
    (first,), (last,) = to.batches
    assert first == {
        "labels": {
            "cluster": "emea",
            "alertname": "GpuThermalMarginLow",
            "rule": "thermal_margin_low",
            "severity": "warning",
            "node": "hall2-n017",
            "gpu": "0",
            "uuid": "GPU-5c1b0e4a-0000",
            "model": "NVIDIA H200",
        },
        "annotations": {
            "summary": "close to its limit",
            "action": "look at it",
            "held_by": "job 4711 of vision",
            "times": "1",
            "acknowledged": "ada: fan ordered",
        },
        "startsAt": "2026-01-06T00:00:20.000Z",
        "endsAt": "2026-01-06T00:04:20.000Z",
    }
    assert (last["labels"], last["startsAt"]) == (first["labels"], first["startsAt"])
    assert last["endsAt"] == "2026-01-06T00:00:30.000Z"


def test_what_is_open_is_said_again_in_time_and_nothing_else(living: Node) -> None:
    """Each minute, all in one list; what closed once; while nothing is open no request is made."""
    to = Alerts()
    one = teller(living, to)
    settle(one)
    living.tick(HOT, IDLE)
    ends_ms = [0]
    for _ in range(60):
        settle(one)
        living.tick(HOT, IDLE)
        if to.batches:
            ends_ms.append(min(ms(alert["endsAt"]) for alert in to.batches[-1]))
            assert living.clock.wall_ms() < ends_ms[-1] - LASTS_MS / 2
    assert len(to.batches) == 60 * INTERVAL_MS // REPEAT_MS
    assert {len(batch) for batch in to.batches} == {2}
    living.tick()
    settle(one)
    count = to.asked
    for _ in range(60):
        living.tick()
        settle(one)
    assert (to.asked, len(to.batches[-1])) == (count, 2)


def test_repetitions_go_on_after_the_clock_was_set_back(living: Node) -> None:
    """They are due by a clock that nobody sets."""
    to = Alerts()
    one = teller(living, to)
    living.tick(HOT)
    settle(one)
    living.clock.step(-3600)
    living.clock.wait(REPEAT_MS / 1000)
    settle(one)
    assert len(to.batches) == 2
    alert = to.batches[1][0]
    assert ms(alert["endsAt"]) >= ms(alert["startsAt"])


def test_a_bad_finding_holds_up_no_other(living: Node) -> None:
    """It is found by halves, counted once, and said again only after a long time."""
    to = Alerts()

    def act(batch: list[dict[str, Any]]) -> Outcome:
        return REFUSED if any(one["labels"]["rule"] == "bad" for one in batch) else DELIVERED

    to.act = act
    one = teller(living, to)
    good = [(f"rule_{number}", number % 2) for number in range(MOST + 20)]
    living.tick(*good, ("bad", 0))
    settle(one)
    told = [alert["labels"]["rule"] for batch in to.batches for alert in batch]
    assert sorted(told) == sorted(rule for rule, _ in good)
    assert to.asked < 20
    assert (one.standing.refused_rows, one.standing.delivered_ticks) == (1, len(good))
    for seconds, more in ((REPEAT_MS / 1000, False), (REFUSED_REST_MS / 1000, True)):
        living.clock.wait(seconds)
        refused = to.asked - len(to.batches)
        settle(one)
        assert (to.asked - len(to.batches) > refused) is more
    assert one.standing.refused_rows == 1


def test_a_large_list_goes_in_parts(living: Node) -> None:
    """No body is longer than a megabyte, though texts may be long."""
    to = Alerts()
    longest: list[int] = []
    send = to.send
    to.send = lambda body, more=None: longest.append(len(body)) or send(body, more)  # type: ignore[func-returns-value, method-assign]
    living.text = "long " * 5000
    one = teller(living, to)
    living.tick(*((f"rule_{number}", 0) for number in range(MOST)), *((f"rule_{n}", 1) for n in range(MOST)))
    settle(one)
    assert sum(map(len, to.batches)) == 2 * MOST
    assert max(longest) <= 1024 * 1024 < sum(longest)


# A real one


def to_alertmanager(living: Node, store: Alertmanager) -> Teller:
    """Make what tells a real Alertmanager."""
    settings = ExporterSettings(name=NAME, kind="alertmanager", url=store.url, spread_seconds=0)
    return Teller(telling_of(settings), living.path, LABELS, living.clock)


def test_alertmanager_shows_what_is_open(tmp_path: Path) -> None:
    """Active while open; gone when closed; with our labels, by which amtool finds and silences them."""
    with alertmanager() as store, node(tmp_path / "j.db", now_ms() - 5 * INTERVAL_MS) as living:
        one = to_alertmanager(living, store)
        for found, wanted in (((), []), ((HOT,), [HOT]), ((HOT, IDLE), [IDLE, HOT]), ((IDLE,), [IDLE])):
            living.tick(*found)
            settle(one)
            assert store.rules() == [rule for rule, _ in wanted]
        (alert,) = store.alerts("alertname=GpuHeldIdleLong", "node=hall2-n017", "gpu=1", "cluster=emea")
        assert alert["labels"]["severity"] == "warning"
        assert alert["annotations"]["action"] == "look at it"
        assert ms(alert["startsAt"]) == living.clock.wall_ms() - INTERVAL_MS
        store.amtool(
            "silence", "add", "rule=held_idle_long", "uuid=GPU-5c1b0e4a-0001", "-a", "ada", "-c", "known"
        )
        assert store.alerts(silenced=False) == []
        assert store.rules() == [IDLE[0]]
        living.tick()
        settle(one)
        assert store.rules() == []


def test_an_outage_of_alertmanager_ends_with_the_right_alerts(tmp_path: Path) -> None:
    """It keeps no alerts itself: what is open is there again, what opened meanwhile too, nothing else."""
    with alertmanager() as store, node(tmp_path / "j.db", now_ms() - 10 * INTERVAL_MS) as living:
        one = to_alertmanager(living, store)
        living.tick(HOT, IDLE)
        settle(one)
        store.kill()
        living.tick(HOT)
        assert settle(one) > 0
        assert (one.standing.waiting_ticks, one.standing.failure[:9]) == (1, "NewConnec")
        living.tick(HOT, ("gpu_down", 1), ("straggler", 1))
        living.tick(HOT, ("gpu_down", 1))
        store.start()
        settle(one)
        living.clock.wait(REPEAT_MS / 1000)
        settle(one)
        assert store.rules() == ["gpu_down", HOT[0]]
        assert one.standing.failure == ""


def test_what_a_dead_agent_told_is_told_on_by_the_next(tmp_path: Path) -> None:
    """At once, before Alertmanager takes it for over."""
    to = Alerts()
    with node(tmp_path / "j.db", MIDNIGHT) as living:
        living.tick(HOT)
        settle(teller(living, to))
        settle(teller(living, to))
        assert len(to.batches) == 2
        to.act = lambda _: DOWN
        living.tick()
        settle(teller(living, to))
        to.act = lambda _: Outcome(Verdict.DELIVERED)
        settle(teller(living, to))
        settle(teller(living, to))
    assert [len(batch) for batch in to.batches] == [1, 1, 1]
    assert to.batches[2][0]["endsAt"] == "2026-01-06T00:00:20.000Z"


def test_difficult_texts_are_taken(tmp_path: Path) -> None:
    """What is in a journal Alertmanager takes as it is; what is very long is cut."""
    with alertmanager() as store, node(tmp_path / "j.db", now_ms() - INTERVAL_MS) as living:
        living.text = 'Jörg\'s "GPU" \n\0 🔥 {{ .Labels }} ' + "x" * 20_000
        living.tick(HOT)
        one = to_alertmanager(living, store)
        settle(one)
        assert store.rules() == [HOT[0]]
        (alert,) = store.alerts()
        assert alert["annotations"]["summary"][:40] == living.text[:40]
        assert len(alert["annotations"]["summary"]) < 17_000


def test_a_trial_changes_nothing() -> None:
    """An empty list is taken, and is no alert."""
    with alertmanager() as store:
        settings = ExporterSettings(name=NAME, kind="alertmanager", url=f"{store.url}/")
        assert trial(settings, {}, 0)[0] == DELIVERED
        assert store.rules() == []
