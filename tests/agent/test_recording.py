"""Recorded files are read as they come: our CSV, logs of nvidia-smi, packed or not, broken or not."""

import gzip
from collections.abc import Callable
from datetime import timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ReplayError
from agent.quantities import QUANTITIES
from agent.recording import Bad, Recording, Row

MIB = 1024**2
Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of a recording and give its path."""

    def to_file(content: str | bytes) -> Path:
        path = tmp_path / "recording.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return to_file


def good(recording: Recording) -> list[Row]:
    """Give the rows of a recording without a bad line."""
    rows = list(recording)
    assert [row for row in rows if isinstance(row, Bad)] == []
    return [row for row in rows if isinstance(row, Row)]


def bad(recording: Recording) -> list[Bad]:
    """Give the bad lines of a recording."""
    return [row for row in recording if isinstance(row, Bad)]


def row_of(at_ms: int, gpu: str, **values: float | None) -> Row:
    """Make a row that tells nothing but a GPU's figures."""
    return Row(at_ms, gpu, "", "", "", "", values)


# Our own CSV

PLAIN = "time,gpu,busy_ratio,memory_used_bytes\n1662858720,a,0.25,1073741824\n1662858730,b,0,\n"
PLAIN_ROWS = [
    row_of(1_662_858_720_000, "a", busy_ratio=0.25, memory_used_bytes=1_073_741_824.0),
    row_of(1_662_858_730_000, "b", busy_ratio=0.0, memory_used_bytes=None),
]


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.replace(",", ", ").encode(),
        PLAIN.rstrip("\n").encode(),
        PLAIN.replace("\n", "\n\n").encode(),
        gzip.compress(PLAIN.encode()),
        gzip.compress(PLAIN[:40].encode()) + gzip.compress(PLAIN[40:].encode()),
        "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in PLAIN.split()).encode(),
        b"\xef\xbb\xbf"
        + "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in PLAIN.split()).encode(),
    ],
    ids=[
        "plain",
        "CRLF",
        "CR",
        "BOM",
        "spaces",
        "no last line end",
        "blank lines",
        "gzip",
        "gzip in members",
        "quoted",
        "BOM and quoted",
    ],
)
def test_a_file_is_read_however_it_was_written(write: Write, content: bytes) -> None:
    """Line ends, byte order marks, quotes, spaces and packing do not change what it says."""
    assert good(Recording(write(content))) == PLAIN_ROWS


def test_every_quantity_can_be_recorded(write: Write) -> None:
    """All fields of a reading are columns, and so are node, model, owner and holder, in any order."""
    columns = ["owner", *QUANTITIES, "gpu", "holder", "model", "time", "node"]
    texts = {"owner": "vision", "holder": "4711", "gpu": "GPU-1", "model": "H200, SXM", "node": "n17"}
    values = {name: str(0.5 + number / 1000) for number, name in enumerate(QUANTITIES)}
    cells = {**texts, **values, "time": "1662858720"}
    line = ",".join(f'"{cells[name]}"' for name in columns)
    recording = Recording(write(f"{','.join(columns)}\n{line}\n"))
    (row,) = good(recording)
    assert row[:6] == (1_662_858_720_000, "GPU-1", "n17", "H200, SXM", "vision", "4711")
    assert row.values == {name: float(value) for name, value in values.items()}
    assert recording.quantities == QUANTITIES.keys()


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1662858720", 1_662_858_720_000),
        ("1662858720.25", 1_662_858_720_250),
        ("1662858720.9996", 1_662_858_721_000),
        ("2022-09-11T01:12:00Z", 1_662_858_720_000),
        ("2022-09-11T01:12:00.125Z", 1_662_858_720_125),
        ("2022-09-11T03:12:00+02:00", 1_662_858_720_000),
        ("2022-09-10T20:12:00-05:00", 1_662_858_720_000),
        ("2022-09-11 01:12:00", 1_662_858_720_000),
        ("2022/09/11 01:12:00.500", 1_662_858_720_500),
    ],
)
def test_time_is_unix_or_rfc_3339(write: Write, text: str, at_ms: int) -> None:
    """Seconds with or without a fraction, and dates with or without a zone."""
    (row,) = good(Recording(write(f"time,gpu,busy_ratio\n{text},a,1\n")))
    assert row.at_ms == at_ms


