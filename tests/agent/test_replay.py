"""Recorded history becomes accounts by the rule of the design.

A row at t describes the interval that ends at t and began at the GPU's previous row, but at most 2.5 median
steps; the first covers one. The rest of the span, from one step before the first row on, is unknown.
"""

import csv
import gzip
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median_low
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import ReplayError
from agent.recording import Recording
from agent.replay import Survey, replay, survey
from agent.states import StateSettings
from agent.tick import Workload
from tests.agent.histories import books_at, check_hours, check_sums, dice, rows

GENTD26 = Path(__file__).parents[2].parent / "shared/data/gentd26.csv.gz"
T0 = 1_700_000_000
HOUR_MS = 3_600_000
HELD_BYTES = 512 * 1024**2
STATES = StateSettings(patience_batch_seconds=10**9)
"""Patience without end, so that held time has one name."""

Accounts = dict[tuple[str, str], int]
"""Milliseconds by GPU and state."""


@dataclass(frozen=True)
class Replayed:
    """A journal that a recording was replayed into."""

    path: Path
    found: Survey

    @property
    def states(self) -> Accounts:
        """Give the time by GPU and state, without what is nothing."""
        query = """SELECT uuid, state, sum(elapsed_ms) FROM account JOIN gpu ON gpu.id = gpu_id
                   GROUP BY 1, 2 HAVING sum(elapsed_ms) > 0"""
        return {(uuid, state): elapsed_ms for uuid, state, elapsed_ms in rows(self.path, query)}

    @property
    def whole(self) -> list[tuple[object, ...]]:
        """Give all accounts by name, without what is nothing."""
        query = """SELECT uuid, node.name, state, owner.name, elapsed_ms, busy_us, busy_seen_ms, energy_mj,
                          energy_seen_ms
                   FROM account JOIN gpu ON gpu.id = gpu_id JOIN node ON node.id = node_id
                   JOIN owner ON owner.id = owner_id WHERE elapsed_ms > 0 ORDER BY 1, 2, 3, 4"""
        return rows(self.path, query)


def enter(source: Path, folder: Path, *, step_seconds: float | None = None) -> Replayed:
    """Replay a file into a new journal, and check that all time is in it."""
    recording = Recording(source)
    found = survey(recording, "here", step_seconds)
    path = folder / "journal.db"
    with books_at(path, STATES) as books:
        replay(recording, found, books, node="here", workload=Workload.BATCH)
    check_hours(path, dict.fromkeys(found.gpus, found.span_ms))
    check_sums(path)
    return Replayed(path, found)


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., Replayed]:
    """Replay lines of a CSV; times are seconds since `T0`."""
    count = iter(range(1000))

    def lines(header: str, *cells: str, step_seconds: float | None = None) -> Replayed:
        folder = tmp_path / str(next(count))
        folder.mkdir()
        source = folder / "recording.csv"
        moved = [line.split(",", 1) for line in cells]
        text = "".join(f"{T0 + float(at):.3f},{rest}\n" for at, rest in moved)
        source.write_text(f"{header}\n{text}", encoding="utf-8")
        return enter(source, folder, step_seconds=step_seconds)

    return lines


Play = Callable[..., Replayed]
BUSY = "time,gpu,busy_ratio,memory_used_bytes"
BY_HAND = (
    "100,a,1.0,0",
    "110,a,0,0",
    "110,b,0.1,0",
    "120,a,0.5,0",
    "120,b,0.1,0",
    "160,a,0.2,0",
    "170,a,0,0",
)
"""Steps of 10 s; `a` is silent for 40 s, of which its next row covers 25, and `b` comes late and leaves."""


def test_rows_cover_what_the_design_says(play: Play) -> None:
    """By hand: of a span of 80 s `a` was active for 45, free for 20, unseen for 15 s, `b` active for 20."""
    played = play(BUSY, *BY_HAND)
    assert played.found.step_ms == 10_000
    assert played.found.span_ms == ((T0 + 90) * 1000, (T0 + 170) * 1000)
    assert played.states == {
        ("a", "active"): 45_000,
        ("a", "free"): 20_000,
        ("a", "unknown"): 15_000,
        ("b", "active"): 20_000,
        ("b", "unknown"): 60_000,
    }


def test_busy_time_and_energy_are_those_of_the_rows(play: Play) -> None:
    """A ratio and a power hold for the interval of their row: 10 + 5 + 25 x 0.2 s, and 100 W over 45 s."""
    played = play(
        "time,gpu,busy_ratio,power_watts",
        "100,a,1,100",
        "110,a,0.5,100",
        "150,a,0.2,100",
    )
    assert played.found.step_ms == 10_000
    query = "SELECT sum(busy_us), sum(busy_seen_ms), sum(energy_mj), sum(energy_seen_ms) FROM account"
    assert rows(played.path, query) == [(20_000_000, 45_000, 4_500_000, 45_000)]


