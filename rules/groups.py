"""Rules as files that Prometheus, vmalert and Mimir read: groups of recording and alerting rules."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import yaml

from agent.alerts import alert_name
from agent.promql import span
from rules.definition import XIDS, Condition, Rule
from rules.fleet import FleetRule
from rules.promql import Translator
from rules.series import GROWTH, metric_of

SLOW_MS = 60_000
"""Rules about the fleet need not be judged more often."""
RUNBOOK_URL = "docs/runbooks.md"
HEAD = """\
# Made by `gputally rules export`; what is changed here is lost when it is made again.
# For agents that are scraped every {interval}, the interval in which they judge themselves.
"""
Ruler = Literal["prometheus", "vmalert"]
"""Who evaluates; vmalert finds what it recorded at the next evaluation only."""
JudgedBy = Literal["store", "node"]
"""Whether the store judges what it is told, or is told by the nodes what they found."""
BOOK = ("action", "meaning", "cost", "confirm_query", "confirm_command", "false_positives")
"""What an alert tells of a runbook, what is to be done first."""
Entry = dict[str, Any]
Group = dict[str, Any]


def text_of(
    rules: Mapping[str, Rule],
    fleet: Iterable[FleetRule],
    interval_ms: int,
    *,
    runbook_url: str = RUNBOOK_URL,
    job: str = "gputally",
    judged_by: JudgedBy = "store",
    ruler: Ruler = "prometheus",
) -> str:
    """Give a file of rules as YAML: those about one GPU each, and those that only a fleet can judge."""
    groups = [gpu_group(rules, interval_ms, runbook_url=runbook_url, judged_by=judged_by, ruler=ruler)]
    told = [_of_fleet(one, runbook_url, job) for one in fleet]
    if told:
        groups.append({"name": "gputally_fleet", "interval": span(max(SLOW_MS, interval_ms)), "rules": told})
    body = yaml.dump({"groups": groups}, Dumper=Dumper, sort_keys=False, width=100, allow_unicode=True)
    return HEAD.format(interval=span(interval_ms)) + body


def gpu_group(
    rules: Mapping[str, Rule],
    interval_ms: int,
    *,
    runbook_url: str = RUNBOOK_URL,
    judged_by: JudgedBy = "store",
    ruler: Ruler = "prometheus",
) -> Group:
    """Make the group of the rules about one GPU each: one group, since a rule waits for what others found."""
    made = Translator(rules, interval_ms, is_late=ruler == "vmalert")
    entries: list[Entry] = []
    for name, text in _recorded(made) if judged_by == "store" else ():
        entries.append({"record": name, "expr": text})
    for rule in made.rules.values():
        expression = made.fires(rule) if judged_by == "store" else made.told(rule)
        evidence = f"{plain(rule.summary)} ({', '.join(_said(one, made) for one in rule.when.values())})"
        entries.append(
            {
                "alert": alert_name(rule.name),
                "expr": expression,
                "labels": labels_of(rule),
                "annotations": _annotations(rule, evidence, runbook_url),
            }
        )
    return {"name": "gputally", "interval": made.interval, "rules": entries}


def _recorded(made: Translator) -> Iterator[tuple[str, str]]:
    yield from made.growths()
    for rule in made.rules.values():
        yield from made.conditions(rule)
    for rule in made.rules.values():
        yield made.open(rule)


def _of_fleet(rule: FleetRule, runbook_url: str, job: str) -> Entry:
    entry: Entry = {"alert": alert_name(rule.name), "expr": rule.expression(job)}
    if rule.for_seconds:
        entry["for"] = span(round(rule.for_seconds * 1000))
    return entry | {"labels": labels_of(rule), "annotations": _annotations(rule, rule.summary, runbook_url)}


def labels_of(rule: Rule | FleetRule) -> dict[str, str]:
    """Give the labels of an alert, beside those of its series."""
    return {"rule": rule.name, "severity": rule.severity, "audience": rule.audience}


def _annotations(rule: Rule | FleetRule, summary: str, runbook_url: str) -> dict[str, str]:
    """Give what somebody who is woken reads."""
    told = {"summary": summary}
    told |= {key: plain(text) for key in BOOK if (text := getattr(rule.runbook, key))}
    return told | {"runbook_url": f"{runbook_url}#{rule.name}"}


def _said(condition: Condition, made: Translator) -> str:
    """Say what is seen now, in a template that asks for the latest value."""
    if condition.is_state:
        return f"state {condition.is_state}"
    quantity, function, window = condition.quantity, "last_over_time", made.scraped(2)
    grown = f" grew in {condition.over_seconds:g} s by" if condition.over_seconds else ""
    if condition.over_seconds:
        function, window = "sum_over_time", made.recorded(made.slots(condition.over_seconds))
        numbers = "|".join(map(str, condition.xids))
        more = f'xid=~"{numbers}", ' if quantity == XIDS else ""
        selector = f"{GROWTH}:{quantity}{{{more}uuid=%q}}"
    else:
        selector = metric_of(quantity).selector("uuid=%q")
    asked = f"printf `sum({function}({selector}{window}))` .Labels.uuid | query"
    value = '{{ . | first | value | printf "%.6g" }}'
    return f"{quantity}{grown}{{{{ with {asked} }}}} {value}{{{{ end }}}}"


def plain(text: str) -> str:
    """Keep braces in a text from being read as a template."""
    return re.sub(r"\{\{+", lambda found: f'{{{{ "{found[0]}" }}}}', text)


class Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002, ARG002
        """Set lists in."""
        super().increase_indent(flow, indentless=False)


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Dumper.add_representer(str, _text_node)
