"""Line protocol: what goes in is read back, by two readings of the format and by two real servers."""

from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from exporters import line_protocol
from exporters.line_protocol import LONGEST_CHARACTERS, MOST_SERIES, encode
from exporters.rows import Row
from tests.exporters.difficult import DIFFICULT, LONG, PICTURES, WIDE, alike, texts, values
from tests.exporters.line_reader import INFLUX, VICTORIA, read
from tests.stores.influx import Influx, influx
from tests.stores.samples import Samples, differences, expected
from tests.stores.victoria import TOLERANCE, Victoria, victoria

AT_MS = 1_790_000_000_123
NUMBERS = count()
EXACT = (0.1, -0.0, 1e22, 5e-324, 1.7976931348623157e308, 123456789.12345679, -1e-7, 2.0**53, 1 / 3)

labels = st.dictionaries(texts, texts, max_size=5).map(lambda found: tuple(found.items()))
fields = st.dictionaries(texts, values, min_size=1, max_size=4).map(lambda found: tuple(found.items()))
rows = st.builds(Row, texts, labels, fields, st.integers(0, 2**43))


@pytest.fixture(scope="module")
def influx_server() -> Iterator[Influx]:
    """Run one InfluxDB for all tests here."""
    with influx() as server:
        yield server


@pytest.fixture(scope="module")
def victoria_server() -> Iterator[Victoria]:
    """Run one VictoriaMetrics for all tests here."""
    with victoria() as server:
        yield server


def carried(row: Row) -> Row:
    """Give a row as line protocol carries it."""
    measurement = alike(row.measurement)
    if measurement.startswith("#"):
        measurement = f"{WIDE['#']}{measurement[1:]}"
    return Row(
        measurement,
        tuple((alike(name), alike(text)) for name, text in row.labels),
        tuple((alike(name, '"'), value) for name, value in row.fields),
        row.at_ms,
    )


def test_a_row_is_a_line() -> None:
    """Tags are sorted, figures are written as short as they can be, times are milliseconds."""
    row = Row("gpu", (("node", "n 1"), ("gpu", "0")), (("busy_ratio", 0.25), ("power_watts", 700.0)), AT_MS)
    assert encode([row]) == b"gpu,gpu=0,node=n\\ 1 busy_ratio=0.25,power_watts=700.0 1790000000123\n"


def test_no_rows_are_no_lines() -> None:
    """Nothing is sent for nothing; a row without labels has no comma; an empty label is left out."""
    assert encode([]) == b""
    assert encode([Row("up", (), (("f", 1.0),), 5)]) == b"up f=1.0 5\n"
    assert encode([Row("up", (("a", ""), ("b", "c")), (("f", 1.0),), 5)]) == b"up,b=c f=1.0 5\n"


@given(st.lists(rows, max_size=5))
def test_any_text_is_read_back_by_both_readings(some: list[Row]) -> None:
    """Whatever names and labels are, there are as many lines as rows, and each says what its row says."""
    want = [carried(row) for row in some]
    for dialect in (INFLUX, VICTORIA):
        got = read(encode(some), dialect)
        assert [(line.measurement, line.fields, line.at_ms) for line in got] == [
            (row.measurement, list(row.fields), row.at_ms) for row in want
        ]
        assert [dict(line.tags) for line in got] == [dict(row.labels) for row in want]


@given(texts, texts)
def test_different_labels_stay_different(one: str, other: str) -> None:
    """Only texts that have the look-alikes themselves could become one."""
    both = one + other
    if one != other and "\\u" not in both and not set(both) & {*PICTURES, "␡", WIDE["\\"]}:
        first, second = (encode([Row("m", (("k", text),), (("f", 1.0),), 1)]) for text in (one, other))
        assert first != second


def test_what_is_kept_of_series_is_bounded() -> None:
    """Series that come and go, and long labels, do not fill the memory; the lines are right all the same."""
    for number in range(2 * MOST_SERIES):
        row = Row("m", (("k", str(number)), ("long", LONG)), ((f"f{number}", 1.0),), 1)
        short = row._replace(labels=row.labels[:1])
        assert encode([row, short]) == (
            f"m,k={number},long={LONG} f{number}=1.0 1\nm,k={number} f{number}=1.0 1\n".encode()
        )
    assert len(line_protocol._STARTS) <= MOST_SERIES
    assert len(line_protocol._KEYS) <= MOST_SERIES
    assert max(map(len, line_protocol._STARTS.values())) <= LONGEST_CHARACTERS


def difficult_rows(marks: str) -> list[Row]:
    """Give a row for each difficult text in each of the four places."""
    found = []
    for place, text in enumerate(DIFFICULT):
        at_ms, mark = AT_MS + place, (("mark", f"{marks}{place}"),)
        short = text[:100]
        found += [
            Row("value", (*mark, ("k", text), ("z", "end")), (("f", 1.5), ("g", 2.0)), at_ms),
            Row("key", (*mark, (f"k{short}", "v"), ("z", "end")), (("f", 1.5), ("g", 2.0)), at_ms),
            Row("field", (*mark, ("z", "end")), ((f"f{short}", 1.5), ("g", 2.0)), at_ms),
            Row(f"name{short}", (*mark, ("z", "end")), (("f", 1.5), ("g", 2.0)), at_ms),
            Row(f"{short}", (*mark, ("z", "end")), (("f", 1.5), ("g", 2.0)), at_ms),
        ]
    return found