def test_the_limit_is_two_and_a_half_steps(play: Play) -> None:
    """A gap of exactly 25 s at steps of 10 is covered, a gap of 25.001 s leaves one millisecond unknown."""
    steps = ("100,a,1", "110,a,1", "120,a,1", "130,a,1")
    covered = play("time,gpu,busy_ratio", *steps, "155,a,1")
    assert covered.states == {("a", "active"): 65_000}
    beyond = play("time,gpu,busy_ratio", *steps, "155.001,a,1")
    assert beyond.states == {("a", "active"): 65_000, ("a", "unknown"): 1}


def test_the_step_may_be_told(play: Play) -> None:
    """A single row covers the step that the user gives; without one it is an error that says so."""
    assert play("time,gpu,busy_ratio", "100,a,1", step_seconds=30).states == {("a", "active"): 30_000}
    with pytest.raises(ReplayError, match="give --step SECONDS"):
        play("time,gpu,busy_ratio", "100,a,1")


def test_what_a_row_does_not_say_is_not_seen(play: Play) -> None:
    """Without busy and memory the time is unknown; memory alone tells free from unknown."""
    played = play(
        BUSY, "100,a,1,0", "110,a,,", "120,a,,0", f"130,a,,{2 * HELD_BYTES}", f"140,a,0,{2 * HELD_BYTES}"
    )
    assert played.states == {
        ("a", "active"): 10_000,
        ("a", "unknown"): 20_000,
        ("a", "free"): 10_000,
        ("a", "held_gap"): 10_000,
    }


# What does not matter


def test_rows_of_one_gpu_after_another_give_the_same_accounts(play: Play) -> None:
    """A file that holds one GPU after the other says what one in order of time says."""
    by_gpu = sorted(BY_HAND, key=lambda line: line.split(",")[1])
    assert play(BUSY, *by_gpu).whole == play(BUSY, *BY_HAND).whole


@pytest.mark.parametrize("seed", range(6))
def test_order_does_not_matter(play: Play, seed: int) -> None:
    """A file that runs backwards, or is shuffled, gives the accounts of one in order of time."""
    lines = [*BY_HAND, *(f"{at},c,0.{at % 7},0" for at in range(100, 170, 10))]
    mixed = lines[::-1] if seed == 0 else dice(seed).sample(lines, len(lines))
    assert play(BUSY, *mixed).whole == play(BUSY, *lines).whole


def test_a_row_that_stands_twice_counts_once(play: Play) -> None:
    """Duplicates next to each other, or appended as a whole file once more, change nothing."""
    plain = play(BUSY, *BY_HAND).whole
    assert play(BUSY, *(line for line in BY_HAND for _ in range(2))).whole == plain
    assert play(BUSY, *BY_HAND, *BY_HAND).whole == plain


def test_gpus_that_are_not_read_together_are_whole(play: Play) -> None:
    """Clocks of rows that differ by less than half a step, or by any other part of it, lose no time."""
    for shift in (0.4, 3, 5, 7.7):
        lines = [line for at in range(100, 170, 10) for line in (f"{at},a,1", f"{at + shift},b,1")]
        states = play("time,gpu,busy_ratio", *lines).states
        assert (states["a", "active"], states["b", "active"]) == (70_000, 70_000)


# Nodes, owners, holders


def test_a_gpu_that_moves_is_accounted_for_where_it_is(play: Play) -> None:
    """Rows that name another node move the GPU from their interval on; what nobody saw stays behind."""
    header = "time,gpu,node,busy_ratio"
    played = play(header, "100,a,n1,1", "110,a,n1,1", "120,a,n2,1", "130,a,n2,1", "100,b,n2,1", "160,b,n2,1")
    by_place = {(row[0], row[1], row[2]): row[4] for row in played.whole}
    assert by_place == {
        ("a", "n1", "active"): 20_000,
        ("a", "n2", "active"): 20_000,
        ("a", "n2", "unknown"): 30_000,
        ("b", "n2", "active"): 35_000,
        ("b", "n2", "unknown"): 35_000,
    }


def test_a_row_without_a_node_is_of_the_node_given(play: Play) -> None:
    """Where the file names none, or leaves it empty, the name comes from the command."""
    played = play("time,gpu,node,busy_ratio", "100,a,,1", "110,a,,1", "100,b,n2,1", "110,b,n2,1")
    assert {(row[0], row[1]) for row in played.whole} == {("a", "here"), ("b", "n2")}