def test_a_date_without_a_zone_is_of_the_zone_given(write: Write) -> None:
    """What carries a zone keeps it, what carries none is local to the recording."""
    lines = "time,gpu,busy_ratio\n2022-09-11 03:12:00,a,1\n2022-09-11T01:12:00Z,b,1\n1662858720,c,1\n"
    rows = good(Recording(write(lines), timezone(timedelta(hours=2))))
    assert [row.at_ms for row in rows] == [1_662_858_720_000] * 3


@pytest.mark.parametrize(
    "time",
    [
        "",
        "now",
        "0",
        "-1",
        "nan",
        "inf",
        "1662858720000",
        "1e300",
        "2022-13-01",
        "2022-09-11T25:00:00Z",
        "9e9",
    ],
)
def test_a_time_that_cannot_be_is_a_bad_line(write: Write, time: str) -> None:
    """Milliseconds taken for seconds, dates that do not exist, and what lies outside 1970 to 2100."""
    (line,) = bad(Recording(write(f"time,gpu,busy_ratio\n{time},a,1\n")))
    assert line.line == 2
    assert line.reason


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("busy_ratio", "1.01"),
        ("busy_ratio", "45 %"),
        ("busy_ratio", "-0.1"),
        ("busy_ratio", "nan"),
        ("busy_ratio", "Infinity"),
        ("busy_ratio", "high"),
        ("busy_ratio", "0.5.5"),
        ("power_watts", "-3"),
        ("power_watts", "1e999"),
        ("memory_used_bytes", "45 MiB"),
        ("sm_clock_hertz", "1980 MHz"),
    ],
)
def test_a_value_that_cannot_be_is_a_bad_line(write: Write, name: str, cell: str) -> None:
    """Ratios above 1, negative amounts, what is no number, and units that a base unit is not."""
    (line,) = bad(Recording(write(f"time,gpu,{name}\n1662858720,a,{cell}\n")))
    assert name in line.reason


def test_a_temperature_may_lie_below_zero(write: Write) -> None:
    """Celsius is the one unit in which less than nothing is something."""
    (row,) = good(Recording(write("time,gpu,temperature_celsius\n1662858720,a,-12.5\n")))
    assert row.values == {"temperature_celsius": -12.5}


@pytest.mark.parametrize("cell", ["", "  ", "N/A", "[N/A]", "n/a", "[Not Supported]", "[Unknown Error]"])
def test_what_a_device_would_not_say_is_none(write: Write, cell: str) -> None:
    """Empty cells and nvidia-smi's words for nothing are neither 0 nor bad."""
    (row,) = good(Recording(write(f"time,gpu,busy_ratio\n1662858720,a,{cell}\n")))
    assert row.values == {"busy_ratio": None}


def test_a_bad_line_is_told_with_its_number(write: Write) -> None:
    """Numbers are those of an editor, blank lines and lines in quotes counted."""
    lines = 'time,gpu,busy_ratio\n\n1662858720,a,1\nnonsense\n1662858730,"a\nb",1\n1662858740,a,2\n1,2,3,4\n'
    recording = Recording(write(lines))
    assert [(line.line, line.reason.split(" ")[0]) for line in bad(recording)] == [
        (4, "1"),
        (7, "busy_ratio"),
        (8, "4"),
    ]


