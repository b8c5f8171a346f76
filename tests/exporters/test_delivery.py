"""Delivery into real stores: what they answer equals the journal, value by value and time by time."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.journal_file import connect
from exporters.cursors import Cursors
from exporters.destination import ExporterSettings
from exporters.fleet import shipment_of
from exporters.history import History
from exporters.shipper import Shipper
from tests.exporters.simulated import written
from tests.stores.influx import DATABASE, Influx, influx
from tests.stores.prometheus import REMOTE, Prometheus, prometheus
from tests.stores.samples import Samples, at_times_of, differences, expected
from tests.stores.victoria import REMOTE as VICTORIA_REMOTE
from tests.stores.victoria import TOLERANCE, Victoria, victoria

Store = Victoria | Influx | Prometheus
LABELS = {"cluster": "emea", "rack": "r 7, left=side"}


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write three hours of a node of two GPUs, one tick a minute."""
    return written(tmp_path_factory.mktemp("delivery") / "j.db", 3)


@contextmanager
def by_influx_client() -> Iterator[tuple[Store, Callable[[], ExporterSettings]]]:
    """VictoriaMetrics through influxdb-client and the v2 write API."""
    with victoria() as store:
        yield (
            store,
            lambda: ExporterSettings(
                name="fleet", kind="influx", url=f"{store.url}/influx", org="o", bucket="gpu"
            ),
        )


@contextmanager
def by_influx1() -> Iterator[tuple[Store, Callable[[], ExporterSettings]]]:
    """InfluxDB 1.6 through /write."""
    with influx() as store:
        yield store, lambda: ExporterSettings(name="fleet", kind="influx1", url=store.url, database=DATABASE)


@contextmanager
def by_remote_write() -> Iterator[tuple[Store, Callable[[], ExporterSettings]]]:
    """VictoriaMetrics through remote write."""
    with victoria() as store:
        yield (
            store,
            lambda: ExporterSettings(name="fleet", kind="remote_write", url=f"{store.url}{VICTORIA_REMOTE}"),
        )


@contextmanager
def into_prometheus() -> Iterator[tuple[Store, Callable[[], ExporterSettings]]]:
    """Prometheus through remote write, in order."""
    with prometheus() as store:
        yield store, lambda: ExporterSettings(name="fleet", kind="remote_write", url=f"{store.url}{REMOTE}")


WAYS = [by_influx_client, by_influx1, by_remote_write, into_prometheus]


def wanted(path: Path) -> Samples:
    """Tell what a store must hold of a journal."""
    with closing(connect(path)) as db:
        return expected(row for _, rows in History(db, 0, LABELS).ticks(10**6) for row in rows)


def ship(path: Path, settings: ExporterSettings, most: int = 1000) -> Shipper:
    """Send until there is nothing more to send, or so many times."""
    one = Shipper(shipment_of(settings), path, LABELS)
    for _ in range(most):
        if one.step() >= 30:
            break
    return one


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_store_holds_what_the_journal_holds(
    path: Path, way: Callable[[], Iterator[tuple[Store, Callable[[], ExporterSettings]]]]
) -> None:
    """Every figure of every tick, with its own time, under all of its labels, and nothing else."""
    with way() as (store, settings):  # type: ignore[attr-defined]
        ship(path, settings())
        want = wanted(path)
        assert differences(at_times_of(store.samples(), want), want, TOLERANCE) == []
    assert Cursors(path).load("fleet").refused_rows == 0


@pytest.mark.parametrize("way", [by_influx_client, by_remote_write], ids=lambda way: way.__name__)
def test_an_outage_of_the_store_loses_nothing(
    path: Path, way: Callable[[], Iterator[tuple[Store, Callable[[], ExporterSettings]]]]
) -> None:
    """The store dies after some batches and comes back: in the end it holds all."""
    with way() as (store, settings):  # type: ignore[attr-defined]
        first = settings()
        ship(path, first, most=2)
        store.stop()
        one = Shipper(shipment_of(first), path, LABELS)
        assert one.step() > 0
        assert Cursors(path).load("fleet").failure != ""
        store.start()
        while one.step() < 30 or one._failures:
            pass
        want = wanted(path)
        assert differences(at_times_of(store.samples(), want), want, TOLERANCE) == []


def test_prometheus_refuses_what_is_too_old_and_takes_the_rest(path: Path) -> None:
    """A sample from before what it has is refused for good and counted; the queue goes on."""
    with prometheus() as store:
        settings = ExporterSettings(
            name="fleet", kind="remote_write", url=f"{store.url}{REMOTE}", order="newest_first"
        )
        ship(path, settings)
        cursor = Cursors(path).load("fleet")
        assert cursor.refused_rows > 0
        assert "HTTP 400" in cursor.refusal
        with closing(connect(path)) as db:
            assert cursor.tick_id == db.execute("SELECT max(id) FROM tick").fetchone()[0]
        assert store.samples()
