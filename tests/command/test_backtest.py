"""`gputally rules backtest`: its table, its JSON, and how it refuses."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.books import Books
from agent.journal_file import connect
from agent.states import StateSettings
from agent.tick import Condition, Hold, Holder, Tick, reading_of
from exporters.history import History
from exporters.remote_write import HEADERS, encode
from gputally.cli import main
from rules.backtest import enabled
from rules.load import built_in
from tests.agent.histories import MIDNIGHT, books_at, gpu_of
from tests.command.processes import is_one_sentence
from tests.stores.victoria import victoria

Capture = pytest.CaptureFixture[str]
STEP_MS = 60_000
HOSTILE = "eve\x1b[2J\u202e\nrm -rf"
RULES = """\
[cold]
summary = "it is cold"
when.watts.quantity = "power_watts"
when.watts.below = 100
for = "3m"
clear_for = "2m"
runbook.action = "give it work"
"""
OF_NODE = """\
[late]
about = "node"
summary = "it is late"
when.late.quantity = "late_seconds"
when.late.above = 5
runbook.action = "look at its load"
"""
WARM, COLD = 400.0, 60.0
ALL = len(enabled(built_in()))


def live(
    path: Path, watts: list[float], *, node: str = "hall2-n017", owner: str = "vision", first: int = 0
) -> None:
    """Let two GPUs of a node have such power in turn, minute by minute; the second is always warm."""
    holder = Holder(kind="slurm", name="4711", owner=owner, user="ada")
    gpus = (gpu_of(first), gpu_of(first + 1))
    with books_at(path, StateSettings()) as books:
        for turn, amount in enumerate(watts):
            end_ms = MIDNIGHT + (turn + 1) * STEP_MS
            readings = tuple(
                reading_of(gpu.uuid, end_ms - STEP_MS, end_ms, {"power_watts": power, "busy_ratio": 0.9})
                for gpu, power in zip(gpus, (amount, WARM), strict=True)
            )
            tick = Tick(node=node, start_ms=end_ms - STEP_MS, end_ms=end_ms, readings=readings, gpus=gpus)
            books.post(tick, {gpus[0].uuid: (Hold(holder),)})
        books.commit(end_ms)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Give the journal of an hour in which a GPU was cold for half of it."""
    live(tmp_path / "j.db", [*[WARM] * 15, *[COLD] * 30, *[WARM] * 15])
    return tmp_path / "j.db"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Give a file with a rule that finds cold GPUs."""
    path = tmp_path / "rules.toml"
    path.write_text(RULES, encoding="utf-8")
    return path


def told(capsys: Capture, *arguments: object) -> str:
    """Run a backtest; give its output."""
    assert main(("rules", "backtest", *map(str, arguments))) == 0
    out, errors = capsys.readouterr()
    assert errors == ""
    assert "--json" in arguments or max(map(len, out.splitlines())) <= 110
    return out


def refused(capsys: Capture, *arguments: object, code: int = 2) -> str:
    """Run a backtest that cannot be done; give its one sentence."""
    assert main(("rules", "backtest", *map(str, arguments))) == code
    out, errors = capsys.readouterr()
    assert (out, is_one_sentence(errors)) == ("", True)
    return errors


def test_the_table_says_what_fires_on_whom_and_what_changes(
    capsys: Capture, journal: Path, mine: Path
) -> None:
    """A line for the rules, one for the present ones, and one for the difference."""
    text = told(capsys, mine, "--journal", journal)
    assert "60 intervals of 1 min, 2 GPUs on 1 node, 2.00 GPU-hours" in text
    assert f"1 of {ALL + 1} rules fired on 1 of 2 GPUs: 1 finding, 0.4833 GPU-hours" in text
    assert f"present rules: none of {ALL} rules fired" in text
    assert "difference: 1 finding more, 0 fewer, 0 by both" in text
    (row, change) = (line.split() for line in text.splitlines() if line.startswith("cold "))
    assert row == ["cold", "1", "1", "1", "0.48", "29", "min", "29", "min", "0"]
    assert change == ["cold", "1", "0", "+1", "-", "0.48", "0.00", "+0.48", "-"]
    assert "cold: vision (batch) 0.48; held by job 4711 0.48" in text


def test_money_is_told_where_there_is_a_price(
    capsys: Capture, journal: Path, mine: Path, tmp_path: Path
) -> None:
    """And by whom it is so, when it began and ended."""
    settings = tmp_path / "s.toml"
    settings.write_text("[report]\nprice_per_gpu_hour = 3.0\n")
    text = told(capsys, mine, "--journal", journal, "--settings", settings, "--findings")
    assert "1.45 at 3 an hour" in text
    assert "+ 2026-01-06T00:18:00Z to 2026-01-06T00:47:00Z  warning: cold" in text
    assert "held then by job 4711 of vision" in text
    assert "it is cold (power_watts 60)" in text


def test_json_has_all_of_it(capsys: Capture, journal: Path, mine: Path) -> None:
    """Sums, rules, owners, differences, and single findings where they are asked for."""
    data: dict[str, Any] = json.loads(told(capsys, mine, "--journal", journal, "--json", "--findings"))
    assert (data["gpus"], data["gpu_hours"], data["interval_ms"]) == (2, 2.0, STEP_MS)
    assert (data["rules"]["fired"], data["present"]["fired"], data["is_same"]) == (1, 0, False)
    (cold,) = [one for one in data["rules"]["by_rule"] if one["findings"]]
    assert cold["gpu_hours"] == pytest.approx(29 / 60)
    assert cold["money"] is None
    assert cold["owners"] == [{"name": "vision", "gpu_hours": pytest.approx(29 / 60)}]
    assert cold["workloads"][0]["name"] == "batch"
    (difference,) = data["difference"]
    assert difference["findings_only_new"] == 1
    assert difference["gpu_hours_only_present"] == 0
    (finding,) = data["findings"]
    assert (finding["rule"], finding["by"], finding["times"]) == ("cold", "new", 1)
    assert finding["opened_ms"] == MIDNIGHT + 18 * STEP_MS
    assert "findings" not in json.loads(told(capsys, mine, "--journal", journal, "--json"))


def test_the_present_rules_alone_are_compared_with_nothing(
    capsys: Capture, journal: Path, mine: Path, tmp_path: Path
) -> None:
    """Those of the settings, without a file."""
    settings = tmp_path / "s.toml"
    settings.write_text(f'[rules]\nfile = "{mine}"\n')
    text = told(capsys, "--journal", journal, "--settings", settings, "--findings")
    assert f"present rules: 1 of {ALL + 1} rules fired" in text
    assert "difference" not in text
    assert "  2026-01-06T00:18:00Z" in text
    same = told(capsys, mine, "--journal", journal, "--settings", settings)
    assert "present rules: the same" in same
    assert "WHAT CHANGES" not in same


def test_rules_that_differ_may_find_the_same(capsys: Capture, journal: Path, tmp_path: Path) -> None:
    """That is said plainly."""
    path = tmp_path / "other.toml"
    path.write_text("[gpu_down]\nfor = '31s'\n")
    assert "what they find is the same" in told(capsys, path, "--journal", journal)


def test_a_part_of_the_time_begins_with_what_was_pending(capsys: Capture, journal: Path, mine: Path) -> None:
    """It is looked back for that, and said how far."""
    part = ("--from", "2026-01-06T00:17:00Z", "--to", "2026-01-06T00:27:00Z")
    text = told(capsys, mine, "--journal", journal, *part, "--findings")
    assert "2026-01-06T00:17:00Z to 2026-01-06T00:27:00Z: 10 intervals of 1 min" in text
    assert "16 min before that were read" in text
    assert "2026-01-06T00:18:00Z still open" in text


def test_one_rule_may_be_asked_for(capsys: Capture, journal: Path, mine: Path) -> None:
    """The others judge all the same, and are not told of."""
    text = told(capsys, mine, "--journal", journal, "--rule", "gpu_down", "--findings")
    assert f"1 of {ALL + 1} rules fired" in text
    assert not [line for line in text.splitlines() if "cold" in line]


def test_rules_about_the_node_are_left_out(capsys: Capture, journal: Path, tmp_path: Path) -> None:
    """No journal keeps what they are about: that is said, and one of them cannot be asked for."""
    path = tmp_path / "late.toml"
    path.write_text(OF_NODE, encoding="utf-8")
    assert "about nodes, not GPUs, are left out" in told(capsys, path, "--journal", journal)
    assert "about the node" in refused(capsys, path, "--journal", journal, "--rule", "late")


def test_intervals_that_differ_are_told(capsys: Capture, journal: Path) -> None:
    """A time without intervals is one long one."""
    end_ms = MIDNIGHT + 60 * STEP_MS
    with books_at(journal, StateSettings(), now_ms=end_ms) as books:
        later(books, end_ms + 60 * STEP_MS)
    assert "1 of 61 intervals are much longer or shorter than others" in told(capsys, "--journal", journal)


def later(books: Books, end_ms: int) -> None:
    """Go on with a long interval in which a GPU is lost."""
    gpu = gpu_of(0)
    lost = reading_of(gpu.uuid, end_ms - STEP_MS, end_ms, {}, condition=Condition.LOST)
    start_ms = end_ms - 60 * STEP_MS
    gpus = (gpu, gpu_of(1))
    books.post(Tick(node="hall2-n017", start_ms=start_ms, end_ms=end_ms, readings=(lost,), gpus=gpus), {})
    books.commit(end_ms)


def test_names_that_others_chose_do_no_harm(capsys: Capture, mine: Path, tmp_path: Path) -> None:
    """Neither in the table nor in single findings; JSON has them as they are."""
    path = tmp_path / "hostile.db"
    live(path, [COLD] * 20, node=HOSTILE, owner=HOSTILE * 9)
    text = told(capsys, mine, "--journal", path, "--findings")
    assert "eve?[2J?" in text
    assert all(one.isprintable() for one in text.splitlines())
    (finding,) = json.loads(told(capsys, mine, "--journal", path, "--findings", "--json"))["findings"]
    assert finding["node"] == HOSTILE


def test_several_nodes_of_one_journal_are_told_together(capsys: Capture, mine: Path, tmp_path: Path) -> None:
    """As a replay of several recordings writes it: one after the other."""
    path = tmp_path / "two.db"
    for place in (0, 2):
        live(path, [*[WARM] * 5, *[COLD] * 20], node=f"hall2-n{place}", first=place)
    text = told(capsys, mine, "--journal", path)
    assert "4 GPUs on 2 nodes" in text
    assert "fired on 2 of 4 GPUs: 2 findings" in text


def test_a_store_is_judged_like_the_journal(capsys: Capture, journal: Path, mine: Path) -> None:
    """A real one, filled by an exporter; the interval is told by its samples."""
    with closing(connect(journal)) as db:
        rows = [row for _, several in History(db, 0, {}).ticks(1_000) for row in several]
    part = ("--from", "2026-01-06", "--to", "2026-01-06T02:00:00Z", "--json", "--findings")
    with victoria() as server:
        server.write_remote(encode(rows), HEADERS).good()
        server.ask("GET", "/internal/force_flush").good()
        data = json.loads(told(capsys, mine, "--source", server.url, *part))
        nothing = refused(
            capsys, "--source", server.url, "--from", "2025-01-06", "--to", "2025-01-07", code=1
        )
        assert "gpu_up" in nothing
    assert (data["gpus"], data["interval_ms"]) == (2, STEP_MS)
    (finding,) = data["findings"]
    assert (finding["rule"], finding["held_by"]) == ("cold", "job 4711 of vision")
    assert finding["opened_ms"] == MIDNIGHT + 18 * STEP_MS


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--rule", "gpu_dwn"], "gpu_down"),
        (["--rule", "\x1b[2J"], "rules list"),
        (["--from", "soon"], "no time"),
        (["--from", "2026-01-07", "--to", "2026-01-06"], "--from must lie before --to"),
        (["--interval", "10"], "--interval"),
        (["--interval", "0s"], "--interval"),
        (["--interval", "2d"], "--interval"),
        (["--token-file", "x"], "--source"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(
    capsys: Capture, journal: Path, arguments: list[str], word: str
) -> None:
    """It names the option, and what is meant instead."""
    code = 1 if "soon" in arguments else 2
    assert word in refused(capsys, "--journal", journal, *arguments, code=code)


def test_wrong_files_are_one_sentence(capsys: Capture, journal: Path, tmp_path: Path) -> None:
    """Of rules with their line; of journals with what to do."""
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('[gpu_down]\nfor = "soon"\n', encoding="utf-8")
    assert f"{wrong}:2" in refused(capsys, wrong, "--journal", journal)
    assert "nowhere.toml" in refused(capsys, tmp_path / "nowhere.toml", "--journal", journal)
    assert "no gputally journal" in refused(capsys, "--journal", empty_database(tmp_path), code=1)
    assert "not a sound journal" in refused(capsys, "--journal", wrong, code=1)
    assert "there is no journal" in refused(capsys, "--journal", tmp_path / "none.db", code=1)


def empty_database(folder: Path) -> Path:
    """Make an SQLite file that is no journal."""
    path = folder / "other.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (a)")
        db.commit()
    return path


def test_a_time_without_intervals_is_one_sentence(capsys: Capture, journal: Path, tmp_path: Path) -> None:
    """It says what the journal has."""
    said = refused(capsys, "--journal", journal, "--from", "2027-01-01", code=1)
    assert "2026-01-06T00:00:00Z to 2026-01-06T01:00:00Z" in said
    with books_at(tmp_path / "empty.db"):
        pass
    assert "no intervals at all" in refused(capsys, "--journal", tmp_path / "empty.db", code=1)


def test_a_journal_and_a_store_at_once_are_refused(capsys: Capture) -> None:
    """Only one is judged."""
    with pytest.raises(SystemExit, match="2"):
        main(("rules", "backtest", "--journal", "x", "--source", "http://x"))
    assert "not allowed with" in capsys.readouterr().err


def test_a_store_with_a_password_in_its_address_is_refused(capsys: Capture) -> None:
    """Without telling it."""
    said = refused(capsys, "--source", "http://user:geheim@127.0.0.1:9")
    assert "--token-file" in said
    assert "geheim" not in said
