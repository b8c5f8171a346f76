"""Reads rules: those that are built in, and a file of the user that changes some of them or adds others.

A file is TOML, a table for each rule. What it says of a rule that is built in replaces that key and no other,
down to single figures: `[thermal_margin_low]` with `when.margin.at_most = 3` leaves all else as it is.
Whatever a file holds, it is understood or refused with SettingsError: file, line, key and the choices.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from agent.errors import SettingsError
from agent.holders.names import printable
from agent.xid_catalogue import SEVERITIES, numbers_of
from rules.definition import LONGEST_NAME, Comparison, Condition, Rule, RuleError, Runbook, ancestors
from rules.source import Source

BUILT_IN = "builtin.toml"
LONGEST_BYTES = 1 << 20
LONGEST_TEXT = 4_000
MOST_CONDITIONS = 32
_DURATION = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,3})?)(s|m|h|d)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_NAME_FORM = "lower case letters, digits and _, a letter first, at most 64"
_TEXTS = ("summary", "about", "severity", "audience")
_LISTS = ("workloads", "inhibited_by")
_DURATIONS = {"for": "for_seconds", "clear_for": "clear_seconds"}
_RULE_KEYS = (*_TEXTS, *_LISTS, *_DURATIONS, "coverage", "enabled", "when", "runbook")
_OF_LIMIT = ("times", "plus", "until")
_CONDITION_KEYS = ("quantity", *Comparison, *_OF_LIMIT, "over", "is", "xids", "but_not")
_RUNBOOK_KEYS = tuple(Runbook.__dataclass_fields__)
Table = dict[str, Any]


def built_in() -> dict[str, Rule]:
    """Give the rules that are built in, by name."""
    return _rules(_built_in_source(), {})


def load(path: Path | None) -> dict[str, Rule]:
    """Give all rules by name, with what a file changes. Raises SettingsError with file, line and key."""
    if path is None:
        return built_in()
    return _rules(Source(str(path), _text_of(path)), _tables(_built_in_source()))


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            told = file.read(LONGEST_BYTES + 1)
        text = told.decode("utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a path that cannot be one
        raise SettingsError(f"cannot read the rules {path}: {getattr(error, 'strerror', error)}") from error
    if len(told) > LONGEST_BYTES:
        raise SettingsError(f"the rules {path} are longer than {LONGEST_BYTES >> 20} MiB")
    return text


def _built_in_source() -> Source:
    return Source(BUILT_IN, files("rules").joinpath(BUILT_IN).read_text(encoding="utf-8"))


def _tables(source: Source) -> dict[str, Table]:
    try:
        told = tomllib.loads(source.text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{source.name} is no TOML: {_short(str(error), 200)}") from error
    for name, table in told.items():
        if not isinstance(table, dict) or not _NAME.fullmatch(name):
            raise source.wrong(
                (name,), f"must be a rule: a table like [name_of_the_rule], of {_NAME_FORM}"
            ) from None
    return told


def _rules(source: Source, below: Mapping[str, Table]) -> dict[str, Rule]:
    merged: dict[str, Table] = {**below}
    for name, table in _tables(source).items():
        merged[name] = _merged(below.get(name, {}), table)
    rules = {name: _rule(source, name, table) for name, table in merged.items()}
    for name, rule in rules.items():
        for parent in rule.inhibited_by:
            if parent not in rules or parent == name:
                raise source.wrong(
                    (name, "inhibited_by"),
                    f"there is no other rule {_shown(parent)}: choose among {', '.join(sorted(rules))}",
                )
    try:
        ancestors(rules)
    except RuleError as wrong:
        first = str(wrong).rsplit(" < ", 1)[-1]
        raise source.wrong((first, wrong.key), str(wrong)) from None
    return rules


def _merged(below: Table, above: Table) -> Table:
    """Put a rule over another, key by key."""
    found = {**below, **above}
    for key, over in (("when", _merged_conditions), ("runbook", dict[str, Any].__or__)):
        under, value = below.get(key), above.get(key)
        if isinstance(under, dict) and isinstance(value, dict):
            found[key] = over(under, value)
    return found


def _merged_conditions(below: Table, above: Table) -> Table:
    found = {**below, **above}
    for name in below.keys() & above.keys():
        if isinstance(below[name], dict) and isinstance(above[name], dict):
            found[name] = _merged_condition(below[name], above[name])
    return found


def _merged_condition(below: Table, above: Table) -> Table:
    """Put a condition over another. A comparison takes the place of another one.

    Where a number takes the place of a quantity, or the other way round, what went with the old limit goes.
    """
    kept = dict(below)
    chosen = [key for key in Comparison if key in above]
    if chosen:
        before = [kept.pop(key) for key in Comparison if key in kept]
        if before and isinstance(before[0], str) != isinstance(above[chosen[0]], str):
            for key in _OF_LIMIT:
                kept.pop(key, None)
    return kept | above


def _rule(source: Source, name: str, table: Table) -> Rule:
    try:
        _know("", table, _RULE_KEYS)
        return Rule(name=name, **_values(table))
    except RuleError as wrong:
        raise source.wrong((name, *wrong.key.split(".")), str(wrong)) from wrong


def _values(table: Table) -> Table:
    values: Table = {"summary": ""}
    values |= {key: _text(key, table[key]) for key in _TEXTS if key in table}
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
    values["when"] = _conditions(_table("when", table.get("when", {})))
    book = _table("runbook", table.get("runbook", {}))
    _know("runbook", book, _RUNBOOK_KEYS)
    values["runbook"] = Runbook(**{key: _text(f"runbook.{key}", book[key]) for key in book})
    return values


def _conditions(when: Table) -> dict[str, Condition]:
    if len(when) > MOST_CONDITIONS:
        raise RuleError("when", f"has more than {MOST_CONDITIONS} conditions")
    for name in when:
        if not _NAME.fullmatch(name):
            raise RuleError("when", f"{_shown(name)} is no name of a condition: {_NAME_FORM}")
    return {name: _condition(f"when.{name}", _table(f"when.{name}", when[name])) for name in when}


def _condition(where: str, table: Table) -> Condition:
    _know(where, table, _CONDITION_KEYS)
    chosen: list[Comparison] = [key for key in Comparison if key in table]
    is_state = "is" in table
    if len(chosen) != (0 if is_state else 1):
        raise RuleError(where, f"wants exactly one of {', '.join(Comparison)}, or is = STATE")
    values: Table = {"quantity": _word(f"{where}.quantity", table.get("quantity", ""))}
    for one in chosen:
        limit, key = table[one], f"{where}.{one}"
        values["comparison"] = one
        values |= {"of": _word(key, limit)} if isinstance(limit, str) else {"number": _number(key, limit)}
    for key in _OF_LIMIT:
        if key in table:
            values[key] = _number(f"{where}.{key}", table[key])
    if "over" in table:
        values["over_seconds"] = duration_seconds(f"{where}.over", table["over"])
    if is_state:
        values["is_state"] = _word(f"{where}.is", table["is"])
    if "xids" in table:
        values["xids"] = _xids(f"{where}.xids", table["xids"])
    if "but_not" in table:
        spared = _numbers(f"{where}.but_not", table["but_not"], "must be a list like [45, 154]")
        values["xids"] = tuple(one for one in values.get("xids", ()) if one not in spared)
    try:
        return Condition(**values)
    except RuleError as wrong:
        raise RuleError(f"{where}.{wrong.key}", str(wrong)) from wrong


def duration_seconds(key: str, value: object) -> float:
    """Read 90s, 15m, 2h or 7d. Raises RuleError."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise RuleError(key, f"{_shown(value)} is no duration: write '90s', '15m', '2h' or '7d'")
    return float(found[1]) * _SECONDS[found[2]]


