"""OTLP: what goes in is read back by a strict reader, under the names of the conventions."""

import gzip
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from agent.journal_file import connect
from exporters import otlp
from exporters.catalogue import FAMILIES
from exporters.conventions import BY_OWN_NAME, CONVENTIONS, table, unit_of
from exporters.cursors import Cursors
from exporters.destination import ExporterSettings, ExportersSettings
from exporters.fleet import shipment_of
from exporters.history import History
from exporters.otlp import LONGEST_BYTES, MOST_REFUSED, MOST_SERIES, encode, outcome_of
from exporters.rows import Row
from exporters.sendable import sendable
from exporters.settle import DELIVERED, Outcome, Verdict, settled
from exporters.shipper import Shipper
from gputally.surroundings import stores
from tests.exporters.difficult import DIFFICULT, LONG, texts, values
from tests.exporters.otlp_reader import HARDWARE, expected, read
from tests.exporters.simulated import SETTINGS, written
from tests.exporters.test_transports import Handler, Seen, sent, standing
from tests.stores.samples import Samples, series_of

ROOT = Path(__file__).parents[2]
AT_MS = 1_790_000_000_123
GPU = (("node", "n1"), ("gpu", "3"), ("uuid", "GPU-5f0c"), ("model", "NVIDIA H200"), ("cluster", "emea"))
LABELS = {"cluster": "emea", "rack": "r 7, left=side"}

names = st.sampled_from(["gpu", "Rack", "node", "zone", "kind", "uuid", "model", "fan"])
labels = st.dictionaries(names, texts, max_size=6).map(lambda found: tuple(found.items()))
owns = [name.removeprefix("gpu_") for name in (*BY_OWN_NAME, "gpu_sm_active_ratio", "gpu_xid_errors_total")]
fields = st.dictionaries(st.sampled_from(owns), values, min_size=1, max_size=4)
rows = st.builds(
    Row,
    st.sampled_from(["gpu", "gputally"]),
    labels,
    fields.map(lambda found: tuple(found.items())),
    st.integers(1, 50),
)


@pytest.mark.parametrize(
    ("field", "more", "name", "attributes"),
    [
        ("busy_ratio", (), "hw.gpu.utilization", {"hw.gpu.task": "general"}),
        ("decoder_ratio", (), "hw.gpu.utilization", {"hw.gpu.task": "decoder"}),
        ("memory_used_bytes", (), "hw.gpu.memory.usage", {}),
        ("pcie_rx_bytes_total", (), "hw.gpu.io", {"network.io.direction": "receive"}),
        ("energy_joules_total", (), "hw.energy", {}),
        (
            "ecc_volatile_errors_total",
            (("kind", "uncorrected"),),
            "hw.errors",
            {"error.type": "uncorrected", "kind": "uncorrected"},
        ),
    ],
)
def test_a_gpu_is_told_as_the_conventions_say(
    field: str, more: tuple[tuple[str, str], ...], name: str, attributes: dict[str, str]
) -> None:
    """Our labels stay, theirs come besides, and the own name is not sent as well."""
    about = {
        "hw.id": "GPU-5f0c",
        "hw.type": "gpu",
        "hw.name": "GPU 3",
        "hw.vendor": "NVIDIA",
        "hw.model": "NVIDIA H200",
    }
    series = series_of({**dict(GPU), **about, **attributes, "__name__": name})
    row = Row("gpu", (*GPU, *more), ((field, 0.5),), AT_MS)
    assert read(encode([row])) == {series: [(AT_MS, 0.5)]}


def test_sensors_and_fans_are_parts_of_their_gpu() -> None:
    """Each has an identity of its own and names its GPU as its parent."""
    found = read(
        encode(
            [
                Row("gpu", GPU, (("temperature_celsius", 61.0), ("memory_temperature_celsius", 70.0)), 5),
                Row("gpu", GPU, (("temperature_shutdown_celsius", 92.0),), 5),
                Row("gpu", (*GPU, ("fan", "1")), (("fan_speed_ratio", 0.4),), 5),
            ]
        )
    )
    told = {
        (one["__name__"], one["hw.id"], one["hw.parent"], one["hw.type"], one.get("hw.limit_type", ""))
        for one in map(dict, found)
    }
    assert told == {
        ("hw.temperature", "GPU-5f0c/core", "GPU-5f0c", "temperature", ""),
        ("hw.temperature", "GPU-5f0c/memory", "GPU-5f0c", "temperature", ""),
        ("hw.temperature.limit", "GPU-5f0c/core", "GPU-5f0c", "temperature", "high.critical"),
        ("hw.fan.speed_ratio", "GPU-5f0c/fan 1", "GPU-5f0c", "fan", ""),
    }


