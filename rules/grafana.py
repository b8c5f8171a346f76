"""The same rules as alert rules of Grafana itself: as a file that it reads when it starts, and for its API.

Every rule asks one thing, A, whose series are those that fire, and fires for each of them, whatever it says.
Rules about GPUs ask what the nodes found, or, judged by the store, for what the recording rules of
rules/groups.py keep. Grafana evaluates them once a minute: what was found lies in the store for longer.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import yaml

from agent.alerts import alert_name
from agent.promql import span
from rules.definition import Rule
from rules.fleet import FleetRule
from rules.groups import BOOK, RUNBOOK_URL, SLOW_MS, Dumper, JudgedBy, labels_of, plain
from rules.promql import FAR
from rules.series import OPEN
from rules.words import condition_in_words, length_in_words

FOLDER = "gputally"
LONGEST_UID = 40
FIRES = "$A * 0 + 1"
"""Not 0, whatever the value of A: a threshold would keep quiet about some. NaN gives NaN, which fires too."""
BASE_MS = 10_000
"""Grafana evaluates at multiples of this only."""
SEEN_MS = 180_000
"""Nodes that push tell their findings every two minutes; what was told that long ago holds."""
_BACK_SECONDS = 600
HEAD = """\
# Made by gputally, for Grafana's folder provisioning/alerting; what is changed here is lost when it is made
# again.
"""
Entry = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rules that Grafana evaluates together, each as a file and the API have it alike."""

    name: str
    every_seconds: int
    rules: tuple[Entry, ...]


