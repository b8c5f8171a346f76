"""What a stand-in of Grafana keeps, and what it says to each question: as Grafana does, or stricter."""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from tests.dashboards.grafana_rules import NoError, check_rule, shape, shown

if TYPE_CHECKING:
    from tests.dashboards.grafana import Handler

Json = dict[str, Any]
ROLES = ("None", "Viewer", "Editor", "Admin")
_SOURCE = {
    **dict.fromkeys(("uid", "name", "type", "access", "url", "user", "database", "basicAuthUser"), str),
    **dict.fromkeys(("basicAuth", "withCredentials", "isDefault"), bool),
    **dict.fromkeys(("jsonData", "secureJsonData"), dict),
}
_OF_A_SOURCE: Json = {
    "user": "",
    "database": "",
    "basicAuth": False,
    "basicAuthUser": "",
    "withCredentials": False,
    "isDefault": False,
    "jsonData": {},
}
_UID = re.compile(r"[a-zA-Z0-9_-]+")


class Stand:
    """One Grafana. What is in it may be looked at and changed by a test; `troubles` answer in its place."""

    def __init__(self) -> None:
        self.version = "11.6.0"
        self.hides_version = False
        self.role = "Editor"
        self.prefix = ""
        self.all_read_sources = True
        self.has_alerting = True
        self.hides_what_is_not_there = True
        self.folders: dict[str, str] = {}
        self.sources: dict[str, Json] = {}
        self.boards: dict[str, Json] = {}
        self.rules: dict[str, Json] = {}
        self.intervals: dict[tuple[str, str], int] = {}
        self.provisioned: set[str] = set()
        self.of_plugins: set[str] = set()
        self.troubles: dict[str, Callable[[Handler], None]] = {}
        self.asked: list[str] = []
        self.strange: list[str] = []
        self.url = ""
        self.over = threading.Event()
        self._last_id = 0

    @property
    def writes(self) -> list[str]:
        """What was asked that is no question."""
        return [one for one in self.asked if not one.startswith("GET ")]

    def add_source(self, uid: str, kind: str = "prometheus", name: str = "", **more: object) -> None:
        """Have a data source from before."""
        told = {"uid": uid, "name": name or uid, "type": kind, "access": "proxy", "url": "http://x"}
        self.sources[uid] = {**_OF_A_SOURCE, **told, "id": self.next_id(), "readOnly": False, **more}

    def next_id(self) -> int:
        """Count on."""
        self._last_id += 1
        return self._last_id

    def health(self) -> Json:
        """Tell how it is, to everybody."""
        told = {"database": "ok", "commit": "abc"}
        return told if self.hides_version else {**told, "version": self.version}

    def folder(self, uid: str) -> Json:
        """Show a folder."""
        if uid not in self.folders:
            self._hide("folders:read")
            raise NoError(404, "folder not found", status="not-found")
        return {"id": 1, "uid": uid, "title": self.folders[uid], "url": f"/dashboards/f/{uid}", "version": 1}

    def _hide(self, action: str) -> None:
        """Forbid what is not there, as permissions on it cannot be found; those on all are enough."""
        if self.hides_what_is_not_there:
            self.allow("Admin", action)

    def make_folder(self, body: Json) -> Json:
        """Make one."""
        shape(body, {"title": str}, {"uid": str, "parentUid": str, "description": str})
        uid = body.get("uid") or f"made-{self.next_id()}"
        if uid in self.folders or body["title"] in self.folders.values():
            raise NoError(409, "a folder with the same uid or name in this location already exists")
        _check_uid(uid)
        self.folders[uid] = body["title"]
        return self.folder(uid)

    def list_sources(self) -> list[Json]:
        """Show all data sources."""
        self._may_read_sources()
        return list(self.sources.values())

    def source(self, uid: str) -> Json:
        """Show one."""
        self._may_read_sources()
        if uid not in self.sources:
            raise NoError(404, "Data source not found")
        return {**self.sources[uid], "secureJsonFields": {}, "version": 1, "orgId": 1, "typeLogoUrl": "x.svg"}

    def _may_read_sources(self) -> None:
        if not self.all_read_sources:
            self.allow("Admin", "datasources:read")

    def make_source(self, body: Json) -> Json:
        """Make one."""
        self.allow("Admin", "datasources:create")
        shape(body, {"name": str, "type": str, "access": str}, _SOURCE)
        if any(one["name"] == body["name"] for one in self.sources.values()):
            raise NoError(409, "data source with the same name already exists")
        if body["uid"] in self.sources:
            raise NoError(409, "data source with the same uid already exists")
        _check_uid(body["uid"])
        self.add_source(body["uid"])
        self.sources[body["uid"]] |= body
        return {"id": 1, "message": "Datasource added", "name": body["name"], "datasource": body}

    def change_source(self, uid: str, body: Json) -> Json:
        """Change one; what is not told is lost."""
        self.allow("Admin", "datasources:write")
        shape(body, {"name": str, "type": str, "access": str}, {**_SOURCE, "version": int})
        if self.source(uid)["readOnly"]:
            raise NoError(403, "Cannot update read-only data source")
        self.sources[uid] = {**_OF_A_SOURCE, **body, "id": self.sources[uid]["id"], "readOnly": False}
        return {"id": 1, "message": "Datasource updated", "name": body["name"], "datasource": body}

    def board(self, uid: str) -> Json:
        """Show a dashboard."""
        if uid not in self.boards:
            self._hide("dashboards:read")
            raise NoError(404, "Dashboard not found", status="not-found")
        one = self.boards[uid]
        meta = {"folderUid": one["folder"], "provisioned": uid in self.provisioned, "slug": "x", "version": 1}
        return {"dashboard": one["text"], "meta": meta}

    def write_board(self, body: Json) -> Json:
        """Make or change one."""
        more = {"message": str, "overwrite": bool, "folderId": int, "folderUid": str, "userId": int}
        shape(body, {"dashboard": dict}, more)
        text = deepcopy(body["dashboard"])
        uid = text.get("uid", "")
        _check_board(text)
        if body.get("folderUid") not in self.folders:
            raise NoError(400, "folder not found")
        if uid in self.provisioned:
            raise NoError(400, "Cannot save provisioned dashboard")
        if uid in self.of_plugins:
            raise NoError(412, "The dashboard belongs to plugin stackdriver.", status="plugin-dashboard")
        before = self.boards.get(uid)
        if text.get("id") is not None and (before is None or before["text"]["id"] != text["id"]):
            raise NoError(404, "Dashboard not found", status="not-found")
        version = before["text"]["version"] if before else 0
        if before and not body.get("overwrite") and text.get("version") != version:
            raise NoError(412, "The dashboard has been changed by someone else", status="version-mismatch")
        text |= {"version": version + 1, "id": before["text"]["id"] if before else self.next_id()}
        self.boards[uid] = {"text": text, "folder": body["folderUid"]}
        told = {"status": "success", "slug": "x", "url": f"/d/{uid}/x", "folderUid": body["folderUid"]}
        return {**told, "uid": uid, "id": text["id"], "version": text["version"]}

    def group(self, folder: str, name: str) -> Json:
        """Show a group of alert rules."""
        inside = [
            one for one in self.rules.values() if (one["folderUID"], one["ruleGroup"]) == (folder, name)
        ]
        if not inside:
            raise NoError(404, "rule group does not exist")
        every = self.intervals[folder, name]
        return {
            "title": name,
            "folderUid": folder,
            "interval": every,
            "rules": [shown(one) for one in inside],
        }

    def make_rule(self, body: Json) -> Json:
        """Make one rule; a group that is new is judged every minute."""
        self._check_rules([body], body.get("folderUID", ""))
        if body["uid"] in self.rules:
            raise NoError(409, "a conflicting alert rule is found: rule uid should be unique")
        self.intervals.setdefault((body["folderUID"], body["ruleGroup"]), 60)
        self.rules[body["uid"]] = {**deepcopy(body), "id": self.next_id(), "provenance": "api"}
        return shown(self.rules[body["uid"]])

    def write_group(self, folder: str, name: str, body: Json) -> Json:
        """Make a group what is told: what is not told of is deleted."""
        shape(body, {"title": str, "folderUid": str, "interval": int, "rules": list})
        if body["interval"] <= 0 or body["interval"] % 10:
            raise NoError(400, "invalid alert rule: interval should be non-zero and divided by 10 seconds")
        self._check_rules(body["rules"], folder)
        number = tuple(map(int, re.findall(r"\d+", self.version)[:3]))
        if number < (11, 5, 2) and any(one["uid"] not in self.rules for one in body["rules"]):
            raise NoError(500, "Internal Server Error")
        inside = {
            uid for uid, one in self.rules.items() if (one["folderUID"], one["ruleGroup"]) == (folder, name)
        }
        told = {one["uid"] for one in body["rules"]}
        if any(self.rules[uid]["provenance"] != "api" for uid in inside | told if uid in self.rules):
            raise NoError(500, "Internal Server Error")
        for uid in inside - told:
            del self.rules[uid]
        for one in body["rules"]:
            id_ = self.rules[one["uid"]]["id"] if one["uid"] in self.rules else self.next_id()
            own = {"folderUID": folder, "ruleGroup": name, "id": id_, "provenance": "api"}
            self.rules[one["uid"]] = {**deepcopy(one), **own}
        self.intervals[folder, name] = body["interval"]
        return body

    def _check_rules(self, rules: Sequence[Json], folder: str) -> None:
        if folder not in self.folders:
            raise NoError(400, "invalid alert rule: folder does not exist")
        titles = {uid: one["title"] for uid, one in self.rules.items() if one["folderUID"] == folder}
        for one in rules:
            check_rule(one, self.sources.keys())
            titles[one["uid"]] = one["title"]
        if len(set(titles.values())) != len(titles) or len({one["uid"] for one in rules}) != len(rules):
            raise NoError(400, "rule title under the same organisation and folder should be unique")

    def allow(self, role: str, action: str) -> None:
        """Let nobody do what takes a greater role."""
        if ROLES.index(self.role) < ROLES.index(role):
            text = f"You'll need additional permissions to perform this action. Permissions needed: {action}"
            raise NoError(403, text, title="Access denied", accessErrorId="ACE0000000001")


