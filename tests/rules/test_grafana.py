"""The alert rules for Grafana: all are there, each asks what a store understands, and what is found fires."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from exporters import remote_write
from exporters.rows import GPU, Row
from rules.definition import Condition, Rule, Runbook
from rules.fleet import fleet_rules
from rules.grafana import Group, body_of, file_of, groups, unused
from rules.groups import JudgedBy
from rules.load import built_in
from tests.dashboards.grafana_rules import check_rule, duration, duration_ms, is_firing
from tests.rules.unit_tests import promtool
from tests.stores.prometheus import Prometheus, prometheus

SOURCE = "gputally-store"
NOW_MS = 1_789_380_000_000
LINK = "https://wiki.example.org/gpu"
JUDGES: tuple[JudgedBy, ...] = ("node", "store")
Entry = dict[str, Any]
BOOK = Runbook(action="look")


def made(judged_by: JudgedBy = "node", interval_ms: int = 10_000) -> tuple[Group, ...]:
    """Make all rules."""
    return groups(built_in(), fleet_rules(), interval_ms, SOURCE, judged_by=judged_by, runbook_url=LINK)


def entries(several: Sequence[Group]) -> list[Entry]:
    """Give the rules of all groups."""
    return [rule for group in several for rule in group.rules]


def one_rule(**more: object) -> Entry:
    """Make the entry of one rule."""
    told: dict[str, Any] = {"name": "hot", "summary": "hot", "runbook": BOOK, **more}
    rule = Rule(when={"up": Condition(quantity="up", number=0)}, **told)
    (entry,) = entries(groups({rule.name: rule}, (), 10_000, SOURCE))
    return entry


@pytest.fixture(scope="module")
def store() -> Iterator[Prometheus]:
    """Run a Prometheus with findings of two GPUs; of one nothing is heard any more."""
    with prometheus() as one:
        one.write_remote(*remote_write_of(rows())).good()
        yield one


def labels_of(gpu: int) -> tuple[tuple[str, str], ...]:
    """Label a GPU."""
    return (("node", "n1"), ("gpu", str(gpu)), ("uuid", f"GPU-{gpu}"), ("model", "H200"))


def rows() -> list[Row]:
    """Let GPU 0 be up with a finding of two minutes ago, GPU 1 silent for half an hour, and GPU 2 well."""
    found: list[Row] = []
    for gpu, since_ms in ((0, 120_000), (1, 1_800_000), (2, 0)):
        until = NOW_MS - 1_000 if gpu != 1 else NOW_MS - 1_700_000
        found += [
            Row(GPU, labels_of(gpu), (("up", 1.0),), at) for at in range(NOW_MS - 1_800_000, until, 10_000)
        ]
        if since_ms:
            which = (("rule", "thermal_margin_low"), ("severity", "warning"))
            found.append(Row(GPU, (*labels_of(gpu), *which), (("finding", 1.0),), NOW_MS - since_ms))
    return sorted(found, key=lambda row: row.at_ms)


def remote_write_of(several: Sequence[Row]) -> tuple[bytes, dict[str, str]]:
    """Write rows as remote write."""
    return remote_write.encode(several), dict(remote_write.HEADERS)


def ask(store: Prometheus, expr: str, at_ms: int = NOW_MS) -> list[Entry]:
    """Ask at one moment, as Grafana does; fail where the store does not understand."""
    asked = urlencode({"query": expr, "time": f"{at_ms / 1000:.3f}"})
    told = json.loads(store.ask("GET", f"/api/v1/query?{asked}").good())
    assert told["status"] == "success"
    assert told["data"]["resultType"] == "vector"  # all else is no alert to Grafana
    found: list[Entry] = told["data"]["result"]
    return found


def expr_of(entry: Entry) -> str:
    """Give what A asks."""
    text = entry["data"][0]["model"]["expr"]
    assert isinstance(text, str)
    return text


# ---- What a rule is


@pytest.mark.parametrize("judge", JUDGES)
def test_all_rules_are_there(judge: JudgedBy) -> None:
    """Those about GPUs that are switched on, and those about the fleet, each once."""
    gpus, fleet = made(judge)
    about = [one.name for one in built_in().values() if one.about == "gpu" and one.enabled]
    assert [one["labels"]["rule"] for one in gpus.rules] == about
    assert [one["labels"]["rule"] for one in fleet.rules] == [one.name for one in fleet_rules()]
    assert (gpus.name, fleet.name) == ("gputally", "gputally_fleet")


@pytest.mark.parametrize("judge", JUDGES)
def test_grafana_takes_every_rule(judge: JudgedBy) -> None:
    """UIDs, states, durations, labels, queries: by what Grafana checks, and more."""
    for group in made(judge):
        body = body_of(group, "folder")
        assert (body["title"], body["folderUid"], body["interval"]) == (group.name, "folder", 60)
        for rule in body["rules"]:
            check_rule(rule, {SOURCE})
            assert (rule["folderUID"], rule["ruleGroup"]) == ("folder", group.name)


@pytest.mark.parametrize("judge", JUDGES)
def test_every_rule_says_what_must_be_said(judge: JudgedBy) -> None:
    """What nobody tells is well, a store that fails is an error; somebody who is woken finds the runbook."""
    every = entries(made(judge))
    for rule in every:
        assert (rule["noDataState"], rule["execErrState"], rule["condition"]) == ("OK", "Error", "B")
        assert rule["labels"].keys() == {"rule", "severity", "audience"}
        told = rule["annotations"]
        assert {"summary", "description", "runbook_url"} <= told.keys()
        assert told["runbook_url"] == f"{LINK}#{rule['labels']['rule']}"
        assert told["description"].startswith("What to do: ")
    assert len({rule["title"] for rule in every}) == len(every)


def test_links_lead_to_runbooks_that_are_there() -> None:
    """Each is a heading of docs/runbooks.md."""
    text = (Path(__file__).parents[2] / "docs" / "runbooks.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^## ([a-z0-9_]+)", text, re.MULTILINE))
    assert {one["labels"]["rule"] for one in entries(made())} <= headings


# ---- UIDs


def test_uids_stay_what_they_are() -> None:
    """They are how a rule is found again: another UID would be another rule."""
    uids = {one["labels"]["rule"]: one["uid"] for one in entries(made())}
    assert uids["thermal_margin_low"] == "gputally-thermal_margin_low"
    assert uids["gpu_host_hot"] == "gputally-fleet-gpu_host_hot"
    assert one_rule(name="a" * 31)["uid"] == f"gputally-{'a' * 31}"
    # sha256 of 32 letters a begins with 3ba3f5f4
    assert one_rule(name="a" * 32)["uid"] == f"gputally-{'a' * 22}-3ba3f5f4"


NAMES = st.lists(
    st.from_regex(r"[a-z][a-z0-9_]{0,63}", fullmatch=True)
    | st.sampled_from([one.name for one in fleet_rules()]),
    min_size=1,
    max_size=8,
    unique=True,
)


@given(NAMES)
def test_uids_and_titles_are_each_of_one_rule(names: list[str]) -> None:
    """Whatever rules are called, also as those of the fleet, or nearly alike."""
    when = {"up": Condition(quantity="up", number=0)}
    rules = {name: Rule(name=name, summary="x", when=when, runbook=BOOK) for name in names}
    every = entries(groups(rules, fleet_rules(), 10_000, SOURCE))
    assert len({one["uid"] for one in every}) == len(every)
    assert len({one["title"] for one in every}) == len(every)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", one["uid"]) for one in every)
    assert all(len(one["title"]) <= 190 for one in every)


def test_two_rules_whose_alerts_are_called_alike_are_told_apart() -> None:
    """Their titles differ; the first keeps its own."""
    when = {"up": Condition(quantity="up", number=0)}
    rules = {name: Rule(name=name, summary="x", when=when, runbook=BOOK) for name in ("hot", "gpu_hot")}
    titles = [one["title"] for one in entries(groups(rules, (), 10_000, SOURCE))]
    assert titles == ["GpuHot", "GpuHot (gputally-gpu_hot)"]


# ---- What is asked


@pytest.mark.parametrize("judge", JUDGES)
def test_a_real_store_understands_every_question(store: Prometheus, judge: JudgedBy) -> None:
    """And gives series, not a number or a text, which Grafana could not tell apart."""
    for rule in entries(made(judge)):
        ask(store, expr_of(rule))


def test_nodes_findings_fire_where_they_are_open(store: Prometheus) -> None:
    """Also what was pushed two minutes ago, and what is open on a GPU that nobody sees now."""
    (rule,) = (one for one in entries(made()) if one["labels"]["rule"] == "thermal_margin_low")
    found = ask(store, expr_of(rule))
    assert {one["metric"]["uuid"] for one in found} == {"GPU-0", "GPU-1"}
    assert {one["metric"]["node"] for one in found} == {"n1"}
    assert all(is_firing(rule, float(one["value"][1])) for one in found)
    (other,) = (one for one in entries(made()) if one["labels"]["rule"] == "gpu_down")
    assert ask(store, expr_of(other)) == []


def test_a_finding_that_is_no_longer_told_is_over(store: Prometheus) -> None:
    """GPU 0 is seen but its finding was not told for more than three minutes."""
    (rule,) = (one for one in entries(made()) if one["labels"]["rule"] == "thermal_margin_low")
    asked = expr_of(rule)
    assert "[3m]" in asked
    late = ask(store, asked, NOW_MS + 61_000)  # told 181 s ago, seen 63 s ago
    assert {one["metric"]["uuid"] for one in late} == {"GPU-1"}


def test_long_intervals_have_long_windows() -> None:
    """Two samples must have room in them, and the group is judged no more often."""
    (gpus, _) = made(interval_ms=125_000)
    assert "[4m10s]" in expr_of(gpus.rules[0])
    assert gpus.every_seconds == 130
    assert made(interval_ms=300_000)[1].every_seconds == 300
    assert made(interval_ms=1_000)[0].every_seconds == 60


def test_judged_by_the_store_the_recorded_series_are_asked() -> None:
    """They are those of `gputally rules export`."""
    (gpus, _) = made("store")
    assert expr_of(gpus.rules[0]) == f"gputally:open:{gpus.rules[0]['labels']['rule']} > 0"


def test_the_job_is_put_in() -> None:
    """Agents may be scraped by another name."""
    (group,) = groups({}, fleet_rules(), 10_000, SOURCE, job='a"b')
    (gone,) = (one for one in group.rules if one["labels"]["rule"] == "gputally_agent_gone")
    assert 'job=~"a\\"b"' in expr_of(gone)


# ---- When it fires


@pytest.mark.parametrize("value", [1.0, 0.0, -0.0, -3.5, 1e300, math.inf, -math.inf, math.nan])
def test_whatever_is_found_fires(value: float) -> None:
    """A series that is there fires: 0, less and what is no number as well."""
    assert all(is_firing(rule, value) for rule in entries(made()))


@given(st.floats())
def test_any_value_fires(value: float) -> None:
    """Of all that there are."""
    assert is_firing(one_rule(), value)


def test_a_series_of_0_and_one_below_fire_end_to_end(store: Prometheus) -> None:
    """What a real store answers to a rule's own question, judged by the rule's own condition."""
    rule = one_rule()
    for expr, value in (
        ("vector(0)", 0.0),
        ("-2 * gpu_up", -2.0),
        ("gpu_up - gpu_up", 0.0),
        ("gpu_up / 0 * 0", math.nan),
    ):
        found = ask(store, expr)
        assert found
        for one in found:
            got = float(one["value"][1])
            assert got == value or (math.isnan(got) and math.isnan(value))
            assert is_firing(rule, got)
    (skew,) = (one for one in entries(made()) if one["labels"]["rule"] == "gputally_clock_skew")
    assert is_firing(skew, -7.0)  # its clock is behind


# ---- What is said

_ACTION = re.compile(r"\{\{ ?(.*?) ?\}\}")


def rendered(template: str, labels: dict[str, str], value: float | None) -> str:
    """Fill in a template as Grafana does, of what our templates hold; fail at anything else."""
    text, shown = "", True
    at = 0
    for found in _ACTION.finditer(template):
        text += template[at : found.start()] if shown else ""
        at = found.end()
        word = found[1]
        if word == "with $values.A":
            shown = value is not None
        elif word == "end":
            shown = True
        elif shown:
            text += _filled(word, labels, value)
    return text + template[at:]


def _filled(word: str, labels: dict[str, str], value: float | None) -> str:
    if label := re.fullmatch(r"\$labels\.(\w+)", word):
        return labels.get(label[1], "[no value]")
    if literal := re.fullmatch(r'"(\{\{+|\$)"', word):
        return literal[1]
    assert value is not None
    if word == ".Value":
        return f"{value:g}"
    if form := re.fullmatch(r'\.Value \| printf "(%\.\df)"', word):
        return str(form[1] % value)
    how = {"humanizeDuration": f"{value:g}s", "humanizePercentage": f"{value:.4g}%"}
    return how[word.removeprefix(".Value | ")]


def test_summaries_are_filled_in_with_labels_and_values() -> None:
    """By Grafana's names: `$value` would be a text about everything there."""
    said = {one["labels"]["rule"]: one["annotations"]["summary"] for one in entries(made())}
    gpu = {"node": "n1", "gpu": "3", "instance": "n1:9740", "exporter": "vm"}
    assert (
        rendered(said["thermal_margin_low"], gpu, 1)
        == "n1 GPU 3: close to the temperature at which the clocks are lowered"
    )
    assert (
        rendered(said["gputally_lossy"], gpu, 0.7512)
        == "the agent of n1:9740 entered 0.75 of its intervals in half an hour"
    )
    assert rendered(said["gputally_exporter_lagging"], gpu, 900) == "exporter vm of n1:9740 is 900s behind"
    assert (
        rendered(said["gpu_host_hot"], gpu, 4)
        == "4 GPUs of n1 are close to their limit of temperature at once"
    )
    for text in said.values():
        assert rendered(text, gpu, None)  # an error has no values
        assert "$value " not in text
        assert "query" not in text  # Grafana has no such function