def test_owner_columns_make_holders(play: Play) -> None:
    """An owner holds the GPU also while nothing works; of owner and holder one may stand for both."""
    header = "time,gpu,busy_ratio,owner,holder"
    lines = ("100,a,1,vision,4711", "110,a,0,vision,4711", "120,a,0,lab,", "130,a,0,,nb-7", "140,a,0,,")
    played = play(header, *lines)
    assert {(row[2], row[3]): row[4] for row in played.whole} == {
        ("active", "vision"): 10_000,
        ("held_gap", "vision"): 10_000,
        ("held_gap", "lab"): 10_000,
        ("held_gap", "nb-7"): 10_000,
        ("free", ""): 10_000,
    }
    holders = rows(played.path, "SELECT kind, name, owner FROM holder ORDER BY name")
    assert holders == [
        ("recorded", "4711", "vision"),
        ("recorded", "lab", "lab"),
        ("recorded", "nb-7", "nb-7"),
    ]
    assert played.found.tells_holders


def test_models_come_into_the_inventory(play: Play) -> None:
    """The model that a row names is the GPU's."""
    played = play("time,gpu,model,busy_ratio", "100,a,NVIDIA H200,1", "110,a,NVIDIA H200,1")
    assert rows(played.path, "SELECT uuid, model FROM gpu") == [("a", "NVIDIA H200")]


# What is wrong


def test_few_bad_lines_are_counted_and_skipped(play: Play) -> None:
    """One of a hundred is reported with its number, and the rest is replayed."""
    lines = [f"{100 + number * 10},a,1" for number in range(99)]
    lines.insert(50, "600,a,high")
    played = play("time,gpu,busy_ratio", *lines)
    assert played.found.bad_lines == 1
    assert [one.line for one in played.found.bad] == [52]
    assert played.states == {("a", "active"): 990_000}


def test_more_than_one_per_cent_of_bad_lines_is_an_error(play: Play) -> None:
    """Two of a hundred: the error counts them and shows the first."""
    lines = [f"{100 + number * 10},a,1" for number in range(98)]
    lines[50:50] = ["600,a,high"] * 2
    with pytest.raises(
        ReplayError, match=r"2 of 100 lines .*more than 1 %; the first is line 52: busy_ratio"
    ):
        play("time,gpu,busy_ratio", *lines)


@pytest.mark.parametrize("cells", [[], ["100,a,high"]])
def test_a_recording_without_rows_is_an_error(play: Play, cells: list[str]) -> None:
    """Nothing to replay, or nothing that is understood."""
    with pytest.raises(ReplayError, match=r"holds no rows|1 of 1 lines"):
        play("time,gpu,busy_ratio", *cells)


def test_a_journal_is_not_entered_twice(play: Play) -> None:
    """Time that the journal accounts for already is refused, and the journal stays as it was."""
    played = play(BUSY, *BY_HAND)
    before = played.whole
    recording = Recording(played.path.with_name("recording.csv"))
    with (
        books_at(played.path, STATES) as books,
        pytest.raises(ReplayError, match="replay into a new journal"),
    ):
        replay(recording, survey(recording, "here"), books, node="here", workload=Workload.BATCH)
    assert played.whole == before


@pytest.mark.parametrize(
    "name", ["power_watts", "energy_joules_total", "memory_used_bytes", "sm_clock_hertz"]
)
@pytest.mark.parametrize("value", ["1e30", "1e300"])
def test_a_value_beyond_all_bounds_is_a_bad_line_or_harmless(play: Play, name: str, value: str) -> None:
    """A figure that no device can have ends in rows, or in a ReplayError, but in no other error."""
    lines = [f"{100 + number * 10},a,0,{10 + number}" for number in range(200)]
    lines[100] = f"1100,a,0,{value}"
    try:
        played = play(f"time,gpu,busy_ratio,{name}", *lines)
    except ReplayError:
        return
    assert sum(played.states.values()) == 2_000_000


# The rule, computed once more


def by_rule(lines: Iterable[tuple[int, str, float | None, float | None]]) -> tuple[Accounts, int, int]:
    """Do what the design says: time by GPU and state, and the span, from (ms, GPU, busy, memory used)."""
    seen: dict[str, dict[int, tuple[float | None, float | None]]] = defaultdict(dict)
    for at_ms, gpu, busy, memory in lines:
        seen[gpu].setdefault(at_ms, (busy, memory))
    times = {gpu: sorted(found) for gpu, found in seen.items()}
    step_ms = median_low([b - a for found in times.values() for a, b in pairwise(found)])
    start_ms = min(found[0] for found in times.values()) - step_ms
    end_ms = max(found[-1] for found in times.values())
    states: Accounts = defaultdict(int)
    for gpu, found in times.items():
        for before_ms, at_ms in zip([found[0] - step_ms, *found], found, strict=False):
            covered_ms = min(at_ms - before_ms, round(2.5 * step_ms))
            states[gpu, _state(*seen[gpu][at_ms])] += covered_ms
        told_ms = sum(length_ms for (name, _), length_ms in states.items() if name == gpu)
        states[gpu, "unknown"] += end_ms - start_ms - told_ms
    return {key: length_ms for key, length_ms in states.items() if length_ms}, start_ms, end_ms