def _check_uid(uid: str) -> None:
    if len(uid) > 40:
        raise NoError(400, "uid too long, max 40 characters", is_strange=True)
    if not _UID.fullmatch(uid):
        raise NoError(400, "uid contains illegal characters", is_strange=True)


def _check_board(text: Json) -> None:
    if not str(text.get("title", "")).strip():
        raise NoError(400, "Dashboard title cannot be empty", is_strange=True)
    _check_uid(str(text.get("uid")))
    panels = text.get("panels")
    if not isinstance(panels, list) or not all(isinstance(one, dict) for one in panels):
        raise NoError(400, "bad request data", is_strange=True)
    if not isinstance(text.get("schemaVersion"), int):
        raise NoError(400, "bad request data", is_strange=True)


_WORD = r"([^/]+)"
_GROUP = rf"/api/v1/provisioning/folder/{_WORD}/rule-groups/{_WORD}"
ROUTES: Mapping[str, tuple[Callable[..., Any], str, str]] = {
    "GET /api/health": (Stand.health, "", ""),
    f"GET /api/folders/{_WORD}": (Stand.folder, "Viewer", "folders:read"),
    "POST /api/folders": (Stand.make_folder, "Editor", "folders:create"),
    "GET /api/datasources": (Stand.list_sources, "Viewer", "datasources:read"),
    f"GET /api/datasources/uid/{_WORD}": (Stand.source, "Viewer", "datasources:read"),
    "POST /api/datasources": (Stand.make_source, "Viewer", ""),
    f"PUT /api/datasources/uid/{_WORD}": (Stand.change_source, "Viewer", ""),
    f"GET /api/dashboards/uid/{_WORD}": (Stand.board, "Viewer", "dashboards:read"),
    "POST /api/dashboards/db": (Stand.write_board, "Editor", "dashboards:write"),
    f"GET {_GROUP}": (Stand.group, "Viewer", "alert.provisioning:read"),
    f"PUT {_GROUP}": (Stand.write_group, "Editor", "alert.provisioning:write"),
    "POST /api/v1/provisioning/alert-rules": (Stand.make_rule, "Editor", "alert.provisioning:write"),
}
"""What may be asked: who answers, and the role and permission that it takes."""