def test_a_gpu_that_does_not_answer_has_failed() -> None:
    """A status is told for each state: 1 for the one that is, 0 for the other."""
    found = read(encode([Row("gpu", GPU, (("up", 1.0),), 5), Row("gpu", GPU, (("up", 0.0),), 6)]))
    assert {dict(series)["hw.state"]: points for series, points in found.items()} == {
        "ok": [(5, 1.0), (6, 0.0)],
        "failed": [(5, 0.0), (6, 1.0)],
    }


def test_what_the_conventions_do_not_know_keeps_its_name() -> None:
    """So does what has no identity to be told by; accounts are counters, and each label is there."""
    whose = (*GPU, ("state", "active"), ("owner", "lab 7"))
    found = read(
        encode(
            [
                Row("gpu", whose, (("tally_seconds_total", 7.5),), 5),
                Row("gpu", (("node", "n1"),), (("power_watts", 700.0),), 5),
            ]
        )
    )
    assert found == {
        series_of({**dict(whose), "__name__": "gpu_tally_seconds_total"}): [(5, 7.5)],
        series_of({"node": "n1", "__name__": "gpu_power_watts"}): [(5, 700.0)],
    }


def test_each_node_is_a_resource() -> None:
    """The reader checks what is told of each; here, that both are there, and one without a name."""
    some = [Row("gputally", (("node", name),) if name else (), (("f", 1.0),), 5) for name in ("a", "b", "")]
    assert read(encode(some)) == expected(some)


def test_of_one_moment_the_last_value_holds() -> None:
    """The order of labels does not make another series, and samples are in order of time."""
    some = [
        Row("gpu", GPU, (("sm_active_ratio", 0.5),), 3_000),
        Row("gpu", GPU[::-1], (("sm_active_ratio", 0.25),), 2_000),
        Row("gpu", GPU, (("sm_active_ratio", 0.75),), 3_000),
    ]
    assert list(read(encode(some)).values()) == [[(2_000, 0.25), (3_000, 0.75)]]


def test_no_rows_are_an_empty_message() -> None:
    """Nothing is sent for nothing."""
    assert encode([]) == b""


@given(st.lists(rows, max_size=12))
def test_any_rows_are_read_back(some: list[Row]) -> None:
    """Every figure is there once, with its labels, in its series and in order of time."""
    assert repr(in_order(read(encode(some)))) == repr(in_order(expected(some)))


def in_order(found: Samples) -> list[tuple[list[tuple[str, str]], list[tuple[int, float]]]]:
    """Give samples in an order that does not depend on hashes."""
    return sorted((sorted(series), points) for series, points in found.items())


def test_difficult_texts_are_read_back() -> None:
    """Every text comes back as it is, halves of surrogate pairs spelled out, and too long ones are cut."""
    some = [
        Row("gpu", (*GPU, ("owner", text), ("mark", str(place))), (("power_watts", 1.0), ("f", 2.0)), AT_MS)
        for place, text in enumerate(DIFFICULT)
    ]
    assert read(encode(some)) == expected(some)
    longest = Row("gpu", (("owner", "x" * 100_000),), (("f", 1.0),), 5)
    assert read(encode([longest])) == {
        series_of({"owner": sendable("x" * 100_000), "__name__": "gpu_f"}): [(5, 1.0)]
    }


def test_every_metric_has_a_unit_that_adds_nothing_to_its_name() -> None:
    """Receivers write units into names: ours are in the name already, or in braces, which they drop."""
    written = {"1": "ratio", "By": "bytes", "W": "watts", "Cel": "celsius", "Hz": "hertz", "s": "seconds"}
    for name in FAMILIES:
        unit = unit_of(name)
        assert unit.startswith("{") or {**written, "J": "joules"}[unit] in name.split("_"), name