def test_a_line_longer_than_the_reader_takes_is_bad_alone(write: Write) -> None:
    """A cell of 200 kB does not end the reading."""
    lines = f"time,gpu,busy_ratio\n1662858720,{'x' * 200_000},1\n1662858730,a,1\n"
    first, second = Recording(write(lines))
    assert isinstance(first, Bad)
    assert isinstance(second, Row)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("time,gpu,busy", "'busy' is not a quantity; known are"),
        ("time,gpu,busy_ratio,busy_ratio", "'busy_ratio' appears twice"),
        ("time,gpu,gpu", "'gpu' appears twice"),
        ("when,what", "neither time and gpu"),
        ("", "neither time and gpu"),
        ("timestamp, utilization.gpu [%]", "no column says which GPU"),
        ("timestamp, index, fan.speed [%]", "no column that we know; useful are"),
    ],
)
def test_a_header_that_is_not_understood_says_what_is(write: Write, header: str, message: str) -> None:
    """The error names the column or what is missing, and what is known."""
    with pytest.raises(ReplayError, match=message):
        list(Recording(write(f"{header}\n1,2,3\n")))


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    """The error names the path and the reason."""
    with pytest.raises(ReplayError, match=r"cannot read .*gone\.csv: No such file"):
        list(Recording(tmp_path / "gone.csv"))


