"""Backtest over a real VictoriaMetrics and a real Prometheus: what was written there is found there."""

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agent import asking as asking_module
from agent.errors import SettingsError, StoreError
from agent.journal_file import connect
from agent.scene import Scene
from agent.store import Store
from agent.tally import DAY_MS
from exporters.history import History
from exporters.remote_write import HEADERS, encode
from exporters.rows import Row
from rules import stored as stored_module
from rules.backtest import Backtest, quantities_of
from rules.hindsight import Moment
from rules.load import built_in
from rules.outcome import Outcome
from rules.stored import Stored
from tests.rules.histories import World, history, some_rules
from tests.rules.pasts import FAULTS, Rules, judged, lived
from tests.rules.scenes import GPUS, INTERVAL_MS, START_MS, Stage
from tests.rules.test_backtest import XID, chance_of
from tests.rules.test_engine import HOT
from tests.rules.unit_tests import samples_of
from tests.stores.prometheus import Prometheus, prometheus
from tests.stores.victoria import Victoria, victoria

RULES = built_in()
SCRAPED_LATE_MS = 3_217
"""So long after the end of an interval is a node scraped."""
AnyStore = Victoria | Prometheus
STORES = pytest.mark.parametrize("opened", [victoria, prometheus])
Opened = Any
"""Runs a store."""


def write(server: AnyStore, rows: list[Row]) -> None:
    """Push rows, a bite at a time, oldest first."""
    for start in range(0, len(rows), 20_000):
        server.write_remote(encode(rows[start : start + 20_000]), HEADERS).good()
    if isinstance(server, Victoria):
        server.ask("GET", "/internal/force_flush").good()


def pushed(path: Path) -> list[Row]:
    """Give what an exporter pushes of a journal."""
    rows: list[Row] = []
    with closing(connect(path)) as db:
        read = History(db, 0, {"pool": "a"})
        while ticks := read.ticks(100):
            rows += [row for _, several in ticks for row in several]
    return rows


def scraped(scenes: Iterable[Scene | None], late_ms: int = SCRAPED_LATE_MS) -> list[Row]:
    """Give what is scraped of a node in each interval."""
    rows: list[Row] = []
    for scene in scenes:
        if scene is None:
            continue
        for (name, labels), value in samples_of(scene).items():
            measurement, _, rest = name.partition("_")
            rows.append(Row(measurement, labels, ((rest, value),), scene.end_ms + late_ms))
    return rows


def found_in(url: str, rules: Rules, from_ms: int, until_ms: int, interval_ms: int = 0) -> Outcome:
    """Judge what a store has."""
    with closing(Store(url)) as store:
        stored = Stored(store, quantities_of(rules), from_ms, until_ms, interval_ms)
        work = Backtest(rules, None, stored.interval_ms, from_ms)
        work.take(stored.moments())
        return work.outcome()


def check_alike(outcome: Outcome, others: Outcome, shift_ms: int = 0) -> None:
    """Fail unless two found the same, within an interval."""
    here, there = (
        sorted(
            (case.finding for case in one.rules.cases), key=lambda one: (one.rule, one.uuid, one.opened_ms)
        )
        for one in (outcome, others)
    )
    assert [(one.rule, one.uuid) for one in here] == [(one.rule, one.uuid) for one in there]
    for one, other in zip(here, there, strict=True):
        assert abs(one.opened_ms - other.opened_ms - shift_ms) <= INTERVAL_MS, (one, other)
        assert (one.closed_ms is None) == (other.closed_ms is None), (one, other)
        if one.closed_ms is not None and other.closed_ms is not None:
            assert abs(one.closed_ms - other.closed_ms - shift_ms) <= INTERVAL_MS, (one, other)
        assert one.times == other.times, (one, other)


