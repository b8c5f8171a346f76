"""Remote write: what goes in is read back, by another reading of the format and by two real servers."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from exporters import remote_write
from exporters.remote_write import HEADERS, LONGEST_BYTES, MOST_SERIES, encode
from exporters.rows import Row
from tests.exporters.difficult import DIFFICULT, LONG, texts, unicode_of, values
from tests.exporters.remote_reader import Series, read
from tests.stores.prometheus import Prometheus, prometheus
from tests.stores.samples import Samples, differences, expected, series_of
from tests.stores.victoria import TOLERANCE, Victoria, victoria

AT_MS = 1_790_000_000_123
NUMBERS = count()
EXACT = (0.1, -0.0, 0.0, 1e22, 5e-324, 1.7976931348623157e308, 123456789.12345679, -1e-7, 2.0**53, 1 / 3)

names = st.sampled_from(["gpu", "Rack", "_x", "zone", "link", "uuid", "A", "z9"])
labels = st.dictionaries(names, texts, max_size=5).map(lambda found: tuple(found.items()))
fields = st.dictionaries(names, values, min_size=1, max_size=4).map(lambda found: tuple(found.items()))
rows = st.builds(Row, st.sampled_from(["gpu", "gputally"]), labels, fields, st.integers(0, 50))


@pytest.fixture(scope="module")
def prometheus_server() -> Iterator[Prometheus]:
    """Run one Prometheus for all tests here, with a window for what comes again or late."""
    with prometheus(out_of_order="1d") as server:
        yield server


@pytest.fixture(scope="module")
def victoria_server() -> Iterator[Victoria]:
    """Run one VictoriaMetrics for all tests here."""
    with victoria() as server:
        yield server


def sent(row: Row) -> Row:
    """Give a row as it is sent: halves of surrogate pairs spelled out."""
    return row._replace(labels=tuple((name, unicode_of(text)) for name, text in row.labels))


def samples_of(body: bytes) -> Samples:
    """Give what a body says; no series may be in it twice."""
    told = read(body)
    found = {series_of(dict(one.labels)): one.samples for one in told}
    assert len(found) == len(told)
    return found


def test_a_series_has_all_its_samples() -> None:
    """Its name comes first, labels are sorted, samples are in order of time, the last of a moment holds."""
    where = (("uuid", "GPU-1"), ("gpu", "0"))
    told = read(
        encode(
            [
                Row("gpu", where, (("busy_ratio", 0.5), ("power_watts", 700.0)), 3_000),
                Row("gpu", where[::-1], (("busy_ratio", 0.25),), 2_000),
                Row("gpu", where, (("busy_ratio", 0.75),), 3_000),
            ]
        )
    )
    rest = [("gpu", "0"), ("uuid", "GPU-1")]
    assert told == [
        Series([("__name__", "gpu_busy_ratio"), *rest], [(2_000, 0.25), (3_000, 0.75)]),
        Series([("__name__", "gpu_power_watts"), *rest], [(3_000, 700.0)]),
    ]


def test_no_rows_are_an_empty_message() -> None:
    """Nothing is sent for nothing."""
    assert read(encode([])) == []


def test_labels_are_sorted_by_their_bytes() -> None:
    """Capital letters come before the name, as receivers compare; empty labels are left out."""
    row = Row("gpu", (("zone", "z"), ("empty", ""), ("Rack", "r"), ("_a", "a")), (("f", 1.0),), 5)
    assert read(encode([row]))[0].labels == [
        ("Rack", "r"),
        ("__name__", "gpu_f"),
        ("_a", "a"),
        ("zone", "z"),
    ]


def test_names_are_made_valid() -> None:
    """No name can be refused, and no label can take the place of the metric's name."""
    row = Row("a b", (("é", "1"), ("9", "2"), ("__name__", "other"), ("", "3")), (("c,d", 1.0),), 5)
    assert read(encode([row]))[0].labels == [("_", "3"), ("_9", "2"), ("__name__", "a_b_c_d")]


@given(st.lists(rows, max_size=12))
def test_any_rows_are_read_back(some: list[Row]) -> None:
    """Every figure is there once, in its series and in order of time."""
    body = encode(some)
    in_order = sorted((sent(row) for row in some), key=lambda row: row.at_ms)
    assert samples_of(body) == expected(in_order)
    for one in read(body):
        assert one.labels == sorted(one.labels)
        assert [at_ms for at_ms, _ in one.samples] == sorted({at_ms for at_ms, _ in one.samples})


def test_what_is_kept_of_series_is_bounded() -> None:
    """Series that come and go, and long labels, do not fill the memory; the bodies are right all the same."""
    for number in range(2 * MOST_SERIES):
        row = Row("m", (("k", str(number)),), ((f"f{number}", 1.0),), 1)
        long = row._replace(labels=(*row.labels, ("long", LONG)))
        assert samples_of(encode([row, long])) == expected([row, long])
    assert len(remote_write._AROUND) <= MOST_SERIES
    assert len(remote_write._NAMES) <= MOST_SERIES
    assert max(len(before) + len(after) for before, after in remote_write._AROUND.values()) <= LONGEST_BYTES