def test_a_packed_file_that_was_cut_says_so(write: Write) -> None:
    """Half of a gzip file is an error, not half of a recording."""
    packed = gzip.compress(PLAIN.encode() * 1000)
    with pytest.raises(ReplayError, match="cannot read"):
        list(Recording(write(packed[: len(packed) // 2])))


def test_a_recording_can_be_read_again(write: Write) -> None:
    """Each pass begins at the start."""
    recording = Recording(write(PLAIN))
    assert good(recording) == good(recording) == PLAIN_ROWS


# Logs of nvidia-smi

SMI_HEADER = (
    "timestamp, name, uuid, utilization.gpu [%], memory.used [MiB], power.draw [W], temperature.gpu, "
    "clocks.current.sm [MHz], enforced.power.limit [W]"
)
SMI_LINE = "2022/09/11 01:12:00.250, NVIDIA H200, GPU-1, 45 %, 2048 MiB, 312.55 W, 61, 1980 MHz, 700.00 W"
SMI_VALUES = {
    "busy_ratio": 0.45,
    "memory_used_bytes": 2048.0 * MIB,
    "power_watts": 312.55,
    "power_limit_watts": 700.0,
    "temperature_celsius": 61.0,
    "sm_clock_hertz": 1980e6,
}


def smi(write: Write, *lines: str, header: str = SMI_HEADER) -> Recording:
    """Write a log of nvidia-smi."""
    return Recording(write("\n".join([header, *lines, ""])))


@pytest.mark.parametrize(
    "line",
    [
        SMI_LINE,
        SMI_LINE.replace(" %", "")
        .replace(" MiB", "")
        .replace(" W,", ",")
        .removesuffix(" W")
        .replace(" MHz", ""),
        SMI_LINE.replace(", ", ","),
    ],
    ids=["units", "nounits", "no spaces"],
)
def test_a_log_is_read_in_base_units(write: Write, line: str) -> None:
    """Per cents, MiB and MHz become ratios, bytes and hertz; the unit may stand in the header only."""
    (row,) = good(smi(write, line))
    assert row[:6] == (1_662_858_720_250, "GPU-1", "", "NVIDIA H200", "", "")
    assert row.values == pytest.approx(SMI_VALUES)


def test_a_log_is_of_the_zone_of_its_machine(write: Write) -> None:
    """Its timestamps carry no zone, so the zone is told."""
    path = write(f"{SMI_HEADER}\n{SMI_LINE}\n")
    (row,) = good(Recording(path, timezone(timedelta(hours=-5))))
    assert row.at_ms == 1_662_858_720_250 + 5 * 3_600_000


def test_what_a_product_has_not_is_none(write: Write) -> None:
    """[N/A], [Not Supported] and the like are None, the rest of the line is taken."""
    line = "2022/09/11 01:12:00, Tesla T4, GPU-1, [N/A], [Not Supported], N/A, 61, [Unknown Error], 70.00 W"
    (row,) = good(smi(write, line))
    told = {name: value for name, value in row.values.items() if value is not None}
    assert told == {"temperature_celsius": 61.0, "power_limit_watts": 70.0}


def test_error_lines_of_the_driver_are_bad_lines(write: Write) -> None:
    """What nvidia-smi prints between its lines is reported and skipped."""
    rows = list(
        smi(
            write,
            SMI_LINE,
            "Unable to determine the device handle for GPU0000:03:00.0: GPU is lost.  Reboot the system",
            "ERROR: something",
            SMI_HEADER,
            SMI_LINE,
        )
    )
    assert [type(row) for row in rows] == [Row, Bad, Bad, Bad, Row]


@pytest.mark.parametrize(
    ("header", "cells", "gpu"),
    [
        ("index, uuid", "3, GPU-1", "GPU-1"),
        ("gpu_uuid", "GPU-1", "GPU-1"),
        ("index, serial", "3, 1652", "1652"),
        ("index, pci.bus_id", "3, 00000000:19:00.0", "00000000:19:00.0"),
        ("index", "3", "3"),
        ("index, serial", "3, [N/A]", "3"),
        ("serial, gpu_bus_id", "[N/A], 00000000:19:00.0", "00000000:19:00.0"),
    ],
)
def test_a_gpu_is_known_by_the_most_lasting_of_its_names(
    write: Write, header: str, cells: str, gpu: str
) -> None:
    """UUID before serial, serial before bus, bus before index; a name that is not told names nobody."""
    line = f"2022/09/11 01:12:00, {cells}, 45 %"
    (row,) = good(smi(write, line, header=f"timestamp, {header}, utilization.gpu [%]"))
    assert row.gpu == gpu


def test_the_mean_of_power_comes_before_a_moment(write: Write) -> None:
    """Of several columns of power, that of the driver's mean is taken."""
    header = "timestamp, index, power.draw.instant [W], power.draw [W], power.draw.average [W]"
    (row,) = good(smi(write, "2022/09/11 01:12:00, 0, 1.0 W, 2.0 W, 3.0 W", header=header))
    assert row.values == {"power_watts": 3.0}


# Files that are nothing


def read_through(content: bytes) -> None:
    """Read a file to its end, or to its ReplayError."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "recording"
        path.write_bytes(content)
        recording = Recording(path)
        try:
            rows = list(recording)
        except ReplayError:
            return
        for row in rows:
            assert isinstance(row, Bad) or 0 < row.at_ms < 4_102_444_800_000


_headers = st.sampled_from(
    [b"", b"time,gpu,busy_ratio\n", f"{SMI_HEADER}\n".encode(), b"\xef\xbb\xbftime,gpu\n"]
)


@given(_headers, st.binary(max_size=400))
def test_random_bytes_raise_only_replay_errors(header: bytes, content: bytes) -> None:
    """With or without a header that is understood, no file makes any other error."""
    read_through(header + content)


@given(_headers, st.lists(st.lists(st.text(max_size=8) | st.floats().map(str), max_size=5), max_size=8))
def test_random_cells_raise_only_replay_errors(header: bytes, lines: list[list[str]]) -> None:
    """Cells of any text and number are rows or bad lines."""
    read_through(header + "\n".join(",".join(cells) for cells in lines).encode())


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_a_damaged_packed_file_raises_only_replay_errors(place: int, damage: bytes) -> None:
    """Wrong bytes anywhere in a gzip file are an error of the recording."""
    packed = bytearray(gzip.compress(PLAIN.encode() * 20))
    place %= len(packed)
    packed[place : place + len(damage)] = damage
    read_through(bytes(packed))


@pytest.mark.parametrize(
    "content", [b"x" * 200_000, b'"' * 200_001, b"\0" * 1000, gzip.compress(b"", mtime=0)]
)
def test_a_header_beyond_reason_is_a_replay_error(write: Write, content: bytes) -> None:
    """A first line that no reader takes says that the file is no recording."""
    with pytest.raises(ReplayError):
        list(Recording(write(content)))