def test_influxdb_reads_difficult_texts(influx_server: Influx) -> None:
    """Each is where it belongs, and nothing else is there."""
    some = difficult_rows("i")
    influx_server.write_lines(encode(some)).good()
    assert marked(influx_server.samples(), "i") == expected(map(carried, some))


def test_victoriametrics_reads_difficult_texts(victoria_server: Victoria) -> None:
    """Each is where it belongs, and nothing else is there."""
    some = difficult_rows("v")
    victoria_server.write_lines(encode(some)).good()
    assert marked(victoria_server.samples('{mark=~"v.*"}'), "v") == expected(map(carried, some))
    assert victoria_server.refused() == 0


def marked(found: Samples, marks: str) -> Samples:
    """Give the series of one test; a series without a mark was made by an injection."""
    assert all("mark" in dict(series) for series in found), found
    return {series: points for series, points in found.items() if dict(series)["mark"].startswith(marks)}


@settings(max_examples=40, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(some=st.lists(rows, min_size=1, max_size=8))
def test_any_text_is_read_back_by_real_servers(
    influx_server: Influx, victoria_server: Victoria, some: list[Row]
) -> None:
    """Every line is taken, none makes a series that was not meant."""
    mark = f"any{next(NUMBERS)}"
    mine = [
        Row(
            f"m{row.measurement[:50]}",
            (*[(f"k{name[:50]}", text) for name, text in row.labels], ("mark", mark)),
            tuple((f"f{name[:50]}", float(place)) for place, (name, _) in enumerate(row.fields)),
            AT_MS + place,
        )
        for place, row in enumerate(some)
    ]
    want = expected(map(carried, mine))
    body = encode(mine)
    influx_server.write_lines(body).good()
    victoria_server.write_lines(body).good()
    assert victoria_server.samples(f'{{mark=~"|{mark}"}}') == want
    assert influx_server.samples(where=f"mark = '{mark}' OR mark = ''") == want
    assert victoria_server.refused() == 0


def test_influxdb_keeps_every_bit(influx_server: Influx) -> None:
    """Values and times come back as they were."""
    some = [
        Row("bits", (("mark", "bits"),), (("f", value), ("g", -value)), AT_MS + at)
        for at, value in enumerate(EXACT)
    ]
    influx_server.write_lines(encode(some)).good()
    assert marked(influx_server.samples("bits"), "bits") == expected(some)


def test_victoriametrics_keeps_twelve_digits(victoria_server: Victoria) -> None:
    """Times come back as they were; values to 1e-12 of the largest of the series, whole numbers exactly."""
    whole = [
        Row("whole", (("mark", "digits"),), (("f", float(2**53 - at)),), AT_MS + 10_000 * at)
        for at in range(300)
    ]
    part = [
        Row("part", (("mark", "digits"),), (("f", at / 7), ("g", at * 1e9 / 7)), AT_MS + 10_000 * at)
        for at in range(300)
    ]
    victoria_server.write_lines(encode(whole + part)).good()
    got = marked(victoria_server.samples('{mark="digits"}'), "digits")
    assert differences(got, expected(whole + part), TOLERANCE) == []
    assert {
        series: points for series, points in got.items() if ("__name__", "whole_f") in series
    } == expected(whole)


def test_identical_points_count_once(influx_server: Influx, victoria_server: Victoria) -> None:
    """A batch that is sent twice leaves what it leaves when it is sent once."""
    some = [Row("twice", (("mark", "twice"),), (("f", float(at)),), AT_MS + 10_000 * at) for at in range(100)]
    for server in (influx_server, victoria_server):
        server.write_lines(encode(some)).good()
        server.write_lines(encode(some)).good()
        assert marked(server.samples(), "twice") == expected(some)


def test_influxdb_refuses_a_key_of_64_kilobytes(influx_server: Influx) -> None:
    """It says so; no part of the row is stored."""
    many = tuple((f"k{number}", str(number) * 16_000) for number in range(5))
    reply = influx_server.write_lines(encode([Row("huge", (*many, ("mark", "huge")), (("f", 1.0),), AT_MS)]))
    assert reply.status == 400
    assert b"max key length exceeded" in reply.body
    assert marked(influx_server.samples(), "huge") == {}


def test_labels_too_long_for_victoriametrics_stay_different(victoria_server: Victoria) -> None:
    """It would cut both to the same and answer 204."""
    some = [
        Row("long", (("k", "y" * 20_000 + end), ("mark", "long")), (("f", 1.0),), AT_MS) for end in ("1", "2")
    ]
    victoria_server.write_lines(encode(some)).good()
    assert len(victoria_server.samples('{mark="long"}')) == 2
    assert victoria_server.refused() == 0
