"""How stores are asked: no name of a GPU breaks a question, and odd answers are read as they are meant."""

import re
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from agent.errors import SettingsError
from agent.store import Series, Store, Value
from agent.tally import DAY_MS, HOUR_MS
from agent.tick import State
from exporters.rows import GPU, Row
from reports.sources.from_ledger import gather_from
from reports.sources.influx_ledger import InfluxLedger
from reports.sources.influxql import Points, any_of
from reports.sources.ledger import BEFORE_MS, Account, Seat
from reports.sources.prom_ledger import PromLedger
from reports.sources.runs import APART_MS, findings_of
from reports.window import Window
from tests.reports.small import MINUTE_MS, MONDAY_MS
from tests.reports.test_store_sources import ledger_of, push
from tests.stores.influx import influx
from tests.stores.prometheus import prometheus
from tests.stores.victoria import victoria

START_MS = 1_789_344_000_000
HOSTILE = [
    'GPU-"quoted"',
    "GPU-back\\slash\\",
    "GPU-(a|b)*.+?^$[c]{2}",
    "GPU-/slash/ -- ; DROP DATABASE gputally",
    "GPU-'single'",
    "GPU-état…🙂\u202e",
    "GPU-a,b=c d",
    'GPU-{uuid=~".*"}',
    "GPU-$1 %d \t tab",
    "GPU-(?i)case",
    "GPU-(?I)CASE",
]
"""UUIDs as a driver, or who puts labels on series, might give them."""


def rows_of(uuids: Sequence[str], *, hours: int) -> list[Row]:
    """Tell accounts of GPUs, each with a working time of its own, and of another one."""
    rows = []
    for at_ms in range(START_MS, START_MS + hours * HOUR_MS + 1, 5 * MINUTE_MS):
        for number, uuid in enumerate([*uuids, "GPU-other"]):
            labels = (("node", f"n{number}"), ("gpu", str(number)), ("uuid", uuid), ("model", "M"))
            rows.append(Row(GPU, labels, (("info", 1.0), ("up", 1.0)), at_ms))
            elapsed = (at_ms - START_MS) / 1000 + 1_000_000
            for state, part in (("active", number + 1), ("free", 99 - number)):
                whose = (*labels, ("state", state), *((("owner", 'o"\\w\n'),) if state == "active" else ()))
                rows.append(Row(GPU, whose, (("tally_seconds_total", elapsed * part / 100),), at_ms))
    return rows


@pytest.mark.parametrize("opened", [victoria, prometheus, influx], ids=lambda one: one.__name__)
def test_no_name_breaks_a_question(opened: Any) -> None:  # noqa: ANN401  runs a store
    """GPUs are asked for by name, and each gives its own accounts and nobody else's."""
    with opened() as server:
        push(server, [rows_of(HOSTILE, hours=3)])
        ledger = ledger_of(server)
        known = ledger.seats(START_MS, START_MS + HOUR_MS)
        seats = [seat for seat in known if seat.uuid != "GPU-other"]  # line protocol has no tabs
        assert len(seats) == len(HOSTILE)
        moments = [START_MS + HOUR_MS, START_MS + 2 * HOUR_MS]
        for several in (moments, moments[:1]):
            found = ledger.looks("seconds", several, HOUR_MS, seats)
            assert found.keys() == set(seats)
            for seat, accounts in found.items():
                owner = next(one.owner for one in accounts if one.owner)
                told = accounts[Account(State.ACTIVE, owner)]
                assert [at_ms for at_ms, _ in told] == several
                assert [value * 100 / (int(seat.node[1:]) + 1) for _, value in told] == pytest.approx(
                    [(at_ms - START_MS) / 1000 + 1_000_000 for at_ms in several]
                )
        for seat in seats:
            assert ledger.looks("seconds", moments[:1], HOUR_MS, [seat]).keys() == {seat}


