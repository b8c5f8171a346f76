"""The report as text: what to do first, columns that align, and nothing raw from outside."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.tally import HOUR_MS
from agent.tick import Condition, Gpu, Holder
from reports.forms.text import to_text
from reports.window import Asked
from reports.wording import cells, cut, hours, percent, printable
from tests.reports.small import ALICE, Deed, Small, day, gpu, report_of, tamper

ESCAPE = "\x1b[31m"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write the text of four hours at 2 per GPU-hour."""
    return to_text(report_of(day(tmp_path_factory.mktemp("text") / "journal.db"), price=2.0))


def test_the_head_says_what_is_reported(text: str) -> None:
    """Window, zone, inventory, coverage, bounds and identity."""
    for line in (
        "  window     Mon 2026-11-16 00:00 to Mon 2026-11-16 04:00 UTC, 4.0 h",
        "  inventory  4 GPUs, 16.0 GPU-hours, 32.00 at 2.0 per GPU-hour",
        "  coverage   84.6 % of the time that GPUs were not down",
        "  effective  17.5 % to 30.0 % of the inventory",
        "  energy     2.10 kWh in 43.8 % of the time, the rest was not seen",
        "  identity   PASS: the states of each GPU sum to its time in each hour",
    ):
        assert line in text.splitlines()


def test_decisions_come_before_numbers(text: str) -> None:
    """A reader who stops early knows what to do."""
    assert text.index("What to do") < text.index("reclaim 3.0 GPU-hours") < text.index("Hours by state")


def test_states_show_hours_share_bar_energy_and_cost(text: str) -> None:
    """Columns align, units stand in the titles."""
    lines = text.splitlines()
    start = lines.index("Hours by state")
    assert lines[start + 1 : start + 5] == [
        "  state      GPU-h   share                         kWh   cost",
        "  active       3.5  21.9 %  ####................  1.75   7.00",
        "  held_gap     0.5   3.1 %  #...................  0.05   1.00",
        "  held_idle    3.0  18.8 %  ####................  0.30   6.00",
    ]
    assert lines[start + 10] == "  sum         16.0                                2.10  32.00"


def test_no_name_speaks_to_the_terminal(tmp_path: Path) -> None:
    """Control characters of owners, holders, nodes, models and findings are escaped."""
    small = Small(tmp_path / "journal.db")
    evil = Holder(kind="slurm", name=f"job{ESCAPE}", owner=f"al{ESCAPE}\u202eice", user="\x9b")
    sick = replace(gpu(0), model=f"H200{ESCAPE}\r")
    small.pass_by(8 * HOUR_MS, {sick: (evil, {"busy_ratio": 0.0})}, node=f"n{ESCAPE}\n1")
    small.save()
    row = "INSERT INTO finding VALUES (NULL, 1, NULL, 'hot', 'warning', ?, NULL, ?, ?, 1, '')"
    tamper(small.path, row, small.now_ms - 1, f"hot{ESCAPE}", "cool\x07 it")
    text = to_text(report_of(small.path), 200)
    assert all(char == "\n" or char.isprintable() for char in text)
    assert r"al\x1b[31m\u202eice" in text
    assert r"n\x1b[31m\n1" in text


def test_a_long_fleet_is_folded(tmp_path: Path) -> None:
    """The GPUs with the most wasted hours are shown, the others are counted."""
    small = Small(tmp_path / "journal.db")
    does: dict[Gpu, Deed] = {gpu(number): (ALICE, {"busy_ratio": 0.9}) for number in range(24)}
    does[gpu(24)] = (None, Condition.LOST)
    small.pass_by(HOUR_MS, does)
    small.save()
    lines = to_text(report_of(small.path)).splitlines()
    start = lines.index("Hours by GPU, wasted (idle, down, unknown) first; spell is the longest")
    assert "GPU-00000024-aaaa" in lines[start + 2]
    assert lines[start + 22] == "  ... and 5 more GPUs, not shown; --format json has all of them"


def test_wrong_accounts_are_shouted(tmp_path: Path) -> None:
    """The head fails, the first thing to do says so, and the hour is named."""
    path = day(tmp_path / "journal.db")
    tamper(
        path,
        "DELETE FROM account_hour WHERE gpu_id = 2 AND hour_ms > (SELECT MIN(hour_ms) FROM account_hour)",
    )
    text = to_text(report_of(path))
    assert "identity   FAIL" in text
    assert "  1. do not rely on this report before it is known" in text
    assert "GPU-00000001-aaaa in the hour from 2026-11-16T01:00:00Z: was there 3,600.000 s," in text


def test_a_partly_covered_week_says_so(tmp_path: Path) -> None:
    """Local time is shown in the zone of the report."""
    report = report_of(day(tmp_path / "journal.db"), Asked(week="2026-W47", timezone="Europe/Berlin"))
    text = to_text(report)
    assert "window     Mon 2026-11-16 00:00 to Mon 2026-11-23 00:00 Europe/Berlin, 168.0 h" in text
    assert "covered    only Mon 2026-11-16 01:00 to Mon 2026-11-16 05:00 Europe/Berlin, 4.0 h" in text


@pytest.mark.parametrize("width", [10, 80, 100, 160])
def test_lines_keep_to_the_width(tmp_path: Path, width: int) -> None:
    """From 80 columns on no line is longer than asked, whatever the names."""
    small = Small(tmp_path / "journal.db")
    long = Holder(kind="slurm", name="9" * 90, owner="日本" * 40)
    small.pass_by(
        300 * HOUR_MS, {replace(gpu(0), model="M" * 70): (long, {"busy_ratio": 0.0})}, node="n" * 60
    )
    small.save()
    longest = max(cells(line) for line in to_text(report_of(small.path, price=2.0), width).splitlines())
    assert longest <= max(width, 80)


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [(None, "-"), (0.0, "0.0 %"), (0.0001, "<0.1 %"), (0.5, "50.0 %"), (0.9999, ">99.9 %"), (1.0, "100.0 %")],
)
def test_only_nothing_is_shown_as_nothing(ratio: float | None, shown: str) -> None:
    """A little is not 0 %, nearly all is not 100 %, and not known is neither."""
    assert percent(ratio) == shown


def test_a_minute_is_not_zero_hours() -> None:
    """What is more than nothing is not shown as 0."""
    assert (hours(0), hours(60_000), hours(180_000), hours(3_600_000_000)) == (
        "0.0",
        "<0.1",
        "0.1",
        "1,000.0",
    )


def test_names_are_cut_in_the_middle_by_cells() -> None:
    """Head and tail of a UUID tell GPUs apart; wide characters count twice."""
    assert cut("GPU-00000000-0001", 9) == "GPU-…0001"
    assert cells(cut("日本" * 10, 9)) <= 9
    assert cut("short", 9) == "short"
    assert printable("a\tb\u200fc é") == r"a\tb\u200fc é"
