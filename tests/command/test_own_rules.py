"""Rules about the node, in a whole agent: faults of driver, inventory and store become findings."""

from contextlib import closing
from pathlib import Path

import pytest

from agent.journal_file import connect
from agent.restore import open_findings
from tests.command.processes import Agent, gputally, running
from tests.command.waiting import until
from tests.exporters.test_transports import standing

SETTINGS = """
[node]
gpus = 3
[rules]
file = "{rules}"
[[exporters.to]]
name = "nowhere"
kind = "influx"
url = "http://127.0.0.1:9"
bucket = "gpu"
"""
RULES = """
[gpu_count_unexpected]
for = "2s"
[gputally_nvml_slow]
for = "2s"
when.driver.over = "4s"
when.driver.at_least = 0.4
when.driver.until = 0.3
[gputally_exporter_lagging]
for = "2s"
when.waiting.above = 3
when.waiting.until = 1
[gputally_holders_down]
for = "2s"
[gputally_probe_stuck]
for = "2s"
[gputally_lossy]
when.blind.over = "1m"
when.blind.at_least = 1
when.blind.until = 0
"""
REFUSING = """
[[exporters.to]]
name = "strict"
kind = "influx"
url = "{url}"
bucket = "gpu"
spread_seconds = 0
[rules]
file = "{rules}"
"""
BROKEN = """
import time
began = time.monotonic()
def broken():
    return 3 < time.monotonic() - began < 6
import agent.journal as journal
from agent.errors import JournalError
commit = journal.Journal.commit
def failing(self, *more):
    if broken():
        raise JournalError("no space left for the journal")
    return commit(self, *more)
journal.Journal.commit = failing
from agent.holders import claims
import agent.simulated.scheduler as scheduler
from dataclasses import replace
answer = scheduler.Scheduler.answer
scheduler.Scheduler.answer = lambda self: replace(answer(self), trouble="slurmctld does not answer")
"""
"""For three seconds nothing can be written; the scheduler never says all."""


def open_rules(journal: Path) -> set[tuple[str, str]]:
    """Give rule and GPU of what is open."""
    with closing(connect(journal)) as db:
        return {(one.rule, one.uuid) for one in open_findings(db)}


def test_what_is_wrong_with_the_node_is_found_by_the_node(tmp_path: Path) -> None:
    """A GPU too few, a driver that is slow, and a store that is not there; the page has them as well."""
    rules, settings, journal = (tmp_path / name for name in ("rules.toml", "settings.toml", "journal.db"))
    rules.write_text(RULES)
    settings.write_text(SETTINGS.format(rules=rules))
    simulation = ("--simulate", "t4x2:training!slowcalls=0:15", "--interval", "1", "--port", "0")
    with running(tmp_path, *simulation, "--settings", settings, "--journal", journal) as agent:
        wanted = {
            ("gpu_count_unexpected", ""),
            ("gputally_nvml_slow", ""),
            ("gputally_exporter_lagging", ""),
        }
        until(lambda: agent.samples("gpu_up"), "an interval")
        until(lambda: wanted <= open_rules(journal), "the findings")
        until(lambda: len(agent.samples("gputally_finding")) >= len(wanted), "the page")
        assert list(agent.samples("gputally_expected_gpus").values()) == [3.0]
        where = ("--settings", settings, "--journal", journal)
        said = gputally(tmp_path, "findings", *where).out
        assert "critical: gpu_count_unexpected on" in said
        assert "(missing_gpus 1)" in said
        fit = gputally(tmp_path, "check", *where)
        assert (fit.code, "gpu_count_unexpected" in fit.out) == (2, True)


def test_what_the_agent_needs_and_does_not_get_is_found(tmp_path: Path) -> None:
    """A disk that is full for a while, a scheduler that fails, a store that refuses."""
    rules, settings, journal = (tmp_path / name for name in ("rules.toml", "settings.toml", "journal.db"))
    rules.write_text(RULES)
    wanted = {
        ("gputally_journal_failing", ""),
        ("gputally_holders_down", ""),
        ("gputally_exporter_losing", ""),
    }
    simulation = ("--simulate", "t4x2:training", "--interval", "1", "--port", "0")
    with standing(lambda handler: handler.say(400)) as store:
        settings.write_text(REFUSING.format(url=store.url, rules=rules))
        where = ("--settings", settings, "--journal", journal)
        with Agent(tmp_path, *simulation, *where, patch=BROKEN) as agent:
            until(lambda: agent.samples("gpu_up"), "an interval")
            until(lambda: wanted <= open_rules(journal), "the findings")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "rule"), [("hang=1@+3", "gputally_probe_stuck"), ("unloaded@+4..+60", "gputally_lossy")]
)
def test_a_driver_that_hangs_or_is_gone_is_found(tmp_path: Path, fault: str, rule: str) -> None:
    """A process that never comes back, and time in which nothing could be read."""
    rules, settings, journal = (tmp_path / name for name in ("rules.toml", "settings.toml", "journal.db"))
    rules.write_text(RULES)
    settings.write_text(f'[rules]\nfile = "{rules}"\n')
    simulation = ("--simulate", f"t4x2:training!{fault}", "--interval", "1", "--port", "0")
    with running(tmp_path, *simulation, "--settings", settings, "--journal", journal) as agent:
        until(lambda: agent.samples("gpu_up"), "an interval")
        until(lambda: (rule, "") in open_rules(journal), "the finding", seconds=120)
