"""What Grafana takes as an alert rule, how it shows it, and when its expression fires."""

import ast
import math
import operator
import re
from collections.abc import Callable, Container, Mapping
from copy import deepcopy
from typing import Any

Json = dict[str, Any]
_UNITS_MS = {
    "y": 31_536_000_000,
    "w": 604_800_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_NEEDED = {
    **dict.fromkeys(
        ("title", "ruleGroup", "folderUID", "condition", "noDataState", "execErrState", "for"), str
    ),
    "data": list,
    "orgID": int,
}
_MORE = {"uid": str, "labels": dict, "annotations": dict, "isPaused": bool}
_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Mult: operator.mul,
    ast.Sub: operator.sub,
}


class NoError(Exception):
    """Grafana refuses; `is_strange` is what no sound client would ask."""

    def __init__(self, status_code: int, message: str, *, is_strange: bool = False, **more: str) -> None:
        super().__init__(message)
        self.status, self.is_strange = status_code, is_strange
        self.body = {"message": message, **more}


def shape(told: object, needed: Mapping[str, type], more: Mapping[str, type] | None = None) -> None:
    """See to keys and types. Raises NoError."""
    if not isinstance(told, dict):
        raise NoError(400, "bad request data", is_strange=True)
    known = {**needed, **(more or {})}
    wrong = [
        *(f"no {key}" for key in needed if key not in told or told[key] == ""),
        *(f"{key} is unknown" for key in told if key not in known),
        *(
            f"{key} is no {known[key].__name__}"
            for key in told
            if key in known and type(told[key]) is not known[key]
        ),
    ]
    if wrong:
        raise NoError(400, f"bad request data: {', '.join(wrong)}", is_strange=True)


def check_rule(rule: Json, sources: Container[str]) -> None:
    """Take a rule or not. Raises NoError."""
    shape(rule, _NEEDED, _MORE)
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", rule.get("uid", "")):
        raise NoError(400, "invalid alert rule: cannot create rule with UID", is_strange=True)
    if len(rule["title"]) > 190 or len(rule["ruleGroup"]) > 190:
        raise NoError(400, "invalid alert rule: name is too long", is_strange=True)
    if rule["noDataState"] not in ("Alerting", "NoData", "OK", "KeepLast"):
        raise NoError(400, "unknown NoData state option", is_strange=True)
    if rule["execErrState"] not in ("Alerting", "Error", "OK", "KeepLast"):
        raise NoError(400, "unknown Error state option", is_strange=True)
    duration_ms(rule["for"])
    for kind in ("labels", "annotations"):
        for key, text in rule.get(kind, {}).items():
            if not _LABEL.fullmatch(key) or type(text) is not str or not text:
                raise NoError(400, f"invalid alert rule: {kind}", is_strange=True)
    refs = [one.get("refId") for one in rule["data"]]
    if not refs or len(set(refs)) != len(refs) or rule["condition"] not in refs:
        raise NoError(400, "invalid alert rule: condition does not exist", is_strange=True)
    for query in rule["data"]:
        _check_query(query, refs, sources)


def _check_query(query: Json, refs: list[Any], sources: Container[str]) -> None:
    shape(
        query,
        {"refId": str, "relativeTimeRange": dict, "datasourceUid": str, "model": dict},
        {"queryType": str},
    )
    shape(query["relativeTimeRange"], {"from": int, "to": int})
    model = query["model"]
    source = {"uid": query["datasourceUid"], "type": "prometheus"}
    if query["datasourceUid"] == "__expr__":
        source["type"] = "__expr__"
        named = re.findall(r"\$\{?(\w+)", str(model.get("expression")))
        is_sound = model.get("type") == "math" and named and set(named) <= set(refs) - {query["refId"]}
    elif query["relativeTimeRange"]["from"] <= query["relativeTimeRange"]["to"]:
        raise NoError(400, "invalid alert rule: invalid relative time range", is_strange=True)
    elif query["datasourceUid"] not in sources:  # Grafana takes it, and it can never be judged
        raise NoError(400, f"there is no data source {query['datasourceUid']}", is_strange=True)
    else:
        is_sound = bool(model.get("expr")) and model.get("instant") is True and model.get("range") is False
    if not is_sound or model.get("refId") != query["refId"] or model.get("datasource") != source:
        raise NoError(400, "invalid alert rule: invalid alert query", is_strange=True)


def shown(rule: Json) -> Json:
    """Show a rule as Grafana does, with all that it adds."""
    told = deepcopy(rule)
    for query in told["data"]:
        query.setdefault("queryType", "")
        query["model"] = {"intervalMs": 1000, "maxDataPoints": 43200, **query["model"]}
    milliseconds = duration_ms(told["for"])
    added = {"keep_firing_for": "0s", "notification_settings": None, "record": None, "orgID": 7}
    return {**told, **added, "for": duration(milliseconds), "updated": "2026-11-24T00:00:00Z"}


def duration_ms(text: str) -> int:
    """Read a duration of Prometheus. Raises NoError."""
    pattern = "".join(rf"(?:(\d+){unit})?" for unit in _UNITS_MS)
    found = re.fullmatch(pattern, text)
    if not text or not found:
        raise NoError(400, f"not a valid duration string: {text!r}", is_strange=True)
    return sum(int(one or 0) * unit for one, unit in zip(found.groups(), _UNITS_MS.values(), strict=True))


def duration(milliseconds: int) -> str:
    """Write a duration as Go's library of Prometheus does: years and weeks only where they are whole."""
    if not milliseconds:
        return "0s"
    text = ""
    for unit, length in _UNITS_MS.items():
        if unit in ("y", "w") and milliseconds % length:
            continue
        times, milliseconds = divmod(milliseconds, length)
        text += f"{times}{unit}" if times else ""
    return text


def is_firing(rule: Json, value: float) -> bool:
    """Judge a value of A as Grafana does: a condition fires where it is not 0, also where it is no number."""
    (condition,) = (one for one in rule["data"] if one["refId"] == rule["condition"])
    tree = ast.parse(condition["model"]["expression"].replace("$A", "A"), mode="eval")
    return _worth(tree.body, value) != 0


def _worth(node: ast.expr, value: float) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.Name) and node.id == "A":
        return value
    assert isinstance(node, ast.BinOp), ast.dump(node)
    left, right = _worth(node.left, value), _worth(node.right, value)
    if math.isnan(left) or math.isnan(right):
        return math.nan
    return _OPERATORS[type(node.op)](left, right)
