"""A whole agent with exporters, `gputally exporters` and `gputally export`."""

import csv
import io
import json
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from shutil import which
from subprocess import run

import pytest

from agent.journal_file import connect
from exporters.history import History
from gputally.cli import main
from tests.command.processes import Agent, gputally, is_one_sentence
from tests.command.waiting import until
from tests.exporters.simulated import written
from tests.stores.samples import expected
from tests.stores.victoria import TOLERANCE, victoria

Capture = pytest.CaptureFixture[str]
EXPORTERS = """
[node]
name = "hall2-n017"
labels = {{ cluster = "emea" }}
[[exporters.to]]
name = "fleet"
kind = "influx"
url = "{url}/influx"
bucket = "gpu"
[[exporters.to]]
name = "nowhere"
kind = "remote_write"
url = "http://127.0.0.1:9/api/v1/write"
timeout_seconds = 1
"""


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Write an hour of two GPUs."""
    path = tmp_path_factory.mktemp("export") / "j.db"
    written(path, 1)
    yield path
    path.unlink()


def test_an_agent_delivers_and_says_how_far_it_is(tmp_path: Path) -> None:
    """Ticks are in the store soon after they end; one store that is away holds up no other, nor a restart."""
    with victoria() as store:
        settings = tmp_path / "settings.toml"
        settings.write_text(EXPORTERS.format(url=store.url))
        journal = tmp_path / "journal.db"
        simulated = ("--simulate", "h200x2:training", "--interval", "1", "--port", "0")
        arguments = (*simulated, "--settings", str(settings), "--journal", str(journal))
        for _ in range(2):
            with Agent(tmp_path, *arguments) as agent:
                until(lambda: agent.samples("gputally_exporter_delivered_ticks_total"), "the exporters")
                wanted_ticks = _delivered(agent) + 3
                until(partial(_has_delivered, agent, wanted_ticks), "three ticks to be delivered")
                until(partial(_are_up, agent, {"fleet": 1.0, "nowhere": 0.0}), "both to have been tried")
                agent.process.send_signal(signal.SIGTERM)
                assert agent.process.wait(60) == 0
        stored = store.samples('{__name__="gpu_busy_ratio"}')
        with closing(connect(journal)) as db:
            wanted = expected(
                row for _, rows in History(db, 0, {"cluster": "emea"}).ticks(10**6) for row in rows
            )
        for series, points in stored.items():
            sent = dict(wanted[series])
            assert all(abs(sent[at_ms] - value) <= TOLERANCE for at_ms, value in points)
        told = json.loads(
            gputally(tmp_path, "exporters", "--json", "--journal", journal, "--settings", settings).out
        )
        assert [(one["name"], one["configured"]) for one in told] == [("fleet", True), ("nowhere", True)]
        assert told[0]["failure"] == ""
        assert told[1]["waiting_ticks"] > 0
        where = ("--journal", journal, "--settings", settings)
        said = gputally(tmp_path, "exporters", *where)
        assert said.code == 1
        assert "failing" in said.out.splitlines()[2]
        again = gputally(tmp_path, "exporters", "--resend", "fleet", "--since", "2026-01-01", *where)
        assert again.code == 0
        assert f"{told[0]['tick_id'] + told[0]['waiting_ticks']:,} ticks since" in again.out
        assert "keeps none from before" in again.out
        told = json.loads(gputally(tmp_path, "exporters", "--json", *where).out)
        assert (told[0]["tick_id"], told[0]["resends"]) == (0, 1)


def _are_up(agent: Agent, wanted: dict[str, float]) -> bool:
    found = agent.samples("gputally_exporter_up").items()
    return {dict(labels)["exporter"]: value for (_, labels), value in found} == wanted


def _has_delivered(agent: Agent, ticks: float) -> bool:
    return _delivered(agent) >= ticks


def _delivered(agent: Agent) -> float:
    return next(
        value
        for (name, labels), value in agent.samples("gputally_exporter").items()
        if name == "gputally_exporter_delivered_ticks_total" and ("exporter", "fleet") in labels
    )


def test_without_exporters_it_says_what_to_write(
    journal: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty list is no error."""
    monkeypatch.delenv("GPUTALLY_SETTINGS", raising=False)
    assert main(["exporters", "--journal", str(journal)]) == 0
    assert "write [[exporters.to]] in the settings" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--resend", "fleet"), 2, "belong together"),
        (("--since", "2026-01-01"), 2, "belong together"),
        (("--resend", "fleet", "--since", "2026-01-01"), 2, "choose among none"),
        (("--resend", "fleet", "--since", "then"), 1, "is no time"),
    ],
)
def test_what_cannot_be_sent_again_is_said_in_a_sentence(
    journal: Path, capsys: Capture, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """Never a traceback."""
    assert main(["exporters", "--journal", str(journal), *arguments]) == code
    errors = capsys.readouterr().err
    assert is_one_sentence(errors)
    assert words in errors


def exported(path: Path, journal: Path, form: str, *more: str) -> bytes:
    """Run `gputally export` and give what it writes."""
    out = path / f"out.{form}"
    assert main(["export", "--journal", str(journal), "--format", form, "--out", str(out), *more]) == 0
    return out.read_bytes()


@pytest.mark.parametrize("form", ["influx", "openmetrics", "csv"])
def test_a_journal_without_the_newest_quantities_is_written_as_it_is(
    form: str, journal: Path, tmp_path: Path
) -> None:
    """No agent has opened it since gputally learnt of them: they are not known, all else is."""
    older = tmp_path / "older.db"
    shutil.copyfile(journal, older)
    with closing(sqlite3.connect(older)) as db:
        db.execute("ALTER TABLE reading DROP COLUMN temperature_margin_celsius")
        db.execute("ALTER TABLE slice_reading DROP COLUMN memory_used_bytes")
        db.commit()
    whole, told = exported(tmp_path, journal, form), exported(tmp_path, older, form)
    assert b"temperature_margin_celsius" in whole
    assert 0.5 * len(whole) < len(told) < len(whole)
    assert (b"temperature_margin_celsius" in told) == (form == "csv")  # the column is there, and empty


def test_line_protocol_is_the_whole_history(journal: Path, tmp_path: Path) -> None:
    """Every row of every tick."""
    lines = exported(tmp_path, journal, "influx").splitlines()
    with closing(connect(journal)) as db:
        rows = [row for _, rows in History(db, 0, {}).ticks(10**6) for row in rows]
    assert len(lines) == len(rows)


def test_openmetrics_is_taken_by_promtool(journal: Path, tmp_path: Path) -> None:
    """Families stand together, and Prometheus makes blocks of them."""
    text = exported(tmp_path, journal, "openmetrics")
    types = [line for line in text.splitlines() if line.startswith(b"# TYPE")]
    assert len(types) == len(set(types))
    assert text.endswith(b"# EOF\n")
    promtool = which("promtool")
    if promtool:
        blocks = tmp_path / "blocks"
        command = [
            promtool,
            "tsdb",
            "create-blocks-from",
            "openmetrics",
            str(tmp_path / "out.openmetrics"),
            str(blocks),
        ]
        done = run(command, capture_output=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        assert list(blocks.iterdir())


def test_csv_is_read_back_by_replay(journal: Path, tmp_path: Path, capsys: Capture) -> None:
    """What goes out comes in again: the same busy time, energy and owners."""
    rows = list(csv.DictReader(io.StringIO(exported(tmp_path, journal, "csv").decode())))
    assert {row["node"] for row in rows} == {"hall2-n017"}
    again = tmp_path / "again.db"
    assert main(["replay", str(tmp_path / "out.csv"), "--journal", str(again)]) == 0
    capsys.readouterr()
    reports = []
    for path in (journal, again):
        main(["report", "--journal", str(path), "--all", "--format", "json"])
        reports.append(json.loads(capsys.readouterr().out))
    first, second = reports
    assert second["busy_ratio_mean"] == pytest.approx(first["busy_ratio_mean"], rel=0.05)
    assert {one["owner"] for one in second["owners"]} == {one["owner"] for one in first["owners"]}


def test_only_the_asked_time_is_written(journal: Path, tmp_path: Path) -> None:
    """Ticks that end after since and not after until."""
    rows = list(csv.DictReader(io.StringIO(exported(tmp_path, journal, "csv").decode())))
    times = sorted({row["time"] for row in rows})
    some = exported(tmp_path, journal, "csv", "--since", times[10], "--until", times[20])
    part = sorted({row["time"] for row in csv.DictReader(io.StringIO(some.decode()))})
    assert part == times[11:21]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--since", "2031-01-01"), 1, "no ticks of that time: it has"),
        (("--since", "2026-01-02", "--until", "2026-01-01"), 2, "--since must lie before --until"),
        (("--since", "yesterday"), 1, "is no time"),
        (("--out", "/nonexistent/x"), 1, "No such file"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(
    journal: Path, capsys: Capture, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """Never a traceback."""
    assert main(["export", "--journal", str(journal), *arguments]) == code
    errors = capsys.readouterr().err
    assert is_one_sentence(errors)
    assert words in errors
