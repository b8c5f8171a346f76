"""Brings folder, data source, dashboards and alert rules of a Grafana to what they should be.

What is as it should be is left alone, so that a second time changes nothing. One thing that Grafana refuses
does not keep the others from being brought.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import unified_diff
from functools import partial
from typing import Any, NamedTuple

from agent.errors import StoreError
from agent.holders.names import printable
from gputally.alerting import STORE_UID
from gputally.grafana import READER, Grafana, Json, RefusedError
from gputally.grafana_answers import PROVISIONED
from rules.grafana import FOLDER, Group, body_of

_OF_GRAFANA = ("id", "version", "iteration")
"""What Grafana itself writes into a dashboard."""
_OF_A_SOURCE = (
    *("uid", "name", "type", "access", "url", "user", "database", "basicAuth", "basicAuthUser"),
    *("withCredentials", "isDefault", "jsonData"),
)
"""What Grafana takes of a data source when it is changed: what is not told would be lost."""
_MOST_SOURCES = 10
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What should be there: dashboards as JSON by file, the address of a store, and alert rules.

    `alerts` makes the rules for the UID of a data source. With `store` that is the one made here, else
    `source`, else the only one of the Grafana that speaks PromQL.
    """

    dashboards: Mapping[str, str]
    store: str = ""
    source: str = ""
    alerts: Callable[[str], Sequence[Group]] | None = None