@STORES
def test_what_a_node_pushed_is_found_as_in_its_journal(opened: Opened, tmp_path: Path) -> None:
    """States, holders and counters that are told every two minutes hold meanwhile; so does who held a GPU."""
    path = tmp_path / "j.db"
    lived(path, FAULTS, 1_400, RULES)
    journal = judged(path, RULES)
    rows = pushed(path)
    times = [row.at_ms for row in rows]
    with opened() as server:
        write(server, rows)
        outcome = found_in(server.url, RULES, min(times) - 60_000, max(times) + 1)
    assert journal.rules.cases
    check_alike(outcome, journal)
    assert outcome.gpus == journal.gpus
    held = {case.finding.held_by for case in journal.rules.cases}
    assert {case.finding.held_by for case in outcome.rules.cases} == held


@STORES
def test_what_was_scraped_is_found_as_it_was(opened: Opened) -> None:
    """Random rules over random histories, a day each; a node is scraped at its own pace."""
    with opened() as server:
        for day in range(5):
            chance = chance_of(day + 40)
            rules = some_rules(chance)
            lengths_ms = day * DAY_MS
            scenes = [
                one and replace(one, end_ms=one.end_ms + lengths_ms)
                for one in history(chance, World.of(rules))
            ]
            write(server, scraped(scenes))
            work = Backtest(rules, None, INTERVAL_MS, 0)
            work.take(Moment(one, {}) for one in scenes if one)
            begin_ms = START_MS + lengths_ms
            outcome = found_in(
                server.url, rules, begin_ms, begin_ms + DAY_MS // 2, interval_ms=INTERVAL_MS * (day % 2)
            )
            check_alike(outcome, work.outcome(), SCRAPED_LATE_MS)


def test_scrapes_that_tremble_at_the_edge_of_an_interval_lose_nothing() -> None:
    """A sample belongs to the interval around its time, by the pace of its node."""
    stage = Stage({})
    scenes = [stage.scene({"temperature_margin_celsius": 4.0}) for _ in range(40)]
    trembling = [
        row._replace(at_ms=row.at_ms + (-9, 11, 0, -4, 7)[turn % 5])
        for turn, scene in enumerate(scenes)
        for row in scraped([scene], late_ms=5_000)
    ]
    with victoria() as server:
        write(server, trembling)
        outcome = found_in(server.url, {HOT.name: HOT}, START_MS, START_MS + 3_600_000)
    assert (outcome.intervals, outcome.gpus, outcome.observed_ms) == (40, 1, 40 * INTERVAL_MS)


