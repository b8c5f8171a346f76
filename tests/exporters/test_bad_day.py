"""A bad day for every kind of store: in the end each holds what the journal holds."""

import random
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.journal_file import connect
from exporters.cursors import Cursor, Cursors
from exporters.destination import ExporterSettings
from exporters.fleet import shipment_of
from exporters.history import History
from exporters.rows import Row
from exporters.shipper import Shipper
from tests.exporters.simulated import written
from tests.stores.influx import DATABASE, influx
from tests.stores.prometheus import REMOTE, Prometheus, prometheus
from tests.stores.rude import TRANSIENT, WHOLE, Fate, Rude, by_chance, rude
from tests.stores.samples import Samples, at_times_of, differences, expected
from tests.stores.victoria import REMOTE as VICTORIA_REMOTE
from tests.stores.victoria import TOLERANCE, victoria

LABELS = {"cluster": "emea", "rack": "r 7, left=side"}
SHARE, SHARE_IN_ORDER = 0.6, 0.3
"""So many of all requests go wrong; fewer where a store refuses what it has already, tick by tick."""


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write six hours of a node of two GPUs, one tick a minute."""
    return written(tmp_path_factory.mktemp("bad") / "j.db", 6)


Way = tuple[Any, Rude, dict[str, str]]


@contextmanager
def influx_2_of_victoria(folder: Path) -> Iterator[Way]:
    """VictoriaMetrics by the v2 write API."""
    with victoria() as store, rude(store, folder) as way:
        yield store, way, {"kind": "influx", "url": f"{way.url}/influx", "org": "o", "bucket": "gpu"}


@contextmanager
def influx_2(folder: Path) -> Iterator[Way]:
    """InfluxDB by the v2 write API, its path put on that of 1.x."""
    with influx() as store, rude(store, folder) as way:
        yield store, way, {"kind": "influx", "url": way.url, "org": "o", "bucket": DATABASE}


@contextmanager
def influx_1(folder: Path) -> Iterator[Way]:
    """InfluxDB 1.x."""
    with influx() as store, rude(store, folder) as way:
        yield store, way, {"kind": "influx1", "url": way.url, "database": DATABASE}


@contextmanager
def remote_write(folder: Path) -> Iterator[Way]:
    """VictoriaMetrics by remote write."""
    with victoria() as store, rude(store, folder) as way:
        yield store, way, {"kind": "remote_write", "url": f"{way.url}{VICTORIA_REMOTE}"}


@contextmanager
def into_prometheus(folder: Path) -> Iterator[Way]:
    """Prometheus, in order."""
    with prometheus() as store, rude(store, folder) as way:
        yield store, way, {"kind": "remote_write", "url": f"{way.url}{REMOTE}"}


WAYS = [influx_2_of_victoria, influx_2, influx_1, remote_write, into_prometheus]


def rows_of(path: Path) -> list[Row]:
    """Tell all that a journal holds."""
    with closing(connect(path)) as db:
        return [row for _, rows in History(db, 0, LABELS).ticks(10**6) for row in rows]


def cursor(path: Path) -> Cursor:
    """Read the cursor."""
    return Cursors(path).load("fleet")


class Sender:
    """Sends as agents do that are killed at random: each begins anew with what the journal says."""

    def __init__(self, path: Path, way: Rude, settings: dict[str, str]) -> None:
        self._path = path
        whole: dict[str, Any] = {"ca_file": way.authority, "timeout_seconds": 1.0, **settings}
        self._settings = ExporterSettings(name="fleet", **whole)
        self._one = self._new()

    def _new(self) -> Shipper:
        return Shipper(shipment_of(self._settings), self._path, LABELS)

    def kill(self) -> None:
        """Forget all, in the middle of whatever it is."""
        self.close()
        self._one = self._new()

    def close(self) -> None:
        """Close what an agent that ends leaves to the kernel."""
        self._one._shipment.transport.close()
        self._one._forget()

    def step(self) -> None:
        """Do what comes next, without the pauses."""
        self._one.step()

    def finish(self, last: int) -> None:
        """Go on until all is settled."""
        for _ in range(2000):
            if cursor(self._path).tick_id == last:
                return
            self._one.step()
        raise AssertionError(f"it does not end: {cursor(self._path)}")


def without(want: Samples, row: Row) -> Samples:
    """Leave out what one row says."""
    names = {f"{row.measurement}_{name}" for name, _ in row.fields}
    found = {}
    for series, points in want.items():
        labels = dict(series)
        if labels.pop("__name__") in names and labels == dict(row.labels):
            points = [point for point in points if point[0] != row.at_ms]  # noqa: PLW2901
        if points:
            found[series] = points
    return found


def poisoned(rows: list[Row]) -> tuple[Row, Callable[[str], bool]]:
    """Choose a row in the middle of the day that a store will never take, and how to know a body by it."""
    chosen = [row for row in rows if row.labels and "util" not in row.measurement and len(row.fields) > 5]
    row = chosen[len(chosen) // 2]
    uuid = dict(row.labels)["uuid"]

    def in_lines(text: str) -> bool:
        return any(
            uuid in line and line.endswith(f" {row.at_ms}") and "power_watts=" in line
            for line in text.split("\n")
        )

    return row, in_lines


@pytest.mark.parametrize("way_of", WAYS, ids=lambda way_of: way_of.__name__)
def test_after_a_bad_day_a_store_holds_what_the_journal_holds(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way_of: Callable[[Path], Any],
) -> None:
    """Slow, reset, half stored, 429, 500, 503, 400 for one line, no DNS, an expired certificate, kills."""
    chance = random.Random(way_of.__name__)  # noqa: S311
    rows = rows_of(path)
    want = expected(rows)
    last = newest(path)
    with way_of(tmp_path) as (store, way, settings):
        is_line_protocol = settings["kind"] != "remote_write"
        if is_line_protocol:
            row, way.poison = poisoned(rows)
            want = without(want, row)
        fates, share = (WHOLE, SHARE_IN_ORDER) if isinstance(store, Prometheus) else (TRANSIENT, SHARE)
        way.fate = by_chance(chance, fates, share)
        lookup = socket.getaddrinfo
        is_nameless = False

        def look_up(host: str, *more: Any, **named: Any) -> object:  # noqa: ANN401
            if is_nameless and host == "localhost":
                raise socket.gaierror(-3, "Temporary failure in name resolution")
            return lookup(host, *more, **named)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        sender = Sender(path, way, settings)
        reasons = set()
        for step in range(90):
            is_nameless, way.expired = step % 15 == 3, step % 15 == 8
            if chance.random() < 0.2 or is_nameless or way.expired:
                sender.kill()
            sender.step()
            reasons.add(cursor(path).failure)
        is_nameless = way.expired = False
        sender.finish(last)
        sender.close()
        got = at_times_of(store.samples(), want)
        assert differences(got, want, TOLERANCE) == []
    assert any("name resolution" in reason for reason in reasons)
    assert any("expired" in reason for reason in reasons)
    assert all(way.met[fate] for fate in fates)
    if not isinstance(store, Prometheus):
        assert cursor(path).refused_rows == int(is_line_protocol)
    assert cursor(path).dropped_ticks == 0


def newest(path: Path) -> int:
    """Tell the number of the last tick."""
    with closing(connect(path)) as db:
        return int(db.execute("SELECT max(id) FROM tick").fetchone()[0])


def test_a_store_that_says_yes_to_what_it_loses_is_made_whole_by_sending_again(
    path: Path, tmp_path: Path
) -> None:
    """Nothing that it answers tells of it; from the journal it gets all again, and nothing counts twice."""
    want = expected(rows_of(path))
    with remote_write(tmp_path) as (store, way, settings):
        way.fate = by_chance(random.Random(4), (Fate.LIE,), 0.3)  # noqa: S311
        sender = Sender(path, way, settings)
        sender.finish(newest(path))
        assert differences(at_times_of(store.samples(), want), want, TOLERANCE) != []
        way.fate = lambda: Fate.WELL
        Cursors(path).put_back("fleet", 0)
        sender.finish(newest(path))
        sender.close()
        assert differences(at_times_of(store.samples(), want), want, TOLERANCE) == []