def test_libraries_are_loaded_by_the_first_body() -> None:
    """An agent that does not send so does not pay for them."""
    told = (
        "import sys; from exporters import remote_write as one; "
        "assert not {'google.protobuf', 'cramjam'} & set(sys.modules); "
        "one.encode([]); assert {'google.protobuf', 'cramjam'} <= set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", told], check=True, timeout=60)


def difficult_rows() -> list[Row]:
    """Give a row for each difficult text."""
    return [
        Row("hard", (("k", text), ("mark", f"hard{place}")), (("f", 1.5), ("g", 2.0)), AT_MS)
        for place, text in enumerate(DIFFICULT)
    ]


def test_prometheus_reads_difficult_texts(prometheus_server: Prometheus) -> None:
    """Every text comes back as it is."""
    some = difficult_rows()
    prometheus_server.write_remote(encode(some), HEADERS).good()
    assert prometheus_server.samples('{__name__!="",mark=~"|hard.*"}') == expected(map(sent, some))


def test_victoriametrics_reads_difficult_texts(victoria_server: Victoria) -> None:
    """Every text comes back as it is."""
    some = difficult_rows()
    victoria_server.write_remote(encode(some), HEADERS).good()
    assert victoria_server.samples('{__name__!="",mark=~"|hard.*"}') == expected(map(sent, some))
    assert victoria_server.refused() == 0


@settings(max_examples=40, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(some=st.lists(rows, min_size=1, max_size=8))
def test_any_text_is_read_back_by_real_servers(
    prometheus_server: Prometheus, victoria_server: Victoria, some: list[Row]
) -> None:
    """Every series is taken, and none that was not meant is made."""
    mark = f"any{next(NUMBERS)}"
    mine = [
        row._replace(
            labels=(*row.labels, ("mark", mark)),
            fields=tuple((name, float(place)) for place, (name, _) in enumerate(row.fields)),
            at_ms=AT_MS + row.at_ms,
        )
        for row in some
    ]
    want = expected(sorted(map(sent, mine), key=lambda row: row.at_ms))
    for server in (prometheus_server, victoria_server):
        server.write_remote(encode(mine), HEADERS).good()
        assert server.samples(f'{{__name__!="",mark=~"|{mark}"}}') == want


def test_prometheus_keeps_every_bit(prometheus_server: Prometheus) -> None:
    """Values, the sign of zero and times come back as they were."""
    some = [
        Row("bits", (("mark", "bits"),), (("f", value), ("g", -value)), AT_MS + at)
        for at, value in enumerate(EXACT)
    ]
    prometheus_server.write_remote(encode(some), HEADERS).good()
    assert repr(sorted_(prometheus_server.samples('{mark="bits"}'))) == repr(sorted_(expected(some)))


def sorted_(found: Samples) -> list[tuple[list[tuple[str, str]], list[tuple[int, float]]]]:
    """Give samples in an order that does not depend on hashes."""
    return sorted((sorted(series), points) for series, points in found.items())


def test_victoriametrics_keeps_twelve_digits(victoria_server: Victoria) -> None:
    """Times come back as they were; values to 1e-12 of the largest of the series."""
    some = [
        Row("part", (("mark", "digits"),), (("f", at / 7), ("g", at * 1e9 / 7)), AT_MS + 10_000 * at)
        for at in range(300)
    ]
    victoria_server.write_remote(encode(some), HEADERS).good()
    assert differences(victoria_server.samples('{mark="digits"}'), expected(some), TOLERANCE) == []


def test_identical_samples_count_once(prometheus_server: Prometheus, victoria_server: Victoria) -> None:
    """A body that is sent twice leaves what it leaves when it is sent once."""
    some = [Row("twice", (("mark", "twice"),), (("f", float(at)),), AT_MS + at) for at in range(100)]
    for server in (prometheus_server, victoria_server):
        server.write_remote(encode(some), HEADERS).good()
        server.write_remote(encode(some), HEADERS).good()
        assert server.samples('{mark="twice"}') == expected(some)


def test_prometheus_without_a_window_takes_a_body_once_and_all_or_nothing() -> None:
    """What comes again is refused, and with it all that came with it: why the docs ask for a window."""
    some = [Row("again", (), (("f", float(at)),), AT_MS + at) for at in range(2)]
    new = Row("new", (), (("f", 1.0),), AT_MS)
    with prometheus() as server:
        server.write_remote(encode(some), HEADERS).good()
        reply = server.write_remote(encode([*some, new]), HEADERS)
        assert (reply.status, reply.body) == (400, b"out of order sample\n")
        assert server.samples() == expected(some)


def test_prometheus_with_a_window_refuses_what_is_older_with_500() -> None:
    """Version 2.42 says 500 for what no later try can mend; only its words tell."""
    with prometheus(out_of_order="1h") as server:
        server.write_remote(encode([Row("late", (), (("f", 1.0),), AT_MS)]), HEADERS).good()
        reply = server.write_remote(encode([Row("late", (), (("f", 1.0),), AT_MS - 86_400_000)]), HEADERS)
        assert reply.status in {400, 500}
        assert reply.body == b"too old sample\n"