def test_patterns_mean_what_they_are_made_of() -> None:
    """A pattern of a name matches that name and no other, also as Python reads it."""
    for name in HOSTILE:
        pattern = any_of("uuid", [name, "x"]).removeprefix('"uuid" =~ /').removesuffix("/")
        assert "/" not in pattern
        assert "\n" not in any_of("uuid", ["a\nb"])
        assert [one for one in [*HOSTILE, "y"] if re.fullmatch(pattern, one)] == [name]


class Answers:
    """A store that answers by the name of a metric; questions are kept."""

    url = "http://store"

    def __init__(self, values: Mapping[str, Sequence[Value]], steps: Mapping[str, Sequence[Series]]) -> None:
        self._values, self._steps = values, steps
        self.asked: list[str] = []

    def values(self, query: str, at_ms: int) -> list[Value]:  # noqa: ARG002
        """Answer what is first found in the question."""
        self.asked.append(query)
        return next((list(told) for name, told in self._values.items() if name in query), [])

    def steps(self, query: str, first_ms: int, last_ms: int, step_ms: int) -> list[Series]:  # noqa: ARG002
        """Answer likewise."""
        self.asked.append(query)
        told = next((told for name, told in self._steps.items() if name in query), ())
        inside = (
            Series(labels, [one for one in samples if first_ms <= one[0] <= last_ms])
            for labels, samples in told
        )
        return [one for one in inside if one.samples]

    def known(self, selector: str, from_ms: int, until_ms: int) -> list[Mapping[str, str]]:  # noqa: ARG002
        """Know nothing."""
        return []


OLD = {"job": "g", "instance": "10.0.0.1:9740"}
NEW = {"job": "g", "instance": "10.0.0.2:9740"}


def test_an_agent_at_two_addresses_is_as_far_as_it_told_last() -> None:
    """A pod that was started anew has another address; the old one still tells of ten minutes ago."""
    told = [Value(NEW, 3_600.0), Value(OLD, 3_000.0)]
    seen = [Value({**OLD, "node": "n1"}, 8.0), Value({**NEW, "node": "n1"}, 8.0)]
    for ends in (told, told[::-1]):
        ledger = PromLedger(Answers({"tick_end": ends, "gpu_up": seen}, {}), "pool")
        assert ledger.ends([3_601_000], HOUR_MS) == {"n1": {3_601_000: 3_600_000}}


def test_an_address_that_is_used_again_tells_of_who_was_there() -> None:
    """n1 was at it until the first moment, n2 is from the second on."""
    ends = [Series(OLD, [(1_000, 0.9), (2_000, 1.9)])]
    seen = [Series({**OLD, "node": "n1"}, [(1_000, 8.0)]), Series({**OLD, "node": "n2"}, [(2_000, 8.0)])]
    ledger = PromLedger(Answers({}, {"tick_end": ends, "gpu_up": seen}), "pool")
    assert ledger.ends([1_000, 2_000], HOUR_MS) == {"n1": {1_000: 900}, "n2": {2_000: 1_900}}


def test_a_store_that_was_away_as_a_window_began_began_before() -> None:
    """It has something of the day before: nothing is cut off. One that began is told by its first hour."""
    from_ms, to_ms = MONDAY_MS, MONDAY_MS + 7 * DAY_MS
    for first_ms in (from_ms - 3 * HOUR_MS, from_ms + 5 * HOUR_MS):
        told = [Series({}, [(at_ms, 8.0) for at_ms in (first_ms, from_ms + 9 * HOUR_MS)])]
        ledger = PromLedger(Answers({}, {"gpu_info": told}), "")
        assert ledger.first(from_ms, to_ms) == max(from_ms, first_ms)
    assert BEFORE_MS >= DAY_MS


