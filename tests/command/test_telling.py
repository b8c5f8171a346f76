"""A whole agent that tells of findings, and `gputally exporters` about what is told."""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

from agent.journal_file import connect
from exporters.cursors import TELLS
from tests.command.processes import gputally, running
from tests.command.waiting import until
from tests.exporters.findings import HOT, IDLE, LABELS, NAME, Receiver, Said, node, said, settle, teller
from tests.exporters.test_transports import standing
from tests.stores.alertmanager import Alertmanager, alertmanager

SETTINGS = """
[node]
name = "hall2-n017"
labels = {{ cluster = "emea" }}
[rules]
file = "{rules}"
[[exporters.to]]
name = "alerts"
kind = "alertmanager"
url = "{alertmanager}"
spread_seconds = 0
[[exporters.to]]
name = "{webhook_name}"
kind = "webhook"
url = "{webhook}"
spread_seconds = 0
"""
RULES = """
[persistence_mode_off]
for = "1s"
clear_for = "1s"
"""


def test_an_agent_tells_of_a_fault_and_of_its_end(tmp_path: Path) -> None:
    """A fault of the driver is an alert and a message within seconds, its end too; each message once.

    Between the two the agent is killed.
    """
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    settings, journal = tmp_path / "settings.toml", tmp_path / "journal.db"
    with alertmanager() as store, standing(lambda handler: handler.say(204)) as seen:
        settings.write_text(
            SETTINGS.format(rules=rules, alertmanager=store.url, webhook=seen.url, webhook_name=NAME)
        )
        where = ("--settings", settings, "--journal", journal)
        common = ("--interval", "1", "--port", "0", *where)
        with running(tmp_path, "--simulate", "h200x2:training!unpersistent=1", *common) as agent:
            until(partial(_is_active, store), "the alert")
            until(lambda: seen.requests, "the message")
            until(lambda: _up(agent.samples("gputally_exporter_up")) == {"alerts": 1.0, NAME: 1.0}, "both")
            agent.kill()
        with running(tmp_path, "--simulate", "h200x2:training", *common) as agent:
            until(lambda: not store.rules(), "the end of the alert")
            until(lambda: len(seen.requests) == 2, "the second message")
            assert agent.end() == 0
        told = [_said(headers, body) for _, headers, body in seen.requests]
        assert [(one.status, one.rule, one.gpu) for one in told] == [
            ("firing", "persistence_mode_off", 1),
            ("resolved", "persistence_mode_off", 1),
        ]
        assert told[0].finding["labels"] == LABELS
        shown = gputally(tmp_path, "exporters", *where)
        assert shown.code == 0, shown
        assert [line.split()[:4] for line in shown.out.splitlines()[1:]] == [
            ["alerts", "well", "0", "changes"],
            [NAME, "well", "0", "changes"],
        ]


def _is_active(store: Alertmanager) -> bool:
    return [(one["labels"]["rule"], one["labels"]["gpu"]) for one in store.alerts("node=hall2-n017")] == [
        ("persistence_mode_off", "1")
    ]


def _said(headers: Mapping[str, str], body: bytes) -> Said:
    return said(body, {"Idempotency-Key": headers["idempotency-key"]})


def _up(samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]) -> dict[str, float]:
    return {dict(labels)["exporter"]: value for (_, labels), value in samples.items()}


def test_exporters_counts_changes_of_what_is_told(tmp_path: Path) -> None:
    """How many wait, since when, how many were told; and they are told again when asked for."""
    path, settings, to = tmp_path / "j.db", tmp_path / "settings.toml", Receiver()
    settings.write_text(f'[[exporters.to]]\nname = "{NAME}"\nkind = "webhook"\nurl = "http://127.0.0.1:9/"\n')
    where = ("--journal", path, "--settings", settings)
    with node(path) as living:
        living.tick()
        assert gputally(tmp_path, "exporters", *where).out.splitlines()[1].split()[1:3] == ["not", "begun"]
        one = teller(living, to)
        settle(one)
        assert "nothing to tell" in gputally(tmp_path, "exporters", *where).out
        living.tick(HOT)
        settle(one)
        living.tick(HOT, IDLE)
        living.tick(IDLE)
        (told,) = json.loads(gputally(tmp_path, "exporters", "--json", *where).out)
        assert (told["of"], told["waiting_ticks"], told["delivered_ticks"]) == ("findings", 2, 1)
        assert (told["tick_id"], told["configured"]) == (TELLS, True)
        assert told["behind_seconds"] > 0
        assert "2 changes" in gputally(tmp_path, "exporters", *where).out
        settle(one)
        again = gputally(tmp_path, "exporters", "--resend", NAME, "--since", "2026-01-01", *where)
        assert again.code == 0, again.errors
        assert (
            "2 findings, open or closed since 2026-01-01 00:00:00 UTC, are told to pager again" in again.out
        )
        settle(one)
        assert [one.status for one in to.taken] == ["firing", "firing", "resolved", "firing", "resolved"]
    with closing(connect(path)) as db:
        assert _told(db) == [(1, 1, True), (2, 1, False)]


def _told(db: sqlite3.Connection) -> list[tuple[int, int, bool]]:
    rows = db.execute("SELECT finding_id, times, closed_ms FROM told ORDER BY finding_id")
    return [(number, times, closed_ms is not None) for number, times, closed_ms in rows]