@STORES
def test_more_than_fits_in_one_answer_is_asked_for_in_parts(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And read in pieces; nothing is lost or counted twice at the edges."""
    monkeypatch.setattr(stored_module, "MOST_SAMPLES", 1)
    monkeypatch.setattr(asking_module, "LONGEST_ANSWER", 30_000)
    stage = Stage({})
    scenes = [
        stage.scene({"temperature_margin_celsius": 4.0 if turn % 50 > 10 else 20.0}) for turn in range(300)
    ]
    rules = {HOT.name: HOT}
    with opened() as server:
        write(server, scraped(scenes))
        outcome = found_in(server.url, rules, START_MS, START_MS + 3_600_000)
    work = Backtest(rules, None, INTERVAL_MS, 0)
    work.take(Moment(one, {}) for one in scenes)
    assert work.outcome().rules.cases
    assert outcome.intervals == 300
    check_alike(outcome, work.outcome(), SCRAPED_LATE_MS)


def test_xids_that_came_before_are_not_taken_for_new() -> None:
    """Neither where the time begins in the middle, nor where they are told every two minutes only."""
    rule = replace(XID, when={"e": replace(XID.when["e"], over_seconds=600.0)})
    stage = Stage({})
    stage.xids = {(GPUS[0], 79): 3}
    rows = scraped([stage.scene({"power_watts": 400.0}) for _ in range(200)])
    kept = [row for turn, row in enumerate(rows) if row.fields[0][0] != "xid_errors_total" or turn % 12 == 0]
    with victoria() as server:
        write(server, kept)
        outcome = found_in(server.url, {"xid": rule}, START_MS + 605_000, START_MS + 2_000_000)
    assert outcome.intervals > 100
    assert outcome.rules.cases == ()


@STORES
def test_an_empty_store_says_what_was_looked_for(opened: Opened) -> None:
    """Its address, and the name of the series."""
    with opened() as server, pytest.raises(StoreError, match="gpu_up") as told:
        found_in(server.url, RULES, START_MS, START_MS + DAY_MS)
    assert server.url in str(told.value)


def test_a_store_that_dies_in_the_middle_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found until then is not told as if it were all."""
    monkeypatch.setattr(stored_module, "MOST_SAMPLES", 1)
    stage = Stage({})
    with victoria() as server:
        write(server, scraped([stage.scene({"power_watts": 400.0}) for _ in range(100)]))
        with closing(Store(server.url)) as store:
            stored = Stored(store, ["power_watts"], START_MS, START_MS + DAY_MS, INTERVAL_MS)
            seen = stored.moments()
            next(seen)
            server.kill()
            with pytest.raises(StoreError, match="cannot be asked"):
                list(seen)


class Rude(BaseHTTPRequestHandler):
    """Answers with what it is told to."""

    status, body = 200, b""

    def do_POST(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """Run a server that always answers the same; give its address."""
    handler = type("Handler", (Rude,), {"status": status, "body": body})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "word"),
    [
        (
            422,
            json.dumps({"status": "error", "error": "too many\x1b[2J samples"}).encode(),
            "too many?[2J samples",
        ),
        (500, b"<html>\n oops </html>", "HTTP 500: <html> oops"),
        (503, b"", "does not say why"),
        (401, b"who are you", "--token-file"),
        (404, b"nothing here", "before /api/v1/query"),
        (302, b"", "before /api/v1/query"),
        (200, b"<html>login</html>", "does not answer as Prometheus does"),
        (200, b"[" * 100_000, "does not answer as Prometheus does"),
        (200, b"[]", "does not answer as Prometheus does"),
        (200, b'{"data": {"result": [{"metric": {}, "values": [[Infinity, "1"]]}]}}', "does not answer"),
        (200, b'{"data": {"result": [{"metric": {}, "values": [[1]]}]}}', "does not answer"),
        (200, b'{"data": {"result": [{"metric": [], "values": []}]}}', "does not answer"),
        (200, b'{"data": {"result": [{"metric": {}, "value": [1, "x"]}]}}', "does not answer"),
        (200, b'{"isPartial": true, "data": {"result": []}}', "not whole"),
    ],
)
def test_what_is_no_answer_is_one_sentence(status: int, body: bytes, word: str) -> None:
    """It says what the server said, and what to do."""
    with answering(status, body) as url, closing(Store(url)) as store, pytest.raises(StoreError) as told:
        list(store.samples("gpu_up", 0, 1_000))
    assert word in str(told.value)
    assert str(told.value).isprintable()


def test_nobody_there_is_one_sentence() -> None:
    """With the address and the reason."""
    with closing(Store("http://127.0.0.1:9")) as store, pytest.raises(StoreError, match="refused"):
        store.values("gpu_up", 0)


@pytest.mark.parametrize(
    "url", ["", "store", "ftp://x", "http://", "http://[x", "http://a:99999", "http://u:p@x", "http://x?a=b"]
)
def test_an_address_that_cannot_be_meant_is_refused(url: str) -> None:
    """Passwords in it as well: the sentence says where they belong, and does not tell them."""
    with pytest.raises(SettingsError, match="--source") as told:
        Store(url)
    assert "u:p" not in str(told.value)


def test_a_token_is_read_from_a_file_and_sent(tmp_path: Path) -> None:
    """As a bearer's; a file that holds none is refused."""
    path = tmp_path / "token"
    path.write_text("s3cret\n")
    assert Store("http://x", token_file=path)._headers["Authorization"] == "Bearer s3cret"
    for wrong in ("", "two\nlines"):
        path.write_text(wrong)
        with pytest.raises(SettingsError, match="token"):
            Store("http://x", token_file=path)
    with pytest.raises(SettingsError, match="No such file"):
        Store("http://x", token_file=tmp_path / "none")
    with pytest.raises(SettingsError, match="certificates"):
        Store("https://x", ca_file=path)