def groups(
    rules: Mapping[str, Rule],
    fleet: Iterable[FleetRule],
    interval_ms: int,
    source: str,
    *,
    runbook_url: str = RUNBOOK_URL,
    job: str = "gputally",
    judged_by: JudgedBy = "node",
) -> tuple[Group, ...]:
    """Make the rules about GPUs and those about the fleet, for the data source with the UID `source`.

    `interval_ms` lies between two samples of an agent.
    """
    about_gpus = [
        _Told(
            uid=_uid(rule.name),
            rule=rule,
            expr=_open(rule) if judged_by == "store" else _found(rule, interval_ms),
            summary=f"{{{{ $labels.node }}}} GPU {{{{ $labels.gpu }}}}: {_text(rule.summary)}",
            opens=_opens(rule),
        )
        for rule in rules.values()
        if rule.enabled and rule.about == "gpu"
    ]
    about_all = [
        _Told(
            uid=_uid(f"fleet-{one.name}"),
            rule=one,
            expr=one.expression(job),
            summary=_of_grafana(one.summary),
            for_seconds=one.for_seconds,
        )
        for one in fleet
    ]
    every = -(-max(SLOW_MS, interval_ms) // BASE_MS) * BASE_MS // 1000
    titles: set[str] = set()
    named = (("gputally", about_gpus), ("gputally_fleet", about_all))
    return tuple(
        Group(
            name=name,
            every_seconds=every,
            rules=tuple(_entry(one, source, runbook_url, titles) for one in told),
        )
        for name, told in named
        if told
    )


def unused(rules: Mapping[str, Rule]) -> tuple[str, ...]:
    """Give the UIDs of rules that are switched off: a file says of them that they are to go."""
    return tuple(_uid(one.name) for one in rules.values() if one.about == "gpu" and not one.enabled)


def file_of(several: Iterable[Group], gone: Iterable[str] = ()) -> str:
    """Give a file for Grafana's folder provisioning/alerting, as YAML; `gone` are UIDs that it deletes."""
    told: Entry = {"apiVersion": 1}
    told["groups"] = [
        {
            "orgId": 1,
            "name": one.name,
            "folder": FOLDER,
            "interval": span(one.every_seconds * 1000),
            "rules": list(one.rules),
        }
        for one in several
    ]
    if gone := tuple(gone):
        told["deleteRules"] = [{"orgId": 1, "uid": uid} for uid in gone]
    return HEAD + yaml.dump(told, Dumper=Dumper, sort_keys=False, width=100, allow_unicode=True)


def body_of(group: Group, folder: str) -> Entry:
    """Give what the API takes: PUT /api/v1/provisioning/folder/{folder}/rule-groups/{group.name}."""
    own = {"orgID": 1, "folderUID": folder, "ruleGroup": group.name}
    return {
        "title": group.name,
        "folderUid": folder,
        "interval": group.every_seconds,
        "rules": [{**one, **own} for one in group.rules],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What makes up an alert rule; `summary` is a template."""

    uid: str
    rule: Rule | FleetRule
    expr: str
    summary: str
    for_seconds: float = 0.0
    opens: str = ""


def _entry(told: _Told, source: str, runbook_url: str, titles: set[str]) -> Entry:
    title = alert_name(told.rule.name)
    if title in titles:  # a folder has no two rules of one title
        title = f"{title} ({told.uid})"
    titles.add(title)
    return {
        "uid": told.uid,
        "title": title,
        "condition": "B",
        "data": [_asked(told.expr, source), _firing()],
        "noDataState": "OK",
        "execErrState": "Error",
        "for": span(round(told.for_seconds * 1000)) or "0s",
        "annotations": _annotations(told, runbook_url),
        "labels": labels_of(told.rule),
        "isPaused": False,
    }


def _asked(expr: str, source: str) -> Entry:
    return {
        "refId": "A",
        "relativeTimeRange": {"from": _BACK_SECONDS, "to": 0},
        "datasourceUid": source,
        "model": {
            "refId": "A",
            "datasource": {"type": "prometheus", "uid": source},
            "editorMode": "code",
            "expr": expr,
            "instant": True,
            "range": False,
            "intervalMs": 1000,
            "maxDataPoints": 43200,
        },
    }


def _firing() -> Entry:
    return {
        "refId": "B",
        "relativeTimeRange": {"from": _BACK_SECONDS, "to": 0},
        "datasourceUid": "__expr__",
        "model": {
            "refId": "B",
            "datasource": {"type": "__expr__", "uid": "__expr__"},
            "type": "math",
            "expression": FIRES,
            "intervalMs": 1000,
            "maxDataPoints": 43200,
        },
    }


def _found(rule: Rule, interval_ms: int) -> str:
    """Ask for what nodes found; findings on GPUs that are not seen now stay for a while."""
    window = span(max(SEEN_MS, 2 * interval_ms))
    finding = f'gpu_finding{{rule="{rule.name}"}}'
    unseen = f"last_over_time({finding}[{FAR}]) unless on (uuid) last_over_time(gpu_up[{window}])"
    return f"last_over_time({finding}[{window}])\nor\n({unseen})"


def _open(rule: Rule) -> str:
    """Ask for what recording rules keep, of Prometheus and of vmalert alike."""
    return f"{OPEN}:{rule.name} > 0"


def _annotations(told: _Told, runbook_url: str) -> dict[str, str]:
    """Give what somebody who is woken reads: what to do stands in front of all else."""
    book = told.rule.runbook
    lines = {"What to do": book.action, "What it means": book.meaning, "It opens": told.opens}
    found = {
        "summary": told.summary,
        "description": "\n".join(f"{name}: {_text(text)}" for name, text in lines.items() if text),
    }
    rest = (key for key in BOOK if key not in ("action", "meaning"))
    found |= {key: _text(text) for key in rest if (text := getattr(book, key))}
    return found | {"runbook_url": f"{_text(runbook_url)}#{told.rule.name}"}


def _opens(rule: Rule) -> str:
    held = " and ".join(condition_in_words(one) for one in rule.when.values())
    return f"when, for {length_in_words(rule.for_seconds)}, {held}"


def _of_grafana(template: str) -> str:
    """Turn a template of Prometheus into Grafana's, where `$value` is a text about all values."""
    return re.sub(
        r"\{\{([^{}]*)\$value\b([^{}]*)\}\}",
        lambda found: f"{{{{ with $values.A }}}}{{{{{found[1]}.Value{found[2]}}}}}{{{{ end }}}}",
        template,
    )


def _text(text: str) -> str:
    """Keep a text from being read as a template, or as a variable of the environment when it is in a file."""
    return "".join(_pieces(plain(text)))


def _pieces(text: str) -> Iterator[str]:
    for piece in re.split(r"(\$(?=\{|__))", text):
        yield '{{ "$" }}' if piece == "$" else piece


def _uid(name: str) -> str:
    """Name a rule for good; what is too long ends with what tells it from others."""
    uid = f"gputally-{name}"
    if len(uid) <= LONGEST_UID:
        return uid
    digest = sha256(name.encode()).hexdigest()[:8]
    return f"{uid[: LONGEST_UID - 9]}-{digest}"
