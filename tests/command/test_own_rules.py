"""Rules about the node, in a whole agent: faults of driver, inventory and store become findings."""

from contextlib import closing
from pathlib import Path

from agent.journal_file import connect
from agent.restore import open_findings
from tests.command.processes import gputally, running
from tests.command.waiting import until

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
"""


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