def test_accounts_with_a_state_of_another_time_are_left_to_it() -> None:
    """What is no state of ours is not guessed at."""
    labels = {"node": "n1", "uuid": "u", "owner": ""}
    told = [Value({**labels, "state": state}, 5.0) for state in ("free", "dreaming", "")]
    ledger = PromLedger(Answers({"state=": told}, {}), "")
    assert ledger.looks("seconds", [1_000], HOUR_MS) == {
        Seat("u", "n1"): {Account(State.FREE, ""): [(1_000, 5.0)]}
    }


class Statements:
    """A database that gives the same points to each statement."""

    url = "http://store"

    def __init__(self, told: Sequence[Points]) -> None:
        self._told = told

    def points(self, statement: str) -> Iterator[Points]:  # noqa: ARG002
        """Answer."""
        yield from self._told


def test_steps_of_influx_hold_what_was_told_last() -> None:
    """An account that is told each two minutes is known in each minute, and no longer than asked for."""
    tags = {"node": "n1", "uuid": "u", "state": "free", "owner": ""}
    minute = MINUTE_MS
    told = Points(tags, [(at * minute - minute + 1, float(at)) for at in (8, 11, 20)])
    ledger = InfluxLedger(Statements([told]), "")
    found = ledger.looks("seconds", [at * minute for at in range(10, 22)], 3 * minute)
    assert found[Seat("u", "n1")][Account(State.FREE, "")] == [
        (10 * minute, 8.0),
        *((at * minute, 11.0) for at in (11, 12, 13)),
        *((at * minute, 20.0) for at in (20, 21)),
    ]


def test_findings_that_are_told_each_five_minutes_are_one() -> None:
    """A page is scraped so seldom that some moments have none; what stays away for longer has closed."""
    labels = {"rule": "hot", "severity": "warning", "node": "n1", "uuid": "u"}
    step_ms, to_ms = 2 * MINUTE_MS, 200 * MINUTE_MS
    moments = [at * MINUTE_MS for at in (2, 6, 12, 16, 22, 60, 62, 64, 196)]
    found = findings_of([(labels, moments)], step_ms, to_ms)
    assert [(one.opened_ms // MINUTE_MS, one.closed_ms and one.closed_ms // MINUTE_MS) for one in found] == [
        (2, 24),
        (60, 66),
        (196, None),
    ]
    assert APART_MS == 6 * MINUTE_MS


def test_two_replicas_of_everything_count_once() -> None:
    """Two Prometheus side by side, a scrape apart."""
    rows = [
        row._replace(labels=(*row.labels, ("replica", name)), at_ms=row.at_ms + late_ms)
        for name, late_ms in (("a", 0), ("b", 17_000))
        for row in rows_of([], hours=30)
    ]
    window = Window(from_ms=START_MS + HOUR_MS, to_ms=START_MS + 25 * HOUR_MS)
    with victoria() as server:
        push(server, [rows])
        drawn = gather_from(ledger_of(server), window, now_ms=START_MS + 29 * HOUR_MS)
    assert {row.state: row.amounts.elapsed_ms for row in drawn.gathered.rows} == {
        State.ACTIVE: pytest.approx(0.01 * DAY_MS, abs=20_000),
        State.FREE: pytest.approx(0.99 * DAY_MS, abs=20_000),
    }
    assert sum(row.amounts.elapsed_ms for row in drawn.gathered.rows) == DAY_MS


def test_a_tenant_is_named_in_every_question() -> None:
    """Mimir keeps series of several; what cannot be a header is refused."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.headers["X-Scope-OrgID"])
            self.rfile.read(int(self.headers["Content-Length"]))
            body = b'{"status": "success", "data": {"resultType": "vector", "result": []}}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        store = Store(f"http://127.0.0.1:{server.server_port}", tenant="hall2")
        assert store.values("up", 0) == []
        store.close()
        server.shutdown()
    assert asked == ["hall2"]
    with pytest.raises(SettingsError, match="--tenant must be plain letters"):
        Store("http://127.0.0.1:1", tenant="hall\r\n2")