def test_the_table_says_what_the_conventions_say() -> None:
    """Units, instruments and attributes are theirs; our metrics are in the catalogue, of the same kind."""
    for one in CONVENTIONS:
        unit, instrument, needed = HARDWARE[one.name]
        assert (one.unit, one.instrument) == (unit, instrument)
        assert {name for name, _ in one.attributes} >= needed
        assert (FAMILIES[one.own].kind == "counter") == (instrument == "counter")
    assert sum(map(len, BY_OWN_NAME.values())) == len(CONVENTIONS)


def test_the_docs_have_the_table() -> None:
    """docs/exporters.md shows each row as it is."""
    assert "\n".join(table()) in (ROOT / "docs" / "exporters.md").read_text()


def test_what_is_kept_of_series_is_bounded() -> None:
    """Series that come and go, and long labels, do not fill the memory; the bodies are right all the same."""
    for start in range(0, 2 * MOST_SERIES, 512):
        some = [
            Row("gpu", (*GPU, ("k", str(number))), (("power_watts", 1.0), (f"f{number}", 2.0)), 5)
            for number in range(start, start + 512)
        ]
        some.append(Row("gpu", (*GPU, ("long", LONG)), (("power_watts", 1.0), ("g", 2.0)), 5))
        assert read(encode(some)) == expected(some)
    kept: list[dict[object, object]] = [otlp._SERIES, otlp._BEGINNINGS, otlp._METRICS, otlp._OWN_METRICS]  # type: ignore[list-item]
    assert max(map(len, kept)) <= MOST_SERIES
    assert max(len(one.begin) for one in otlp._SERIES.values()) <= LONGEST_BYTES
    assert max(map(len, otlp._BEGINNINGS.values())) <= LONGEST_BYTES


def test_libraries_are_loaded_by_the_first_body() -> None:
    """An agent that does not send so does not pay for them."""
    told = (
        "import sys; from exporters import otlp, rows; "
        "assert not {'google.protobuf', 'opentelemetry'} & set(sys.modules); "
        "otlp.encode([rows.Row('gpu', (), (('up', 1.0),), 0)]); "
        "assert {'google.protobuf', 'opentelemetry'} <= set(sys.modules); assert 'grpc' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", told], check=True, timeout=60)


def answer(rejected: int = 0, text: str = "") -> bytes:
    """Give the answer of a server that takes a body, or most of it."""
    response = ExportMetricsServiceResponse()
    if rejected or text:
        response.partial_success.rejected_data_points = rejected
        response.partial_success.error_message = text
    return response.SerializeToString()


@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        (b"", DELIVERED),
        (answer(), DELIVERED),
        (answer(0, "consider another endpoint"), DELIVERED),
        (answer(-3, "nonsense"), DELIVERED),
        (b"<html>welcome</html>", DELIVERED),
        (
            answer(300, "out of order\nsample"),
            Outcome(Verdict.DELIVERED, "partial success: out of order sample", refused=300),
        ),
        (answer(2**62), Outcome(Verdict.DELIVERED, "partial success:", refused=MOST_REFUSED)),
    ],
)
def test_an_answer_says_how_many_points_were_refused(told: bytes, outcome: Outcome) -> None:
    """Whatever else it says, the batch is delivered."""
    assert outcome_of(told) == outcome


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("\x08\x0d\x12\x20Permanent error: no such tenant", Verdict.REFUSED),
        ("\x08\x0d\x12\x20the pipeline is restarting", Verdict.UNREACHABLE),
    ],
)
def test_a_collector_says_by_500_what_will_never_be_taken(text: str, verdict: Verdict) -> None:
    """So a body that it can never take does not hold up the queue; any other 500 may pass."""
    assert settled(500, text).verdict is verdict


class Collector:
    """Takes bodies as a strict server does: `act` may answer first, what it leaves is kept."""

    def __init__(self) -> None:
        self.kept: Samples = {}
        self.bodies = 0
        self.faults: list[BaseException] = []
        self.rejected = 0
        self.statuses: list[int] = []

    def take(self, handler: Handler) -> None:
        """Answer a request."""
        if self.statuses:
            handler.say(self.statuses.pop(0), "not now", Retry_After="0")
            return
        path, headers, body = handler.seen.requests[-1]
        try:
            assert path == "/v1/metrics"
            assert headers["content-type"] == "application/x-protobuf"
            assert headers["content-encoding"] == "gzip"
            for series, points in read(gzip.decompress(body)).items():
                self.kept.setdefault(series, []).extend(points)
        except AssertionError as fault:
            self.faults.append(fault)
        self.bodies += 1
        told = answer(self.rejected, "duplicate sample" if self.rejected else "")
        handler.send_response(200)
        handler.send_header("Content-Type", "application/x-protobuf")
        handler.send_header("Content-Length", str(len(told)))
        handler.end_headers()
        handler.wfile.write(told)