def _know(where: str, table: Table, known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            raise RuleError(f"{where}.{key}" if where else key, f"unknown; known are {', '.join(known)}")


def _table(key: str, value: object) -> Table:
    if not isinstance(value, dict):
        raise RuleError(key, f"must be a table, not {_shown(value)}")
    return value


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise RuleError(
            key, f"must be a text in quotes of at most {LONGEST_TEXT} characters, not {_shown(value)}"
        )
    return value.strip()


def _word(key: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        raise RuleError(key, f"must be a name in quotes, not {_shown(value)}")
    return value


def _texts(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise RuleError(key, f'must be a list like ["a", "b"], not {_shown(value)}')
    return tuple(value)


def _xids(key: str, value: object) -> tuple[int, ...]:
    """Read numbers, or the severity of the catalogue whose numbers are meant."""
    if isinstance(value, str) and value in SEVERITIES:
        return numbers_of(value)
    return _numbers(key, value, f"must be a list like [48, 79], or one of {', '.join(SEVERITIES)}")


def _numbers(key: str, value: object, text: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or not all(type(one) is int for one in value):
        raise RuleError(key, text)
    return tuple(value)


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2.0**63:
        raise RuleError(key, f"must be a number, not {_shown(value)}")
    return float(value)


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise RuleError(key, f"must be true or false, not {_shown(value)}")
    return value


_KINDS = {dict: "a table", list: "a list", int: "a number far too large"}


def _shown(value: object) -> str:
    """Show what somebody wrote, briefly: Python writes neither very deep tables nor very long numbers."""
    if isinstance(value, dict | list) or (type(value) is int and abs(value) >= 1 << 63):
        return _KINDS[type(value)]
    return repr(_short(value, LONGEST_NAME)) if isinstance(value, str) else str(value)


def _short(text: str, longest: int) -> str:
    return printable(text, longest) + ("..." if len(text) > longest else "")
