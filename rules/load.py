"""Reads rules: those that are built in, and a file of the user that changes some of them or adds others.

A file is TOML, a table for each rule. What it says of a rule that is built in replaces that key and no other,
down to single figures: `[thermal_margin_low]` with `when.margin.at_most = 3` leaves all else as it is.
"""

import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from agent.errors import SettingsError
from agent.xid_catalogue import SEVERITIES, numbers_of
from rules.definition import Comparison, Condition, Rule, RuleError, Runbook

BUILT_IN = "builtin.toml"
LONGEST_BYTES = 1 << 20
_DURATION = re.compile(r"(\d{1,7}(?:\.\d{1,3})?)(s|m|h|d)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TEXTS = ("summary", "severity", "audience")
_LISTS = {"workloads": "workloads", "inhibited_by": "inhibited_by"}
_DURATIONS = {"for": "for_seconds", "clear_for": "clear_seconds"}
_RULE_KEYS = (*_TEXTS, *_LISTS, *_DURATIONS, "coverage", "enabled", "when", "runbook")
_CONDITION_KEYS = ("quantity", *Comparison, "times", "plus", "until", "over", "is", "xids")
_RUNBOOK_KEYS = tuple(Runbook.__dataclass_fields__)
Table = dict[str, Any]


def built_in() -> dict[str, Rule]:
    """Give the rules that are built in, by name."""
    text = files("rules").joinpath(BUILT_IN).read_text(encoding="utf-8")
    return _rules(_Source(BUILT_IN, text), {})


def load(path: Path | None) -> dict[str, Rule]:
    """Give all rules by name, with what a file changes. Raises SettingsError with file, line and key."""
    if path is None:
        return built_in()
    try:
        with path.open("rb") as file:
            text = file.read(LONGEST_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the rules {path}: {getattr(error, 'strerror', error)}") from error
    return _rules(_Source(str(path), text), _tables(_built_in_source()))


class _Source:
    """A text of rules, and where in it something is said."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text

    def wrong(self, rule: str, key: str, text: str) -> SettingsError:
        """Make an error that says file, line and key."""
        line = self._line(rule, key)
        place = f"{self.name}:{line}" if line else self.name
        return SettingsError(f"{place}: [{rule}] {key}: {text}")

    def _line(self, rule: str, key: str) -> int:
        """Find the line of a key below a rule's heading; that of the heading when it is not there."""
        last = key.rpartition(".")[2]
        at, found, inside = 0, 0, False
        for number, line in enumerate(self.text.splitlines(), 1):
            heading = re.match(r"\s*\[+\s*([A-Za-z0-9_\".-]+)", line)
            if heading:
                inside = heading[1].strip('"').partition(".")[0] == rule
                at = at or (number if inside else 0)
            elif inside and not found and re.match(rf"\s*[\w.\"]*\b{re.escape(last)}\b\"?\s*[=.]", line):
                found = number
        return found or at


def _built_in_source() -> _Source:
    return _Source(BUILT_IN, files("rules").joinpath(BUILT_IN).read_text(encoding="utf-8"))


def _tables(source: _Source) -> dict[str, Table]:
    try:
        told = tomllib.loads(source.text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{source.name} is no TOML: {error}") from error
    for name, table in told.items():
        if not isinstance(table, dict) or not _NAME.fullmatch(name):
            raise SettingsError(
                f"{source.name}: {name[:64]!r} must be a rule: [name_of_the_rule], lower case"
            )
    return told


def _rules(source: _Source, below: Mapping[str, Table]) -> dict[str, Rule]:
    told = _tables(source)
    merged: dict[str, Table] = {**below}
    for name, table in told.items():
        merged[name] = _merged(below.get(name, {}), table)
    rules = {name: _rule(source, name, table) for name, table in merged.items()}
    for name, rule in rules.items():
        for parent in rule.inhibited_by:
            if parent not in rules or parent == name:
                raise source.wrong(name, "inhibited_by", f"there is no other rule {parent!r}")
    return rules


def _merged(below: Table, above: Table) -> Table:
    """Put a table over another, key by key. A comparison takes the place of another one."""
    found = dict(below)
    if any(one in above for one in Comparison):
        for one in Comparison:
            found.pop(one, None)
    for key, value in above.items():
        under = found.get(key)
        found[key] = _merged(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return found


def _rule(source: _Source, name: str, table: Table) -> Rule:
    values: Table = {"name": name}
    try:
        _know("", table, _RULE_KEYS)
        for key in _TEXTS:
            if key in table:
                values[key] = _text(key, table[key])
        for key, place in _DURATIONS.items():
            if key in table:
                values[place] = duration_seconds(key, table[key])
        for key in _LISTS:
            if key in table:
                values[key] = _texts(key, table[key])
        if "coverage" in table:
            values["coverage_ratio"] = _number("coverage", table["coverage"])
        if "enabled" in table:
            values["enabled"] = _flag("enabled", table["enabled"])
        when = _table("when", table.get("when", {}))
        values["when"] = {one: _condition(f"when.{one}", _table(f"when.{one}", when[one])) for one in when}
        book = _table("runbook", table.get("runbook", {}))
        _know("runbook", book, _RUNBOOK_KEYS)
        values["runbook"] = Runbook(**{key: _text(f"runbook.{key}", book[key]) for key in book})
        return Rule(**values)
    except RuleError as wrong:
        raise source.wrong(name, wrong.key, str(wrong)) from wrong


def _condition(where: str, table: Table) -> Condition:
    _know(where, table, _CONDITION_KEYS)
    chosen: list[Comparison] = [key for key in Comparison if key in table]
    is_state = "is" in table
    if len(chosen) != (0 if is_state else 1):
        raise RuleError(where, f"wants exactly one of {', '.join(Comparison)}, or is = STATE")
    values: Table = {"quantity": _text(f"{where}.quantity", table.get("quantity", ""))}
    for one in chosen:
        limit = table[one]
        values["comparison"] = one
        values |= {"of": limit} if isinstance(limit, str) else {"number": _number(f"{where}.{one}", limit)}
    for key in ("times", "plus", "until"):
        if key in table:
            values[key] = _number(f"{where}.{key}", table[key])
    if "over" in table:
        values["over_seconds"] = duration_seconds(f"{where}.over", table["over"])
    if is_state:
        values["is_state"] = _text(f"{where}.is", table["is"])
    if "xids" in table:
        values["xids"] = _xids(f"{where}.xids", table["xids"])
    try:
        return Condition(**values)
    except RuleError as wrong:
        raise RuleError(f"{where}.{wrong.key}", str(wrong)) from wrong


def duration_seconds(key: str, value: object) -> float:
    """Read 90s, 15m, 2h or 7d. Raises RuleError."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise RuleError(key, f"{value!r} is no duration: write '90s', '15m', '2h' or '7d'")
    return float(found[1]) * _SECONDS[found[2]]


def _know(where: str, table: Table, known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            place = f"{where}.{key}" if where else key
            raise RuleError(place, f"unknown; known are {', '.join(known)}")


def _table(key: str, value: object) -> Table:
    if not isinstance(value, dict):
        raise RuleError(key, "must be a table")
    return value


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise RuleError(key, f"must be a text in quotes, not {value!r}")
    return value.strip()


def _texts(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise RuleError(key, 'must be a list like ["a", "b"]')
    return tuple(value)


def _xids(key: str, value: object) -> tuple[int, ...]:
    """Read numbers, or the severity of the catalogue whose numbers are meant."""
    if isinstance(value, str) and value in SEVERITIES:
        return numbers_of(value)
    if not isinstance(value, list) or not value or not all(type(one) is int for one in value):
        raise RuleError(key, f"must be a list like [48, 79], or one of {', '.join(SEVERITIES)}")
    return tuple(value)


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2.0**63:
        raise RuleError(key, f"must be a number, not {value!r}")
    return float(value)


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise RuleError(key, f"must be true or false, not {value!r}")
    return value