@contextmanager
def collector() -> Iterator[tuple[Collector, ExporterSettings]]:
    """Run a stand-in of a collector."""
    one = Collector()
    with standing(one.take) as seen:
        yield one, ExporterSettings(name="fleet", kind="otlp", url=f"{seen.url}/v1/metrics")
    assert one.faults == []


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two hours of a node of two GPUs, one tick a minute."""
    return written(tmp_path_factory.mktemp("otlp") / "j.db", 2)


def ship(path: Path, settings: ExporterSettings) -> Shipper:
    """Send until there is nothing more to send."""
    one = Shipper(shipment_of(settings), path, LABELS)
    while one.step() < 30 or one._failures:
        pass
    return one


def test_a_store_gets_what_the_journal_holds(path: Path) -> None:
    """Every figure of every tick once, with its own time, under all of its labels, after an outage too."""
    with collector() as (store, settings):
        store.statuses = [503, 429, 502, 504]
        one = ship(path, settings)
    with closing(connect(path)) as db:
        want = expected(row for _, rows in History(db, 0, LABELS).ticks(10**6) for row in rows)
    assert store.kept == want
    assert {dict(series)["__name__"] for series in want} > {
        "hw.energy",
        "hw.status",
        "gpu_tally_seconds_total",
    }
    assert one.standing.refused_rows == 0


def test_points_that_a_store_left_out_are_counted_and_told_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They are refused for good, what was taken is not sent again, and the queue goes on."""
    with collector() as (store, settings), caplog.at_level(logging.WARNING, "gputally"):
        store.rejected = 3
        ship(path, settings)
    cursor = Cursors(path).load("fleet")
    assert store.bodies > 1
    assert cursor.refused_rows == 3 * store.bodies
    assert cursor.refusal == "partial success: duplicate sample"
    with closing(connect(path)) as db:
        assert cursor.delivered_ticks == db.execute("SELECT count(*) FROM tick").fetchone()[0]
    assert [one.getMessage().partition(" such as")[0] for one in caplog.records] == [
        "exporter fleet: the store refuses 3 figures for good, in a batch of rows"
    ]
    for points in store.kept.values():
        assert len({at_ms for at_ms, _ in points}) == len(points)


def test_doctor_is_not_content_with_a_store_that_leaves_figures_out() -> None:
    """It took the body, and says that the figure in it is not kept."""
    with collector() as (store, settings):
        store.rejected = 1
        (check,) = stores(replace(SETTINGS, exporters=ExportersSettings(to=(settings,))))
    assert not check.good
    assert "duplicate sample" in check.text


def _says(status: int) -> Callable[[Handler], None]:
    return lambda handler: handler.say(status, "no", Retry_After="7")


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(400, "refused"), (413, "refused"), (401, "unreachable"), (404, "unreachable"), (500, "unreachable")]
    + [(status, "unreachable") for status in (429, 502, 503, 504)],
)
def test_a_status_settles_a_batch(status: int, verdict: str) -> None:
    """What the specification calls retryable is tried again, when the store asks for it."""
    with standing(_says(status)) as seen:
        outcome = sent("otlp", seen.url)
    assert outcome.verdict == verdict
    assert outcome.retry_seconds == (7.0 if verdict == "unreachable" else 0.0)


def test_tokens_and_headers_are_sent(tmp_path: Path) -> None:
    """A bearer of a file, and a tenant; the address is the one of the settings."""
    (tmp_path / "token").write_text("s3cr3t\n")
    seen: Seen
    with standing(lambda handler: handler.say(200)) as seen:
        more = {"token_file": str(tmp_path / "token"), "headers": {"X-Scope-OrgID": "hall2"}}
        assert sent("otlp", f"{seen.url}/otlp/v1/metrics", **more) == DELIVERED
    ((path, headers, _),) = seen.requests
    assert path == "/otlp/v1/metrics"
    assert headers["authorization"] == "Bearer s3cr3t"
    assert headers["x-scope-orgid"] == "hall2"