@dataclass(slots=True)
class Done:
    """How many things were made, changed (or would be), left as they were, and refused."""

    made: int = 0
    changed: int = 0
    unchanged: int = 0
    refused: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many things there are."""
        return self.made + self.changed + self.unchanged + len(self.refused)

    def in_words(self, *, dry_run: bool) -> str:
        """Say it, where all went well."""
        if not self.made and not self.changed:
            return "nothing to do: all of it is as it should be"
        would = "would have " if dry_run else ""
        return f"{would}made {self.made}, changed {self.changed}, left {self.unchanged} as they were"


class _Thing(NamedTuple):
    """One thing of a Grafana; what is there and what should be are what both are compared by."""

    name: str
    file: str
    there: Json | None
    wanted: Json
    write: Callable[[], None]
    foreign: bool = False


def push(grafana: Grafana, wanted: Wanted, say: Say, *, dry_run: bool) -> Done:
    """Bring all of it; tell of each thing. Raises StoreError where no more can be done."""
    grafana.greet()
    alerts = wanted.alerts(_source_of(grafana, wanted)) if wanted.alerts else ()
    work = _Work(grafana, say, Done(), dry_run=dry_run)
    is_there = work.folder()
    if wanted.store:
        work.bring("data source", partial(_data_source, grafana, wanted.store))
    has_source = not work.done.refused
    for file, text in wanted.dashboards.items():
        told = json.loads(text)
        work.bring(f"dashboard {told['title']}", partial(_dashboard, grafana, file, told))
    for group in alerts:
        if has_source:
            work.bring(f"alert rules {group.name}", partial(_rule_group, grafana, group, is_there=is_there))
        else:
            work.refuse(f"alert rules {group.name}", "they wait for their data source")
    if dry_run and grafana.has_hidden:
        say(
            "Grafana shows only Admins what is not there: what would be made may be there, and hidden from us"
        )
    return work.done


@dataclass(frozen=True, slots=True)
class _Work:
    grafana: Grafana
    say: Say
    done: Done
    dry_run: bool = field(kw_only=True)

    def folder(self) -> bool:
        """Make the folder: without it nothing else can be brought. Tell whether it is there now."""
        if self.grafana.has_folder(FOLDER):
            return True
        if not self.dry_run:
            self.grafana.make_folder(FOLDER, FOLDER)
        self.done.made += 1
        self.say(f"{'would make' if self.dry_run else 'made'}: folder {FOLDER}")
        return not self.dry_run

    def bring(self, name: str, look: Callable[[], _Thing]) -> None:
        """Bring one thing to what it should be."""
        try:
            self._bring(look())
        except RefusedError as error:
            self.refuse(name, str(error))

    def refuse(self, name: str, why: str) -> None:
        """Tell that something was not brought."""
        self.done.refused.append(name)
        self.say(f"failed: {name}: {why}")

    def _bring(self, thing: _Thing) -> None:
        if thing.there == thing.wanted:
            self.done.unchanged += 1
            self.say(f"unchanged: {thing.name}")
            return
        if thing.foreign:
            raise RefusedError(f"it differs from what it should be; {PROVISIONED}")
        if not self.dry_run:
            thing.write()
        if thing.there is None:
            self.done.made += 1
        else:
            self.done.changed += 1
        verbs = ("would make", "would change") if self.dry_run else ("made", "changed")
        self.say(f"{verbs[thing.there is not None]}: {thing.name}")
        for line in _difference(thing) if self.dry_run else ():
            self.say(line)


def _source_of(grafana: Grafana, wanted: Wanted) -> str:
    """Find the data source that alert rules ask."""
    if wanted.store:
        return STORE_UID
    if wanted.source:
        try:
            found = grafana.data_source(wanted.source, READER)
        except RefusedError:  # who may write rules need not be allowed to read it
            return wanted.source
        if found is not None:
            return wanted.source
    several = [one for one in grafana.data_sources() if one.get("type") == "prometheus"]
    if len(several) == 1 and not wanted.source:
        return str(several[0].get("uid"))
    names = ", ".join(_named(one) for one in several[:_MOST_SOURCES]) or "none"
    what = f"there is no data source {wanted.source}" if wanted.source else "whom should alert rules ask?"
    raise StoreError(
        f"{what}: name one by --data-source-uid UID, make one by --data-source URL, or leave alerts out by"
        f" --no-alerts; of the type prometheus {grafana.url} has: {names}"
    )


def _named(source: Json) -> str:
    return printable(f"{source.get('uid')} ({source.get('name')})", 100)


def _data_source(grafana: Grafana, store: str) -> _Thing:
    wanted = {"uid": STORE_UID, "name": FOLDER, "type": "prometheus", "access": "proxy", "url": store}
    found = grafana.data_source(STORE_UID)
    kept = {key: found[key] for key in _OF_A_SOURCE if key in found} if found else {}
    return _Thing(
        name=f"data source {FOLDER}",
        file="datasource",
        there=None if found is None else _seen(found, wanted),
        wanted=wanted,
        write=lambda: grafana.write_data_source({**kept, **wanted}, is_new=found is None),
        foreign=bool(found and found.get("readOnly")),
    )


def _dashboard(grafana: Grafana, file: str, wanted: Json) -> _Thing:
    found = grafana.dashboard(wanted["uid"])
    there = None
    if found is not None:
        there = {**_bare(found["dashboard"]), "folder": found["meta"].get("folderUid")}
    return _Thing(
        name=f"dashboard {wanted['title']}",
        file=file,
        there=there,
        wanted={**_bare(wanted), "folder": FOLDER},
        write=lambda: grafana.write_dashboard(wanted, FOLDER),
        foreign=bool(found and found["meta"].get("provisioned")),
    )


def _bare(dashboard: Json) -> Json:
    return {name: value for name, value in dashboard.items() if name not in _OF_GRAFANA}


def _rule_group(grafana: Grafana, group: Group, *, is_there: bool) -> _Thing:
    body = body_of(group, FOLDER)
    found = grafana.rule_group(FOLDER, group.name) if is_there else None
    rules = {str(one.get("uid")): one for one in (found or {}).get("rules", ())}
    ours = {one["uid"]: one for one in group.rules}
    there = None
    if found is not None:
        seen = {uid: _seen(rule, ours.get(uid, {"title": ""})) for uid, rule in rules.items()}
        there = {"interval": found.get("interval"), "rules": seen}
    return _Thing(
        name=f"{len(ours)} alert rules {group.name}",
        file=f"alerts/{group.name}",
        there=there,
        wanted={"interval": group.every_seconds, "rules": ours},
        write=lambda: grafana.write_rule_group(body, frozenset(rules)),
        foreign=any(one.get("provenance") == "file" for one in rules.values()),
    )


def _seen(there: Any, wanted: Any) -> Any:  # noqa: ANN401  whatever JSON holds
    """Give what is there as far as we say what it should be: Grafana adds defaults of its own."""
    if isinstance(there, dict) and isinstance(wanted, dict):
        return {key: _seen(there[key], value) for key, value in wanted.items() if key in there}
    if isinstance(there, list) and isinstance(wanted, list) and len(there) == len(wanted):
        return [_seen(one, other) for one, other in zip(there, wanted, strict=True)]
    return there


def _difference(thing: _Thing) -> Iterator[str]:
    """Tell what differs, as a diff; a thing that is new has none."""
    if thing.there is None:
        return iter(())
    before, after = (
        json.dumps(one, indent=1, sort_keys=True).splitlines() for one in (thing.there, thing.wanted)
    )
    names = f"{thing.file} in Grafana", f"{thing.file} as it should be"
    return unified_diff(before, after, *names, lineterm="", n=2)