def test_templates_are_such_by_a_real_parser(tmp_path: Path) -> None:
    """Prometheus' parser, whose functions Grafana has as well; only the name of its values is put in."""
    told = []
    for rule in entries([*made(), *made("store")]):
        texts = {key: "{{ $values := .Labels }}" + text for key, text in rule["annotations"].items()}
        told.append({"alert": rule["title"], "expr": expr_of(rule), "annotations": texts})
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": told}]}), encoding="utf-8")
    assert promtool("check", "rules", "--lint=none", path) == ""


HOSTILE = "{{ query `x` }} ${HOME} $__file{/etc/passwd} $__env{HOME} {{{ }} $ $$ <b>\x1b"


def test_texts_of_others_are_no_templates() -> None:
    """Neither Grafana's nor, in a file, of its environment; they read as they were written."""
    book = Runbook(action=HOSTILE, meaning=HOSTILE, cost=HOSTILE)
    told = one_rule(summary=HOSTILE, runbook=book)["annotations"]
    for key in ("summary", "description", "cost"):
        assert not re.search(r"\$(\{|__)", told[key])
    gpu = {"node": "n", "gpu": "0"}
    assert rendered(told["summary"], gpu, 1) == f"n GPU 0: {HOSTILE}"
    assert rendered(told["cost"], gpu, 1) == HOSTILE
    assert rendered(told["description"], gpu, 1).startswith(
        f"What to do: {HOSTILE}\nWhat it means: {HOSTILE}\n"
    )