def _state(busy: float | None, memory: float | None) -> str:
    held = memory is not None and memory > HELD_BYTES
    if busy is None:
        return "unknown" if held or memory is None else "free"
    if busy >= 0.05:
        return "active"
    return "held_gap" if held else "free"


_lines = st.lists(
    st.tuples(
        st.integers(1, 400).map(lambda tenths: T0 * 1000 + tenths * 100),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([None, 0.0, 0.049, 0.05, 1.0]),
        st.sampled_from([None, 0.0, float(HELD_BYTES), HELD_BYTES + 1.0]),
    ),
    min_size=2,
    max_size=60,
    unique_by=lambda line: line[:2],
).filter(lambda lines: len({line[1] for line in lines}) < len(lines))


@settings(max_examples=60)
@given(_lines)
def test_any_recording_is_accounted_for_by_the_rule(
    lines: list[tuple[int, str, float | None, float | None]],
) -> None:
    """Whatever rows of whatever times: the accounts are what the design's rule gives, GPU by GPU."""
    text = "".join(
        f"{at_ms / 1000},{gpu},{'' if busy is None else busy},{'' if memory is None else memory}\n"
        for at_ms, gpu, busy, memory in sorted(lines, key=lambda line: line[:2])
    )
    with TemporaryDirectory() as folder:
        source = Path(folder) / "recording.csv"
        source.write_text(f"{BUSY}\n{text}", encoding="utf-8")
        played = enter(source, Path(folder))
        expected, start_ms, end_ms = by_rule(lines)
        assert (played.found.span_ms, played.states) == ((start_ms, end_ms), expected)


@settings(max_examples=30)
@given(st.binary(max_size=300))
def test_surveying_anything_raises_only_replay_errors(content: bytes) -> None:
    """A file of anything under a good header is surveyed, or is a ReplayError."""
    with TemporaryDirectory() as folder:
        source = Path(folder) / "recording.csv"
        source.write_bytes(f"{BUSY}\n".encode() + content)
        try:
            found = survey(Recording(source), "here")
        except ReplayError:
            return
        assert found.rows > 0


# A real recording


@pytest.fixture(scope="module")
def gentd26(tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """Replay a recorded day of a cluster of 143 GPUs."""
    if not GENTD26.exists():
        pytest.skip(f"the recording {GENTD26} is not here")
    return enter(GENTD26, tmp_path_factory.mktemp("gentd26"))


@pytest.fixture(scope="module")
def gentd26_by_rule() -> tuple[Accounts, int, int]:
    """Compute what the rule says of the same file, from its cells alone."""
    if not GENTD26.exists():
        pytest.skip(f"the recording {GENTD26} is not here")
    with gzip.open(GENTD26, "rt", encoding="utf-8", newline="") as text:
        return by_rule(
            (
                round(float(line["time"]) * 1000),
                line["gpu"],
                float(line["busy_ratio"]) if line["busy_ratio"] else None,
                float(line["memory_used_bytes"]) if line["memory_used_bytes"] else None,
            )
            for line in csv.DictReader(text)
        )


def test_every_gpu_millisecond_of_a_real_recording_is_accounted_for(gentd26: Replayed) -> None:
    """143 GPUs times the span, and per GPU and hour (which `enter` checks) the states sum to the time."""
    start_ms, end_ms = gentd26.found.span_ms
    assert len(gentd26.found.gpus) == 143
    assert gentd26.found.bad_lines == 0
    assert sum(gentd26.states.values()) == 143 * (end_ms - start_ms)


def test_states_of_a_real_recording_are_those_of_the_rule(
    gentd26: Replayed, gentd26_by_rule: tuple[Accounts, int, int]
) -> None:
    """GPU by GPU, active, held, free and unknown time are what an independent computation says."""
    expected, start_ms, end_ms = gentd26_by_rule
    assert gentd26.found.span_ms == (start_ms, end_ms)
    assert gentd26.states == expected
    assert totals(expected).keys() == {"active", "held_gap", "free", "unknown"}


def totals(states: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """Add up time by state."""
    sums: dict[str, int] = defaultdict(int)
    for (_, state), length_ms in states.items():
        sums[state] += length_ms
    return sums