# ---- As a file


def test_the_file_is_of_grafanas_form() -> None:
    """Two groups in the folder of the dashboards, with the same rules; each time the same."""
    several = made()
    text = file_of(several)
    told = yaml.safe_load(text)
    assert told.keys() == {"apiVersion", "groups"}
    assert told["apiVersion"] == 1
    assert [(one["orgId"], one["name"], one["folder"], one["interval"]) for one in told["groups"]] == [
        (1, "gputally", "gputally", "1m"),
        (1, "gputally_fleet", "gputally", "1m"),
    ]
    assert [one["rules"] for one in told["groups"]] == [list(one.rules) for one in several]
    assert text == file_of(made())


def test_outside_of_annotations_nothing_is_taken_for_the_environment() -> None:
    """Grafana puts variables into the other texts of a file, but for the questions themselves."""
    for rule in entries(made()):
        plain = {key: value for key, value in rule.items() if key not in ("annotations", "data")}
        assert "$" not in json.dumps(plain)
        assert all("$" not in query["datasourceUid"] + query["refId"] for query in rule["data"])


def test_a_rule_that_is_switched_off_is_deleted_by_the_file() -> None:
    """Grafana keeps what a file no longer names."""
    rules = {**built_in()}
    rules["thermal_margin_low"] = replace(rules["thermal_margin_low"], enabled=False)
    told = yaml.safe_load(file_of(groups(rules, (), 10_000, SOURCE), unused(rules)))
    assert {"orgId": 1, "uid": "gputally-thermal_margin_low"} in told["deleteRules"]
    left = {one["uid"] for one in told["groups"][0]["rules"]}
    assert left.isdisjoint(one["uid"] for one in told["deleteRules"])


def test_without_rules_there_are_no_groups() -> None:
    """Grafana has no empty ones."""
    assert groups({}, (), 10_000, SOURCE) == ()


def test_durations_are_written_as_grafana_shows_them() -> None:
    """Else a push would find a difference each time."""
    lengths = [one["for"] for one in entries(made())]
    assert {"0s", "2m", "5m", "1h"} <= set(lengths)
    assert all(duration(duration_ms(one)) == one for one in lengths)
