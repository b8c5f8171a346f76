"""What is pushed into a Grafana, what a second time does, and what is said where it cannot be done."""

import json
import socket
import ssl
from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest

from agent.errors import SettingsError, StoreError
from gputally import grafana_answers
from gputally.alerting import STORE_UID
from gputally.grafana import Grafana
from gputally.grafana_push import Done, Wanted, push
from rules.fleet import fleet_rules
from rules.grafana import groups
from rules.load import built_in
from tests.dashboards.grafana import TOKEN, Trouble, cut, drip, grafana, saying, silent
from tests.dashboards.grafana_kept import Stand
from tests.stores import rude

STORE = "http://victoria:8428"
BOARDS = {
    f"{name}.json": json.dumps(
        {
            "uid": f"gputally-{name}",
            "title": f"gputally / {name}",
            "schemaVersion": 41,
            "panels": [{"id": 1, "title": "GPUs", "targets": [{"expr": "gpu_up"}]}],
        }
    )
    for name in ("fleet", "node")
}
ALERTS = partial(groups, built_in(), fleet_rules(), 10_000)
RULES = sum(len(one.rules) for one in ALERTS("x"))
Said = list[str]


@pytest.fixture
def stand() -> Iterator[Stand]:
    """Give an empty Grafana with a data source; nothing strange may be asked of it."""
    with grafana() as one:
        one.add_source("prom1")
        yield one
        assert one.strange == []


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """Give a file with the right token."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n", encoding="ascii")
    return path


def pushed(
    url: str, token: Path | None, said: Said, wanted: Wanted | None = None, *, dry_run: bool = False
) -> Done:
    """Push; what is told goes into `said`."""
    wanted = wanted or Wanted(dashboards=BOARDS, alerts=ALERTS)
    with Grafana(url, token_file=token) as one:
        return push(one, wanted, said.append, dry_run=dry_run)


def why_not(url: str, token: Path | None, wanted: Wanted | None = None) -> str:
    """Give the one sentence with which a push ends."""
    with pytest.raises(StoreError) as found:
        pushed(url, token, [], wanted)
    text = str(found.value)
    assert "\n" not in text
    assert text.isprintable()
    assert TOKEN not in text
    return text


def counts(done: Done) -> tuple[int, int, int, int]:
    """Give made, changed, unchanged, refused."""
    return done.made, done.changed, done.unchanged, len(done.refused)


def test_all_of_it_is_brought(stand: Stand, token: Path) -> None:
    """Folder, dashboards, and alert rules that ask the only data source there is."""
    said: Said = []
    assert counts(pushed(stand.url, token, said)) == (5, 0, 0, 0)
    assert stand.folders == {"gputally": "gputally"}
    assert {(uid, one["folder"]) for uid, one in stand.boards.items()} == {
        ("gputally-fleet", "gputally"),
        ("gputally-node", "gputally"),
    }
    assert len(stand.rules) == RULES
    assert stand.intervals == {("gputally", "gputally"): 60, ("gputally", "gputally_fleet"): 60}
    assert {one["data"][0]["datasourceUid"] for one in stand.rules.values()} == {"prom1"}
    assert said[:3] == [
        "made: folder gputally",
        "made: dashboard gputally / fleet",
        "made: dashboard gputally / node",
    ]


def test_a_second_time_nothing_is_written(stand: Stand, token: Path) -> None:
    """And it says so, whatever defaults Grafana added."""
    pushed(stand.url, token, [])
    before, written = deepcopy((stand.boards, stand.rules)), len(stand.writes)
    said: Said = []
    done = pushed(stand.url, token, said)
    assert counts(done) == (0, 0, 4, 0)
    assert (stand.boards, stand.rules) == before
    assert len(stand.writes) == written
    assert all(line.startswith("unchanged: ") for line in said)
    assert done.in_words(dry_run=False) == "nothing to do: all of it is as it should be"


def test_a_grafana_that_tells_what_is_not_there_will_do(stand: Stand, token: Path) -> None:
    """Others forbid it to all but Admins."""
    stand.hides_what_is_not_there = False
    assert counts(pushed(stand.url, token, [])) == (5, 0, 0, 0)
    assert counts(pushed(stand.url, token, [])) == (0, 0, 4, 0)


def test_a_dry_run_says_that_it_may_not_see_all(stand: Stand, token: Path) -> None:
    """An Editor is not told whether a dashboard is there that it may not read."""
    said: Said = []
    pushed(stand.url, token, said, dry_run=True)
    assert said.pop().startswith("Grafana shows only Admins what is not there")
    pushed(stand.url, token, [])
    pushed(stand.url, token, said, dry_run=True)
    assert not any("Admins" in line for line in said)


def test_a_dry_run_writes_nothing(stand: Stand, token: Path) -> None:
    """It only reads, and tells what it would make."""
    stand.role = "Admin"
    said: Said = []
    done = pushed(stand.url, token, said, dry_run=True)
    assert counts(done) == (5, 0, 0, 0)
    assert stand.writes == []
    assert (stand.folders, stand.boards, stand.rules) == ({}, {}, {})
    assert all(line.startswith("would make: ") for line in said)
    assert done.in_words(dry_run=True) == "would have made 5, changed 0, left 0 as they were"


def test_what_was_changed_by_hand_is_shown_and_brought_back(stand: Stand, token: Path) -> None:
    """First as a diff, then for real; the other dashboard is left alone."""
    pushed(stand.url, token, [])
    stand.boards["gputally-node"]["text"]["panels"][0]["title"] = "\x1b[31mmine"
    written = len(stand.writes)
    said: Said = []
    assert counts(pushed(stand.url, token, said, dry_run=True)) == (0, 1, 3, 0)
    assert len(stand.writes) == written
    diff = "\n".join(said)
    assert "--- node.json in Grafana\n+++ node.json as it should be\n" in diff
    assert '\n-   "title": "\\u001b[31mmine"\n+   "title": "GPUs"\n' in diff
    assert "\x1b" not in diff
    assert counts(pushed(stand.url, token, [])) == (0, 1, 3, 0)
    assert stand.writes[written:] == ["POST /api/dashboards/db"]
    assert stand.boards["gputally-node"]["text"]["panels"][0]["title"] == "GPUs"


def test_a_dashboard_that_was_moved_comes_back(stand: Stand, token: Path) -> None:
    """It is where it should be, or it is not as it should be."""
    pushed(stand.url, token, [])
    stand.folders["else"] = "Else"
    stand.boards["gputally-node"]["folder"] = "else"
    assert counts(pushed(stand.url, token, [])) == (0, 1, 3, 0)
    assert stand.boards["gputally-node"]["folder"] == "gputally"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("for", "1h"),
        ("title", "Other"),
        ("isPaused", True),
        ("labels", {"severity": "info"}),
        ("annotations", {}),
        ("noDataState", "Alerting"),
    ],
)
def test_an_alert_rule_that_was_changed_is_brought_back(
    stand: Stand, token: Path, key: str, value: object
) -> None:
    """One key of one rule is enough."""
    pushed(stand.url, token, [])
    rule = stand.rules["gputally-thermal_margin_low"]
    was, rule[key] = deepcopy(rule[key]), value
    said: Said = []
    assert counts(pushed(stand.url, token, said, dry_run=True)) == (0, 1, 3, 0)
    assert f'"{key}"' in "\n".join(said)
    assert counts(pushed(stand.url, token, [])) == (0, 1, 3, 0)
    assert stand.rules["gputally-thermal_margin_low"][key] == was
    assert counts(pushed(stand.url, token, [])) == (0, 0, 4, 0)


def test_a_rule_that_should_not_be_there_goes(stand: Stand, token: Path) -> None:
    """A group is what we say, no more; rules of other groups are none of our business."""
    pushed(stand.url, token, [])
    rule = stand.rules["gputally-gpu_down"]
    stand.rules["theirs"] = {**deepcopy(rule), "uid": "theirs", "title": "Theirs"}
    stand.rules["apart"] = {**deepcopy(rule), "uid": "apart", "title": "Apart", "ruleGroup": "apart"}
    stand.intervals["gputally", "apart"] = 60
    said: Said = []
    pushed(stand.url, token, said, dry_run=True)
    assert '-  "theirs": {' in said
    assert counts(pushed(stand.url, token, [])) == (0, 1, 3, 0)
    assert "theirs" not in stand.rules
    assert "apart" in stand.rules


@pytest.mark.parametrize("version", ["11.0.0", "11.5.1"])
def test_an_older_grafana_is_told_of_each_new_rule_by_itself(stand: Stand, token: Path, version: str) -> None:
    """It refuses groups with UIDs that it does not know; a second time changes nothing there as well."""
    stand.version = version
    assert counts(pushed(stand.url, token, [])) == (5, 0, 0, 0)
    assert stand.writes.count("POST /api/v1/provisioning/alert-rules") == RULES
    assert counts(pushed(stand.url, token, [])) == (0, 0, 4, 0)
    del stand.rules["gputally-gpu_down"]
    written = len(stand.writes)
    assert counts(pushed(stand.url, token, [])) == (0, 1, 3, 0)
    assert len(stand.writes) == written + 2
    assert len(stand.rules) == RULES


def test_a_grafana_that_hides_its_version_will_do(stand: Stand, token: Path) -> None:
    """The safe way is taken."""
    stand.hides_version = True
    assert counts(pushed(stand.url, token, [])) == (5, 0, 0, 0)
    assert len(stand.rules) == RULES


@pytest.mark.parametrize("version", ["13.1.0-98123", "11.6.0+security-01", "12.0.0"])
def test_newer_versions_will_do(stand: Stand, token: Path, version: str) -> None:
    """However they are written."""
    stand.version = version
    assert counts(pushed(stand.url, token, [])) == (5, 0, 0, 0)
    assert "POST /api/v1/provisioning/alert-rules" not in stand.writes


def test_a_path_before_the_api_is_kept(token: Path) -> None:
    """Many stand behind a proxy."""
    with grafana(prefix="/tools/grafana") as stand:
        stand.add_source("prom1")
        for slash in ("", "/"):
            pushed(stand.url + slash, token, [])
        assert len(stand.boards) == 2
        assert stand.strange == []


def test_without_alerts_no_data_source_is_looked_for(stand: Stand, token: Path) -> None:
    """Dashboards let their reader choose one."""
    assert counts(pushed(stand.url, token, [], Wanted(dashboards=BOARDS))) == (3, 0, 0, 0)
    assert not any("datasources" in one or "provisioning" in one for one in stand.asked)


# ---- Data sources


def test_a_store_becomes_the_data_source(stand: Stand, token: Path) -> None:
    """It is made, asked by the rules, and left alone the second time."""
    stand.role = "Admin"
    wanted = Wanted(dashboards=BOARDS, store=STORE, alerts=ALERTS)
    assert counts(pushed(stand.url, token, [], wanted)) == (6, 0, 0, 0)
    assert stand.sources[STORE_UID]["url"] == STORE
    assert {one["data"][0]["datasourceUid"] for one in stand.rules.values()} == {STORE_UID}
    assert counts(pushed(stand.url, token, [], wanted)) == (0, 0, 5, 0)


def test_what_others_set_on_the_data_source_stays(stand: Stand, token: Path) -> None:
    """Only the address is changed, and the diff says so."""
    stand.role = "Admin"
    stand.add_source(STORE_UID, name="gputally", jsonData={"timeInterval": "10s"}, isDefault=True)
    wanted = Wanted(dashboards={}, store=STORE)
    said: Said = []
    assert counts(pushed(stand.url, token, said, wanted, dry_run=True)) == (1, 1, 0, 0)
    assert ['-"url": "http://x"'.replace("-", "- "), f'+ "url": "{STORE}"'] == [
        line.rstrip(",") for line in said if '"url"' in line
    ]
    pushed(stand.url, token, [], wanted)
    kept = stand.sources[STORE_UID]
    assert (kept["url"], kept["jsonData"], kept["isDefault"]) == (STORE, {"timeInterval": "10s"}, True)


def test_a_data_source_that_is_named_is_asked(stand: Stand, token: Path) -> None:
    """Also where there are several."""
    stand.add_source("prom2")
    pushed(stand.url, token, [], Wanted(dashboards={}, source="prom2", alerts=ALERTS))
    assert {one["data"][0]["datasourceUid"] for one in stand.rules.values()} == {"prom2"}


def test_others_than_prometheus_are_not_asked(stand: Stand, token: Path) -> None:
    """They do not speak PromQL."""
    stand.add_source("loki", "loki")
    pushed(stand.url, token, [])
    assert {one["data"][0]["datasourceUid"] for one in stand.rules.values()} == {"prom1"}


def test_of_several_data_sources_none_is_guessed(stand: Stand, token: Path) -> None:
    """They are named without what terminals obey, and nothing is written."""
    stand.add_source("prom2", name="two\x1b[2J\nlines")
    text = why_not(stand.url, token)
    assert "--data-source-uid UID" in text
    assert "prom1 (prom1), prom2 (two?[2J?lines)" in text
    assert stand.writes == []


def test_without_any_data_source_it_is_said(stand: Stand, token: Path) -> None:
    """With all that may be done about it."""
    stand.sources.clear()
    text = why_not(stand.url, token)
    assert "--data-source URL" in text
    assert text.endswith("has: none")


def test_a_data_source_that_is_not_there_is_said(stand: Stand, token: Path) -> None:
    """Rules that can never be judged are not pushed."""
    text = why_not(stand.url, token, Wanted(dashboards=BOARDS, source="prom9", alerts=ALERTS))
    assert text.startswith("there is no data source prom9: ")
    assert text.endswith("has: prom1 (prom1)")
    assert stand.writes == []


def test_who_may_not_read_data_sources_names_one(stand: Stand, token: Path) -> None:
    """Editors of an Enterprise Grafana may write rules all the same."""
    stand.all_read_sources = False
    assert "datasources:read; or name the data source by --data-source-uid UID" in why_not(stand.url, token)
    assert stand.writes == []
    done = pushed(stand.url, token, [], Wanted(dashboards=BOARDS, source="prom1", alerts=ALERTS))
    assert counts(done) == (5, 0, 0, 0)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"name": "gputally"}, "something else has this name or UID"),
        ({"uid": STORE_UID, "readOnly": True}, "it came out of a file of Grafana's provisioning"),
    ],
)
def test_a_data_source_that_cannot_be_made_keeps_the_rules_waiting(
    stand: Stand, token: Path, more: dict[str, object], why: str
) -> None:
    """The dashboards come nonetheless."""
    stand.role = "Admin"
    stand.add_source(**{"uid": "theirs", **more})  # type: ignore[arg-type]
    said: Said = []
    done = pushed(stand.url, token, said, Wanted(dashboards=BOARDS, store=STORE, alerts=ALERTS))
    assert counts(done) == (3, 0, 0, 3)
    assert done.refused == ["data source", "alert rules gputally", "alert rules gputally_fleet"]
    assert why in "\n".join(said)
    assert stand.rules == {}


# ---- What one thing's trouble does to others


PLUGIN = {"status": "plugin-dashboard", "message": "The dashboard belongs to plugin stackdriver."}


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (
            saying(500, {"message": "Failed to save dashboard"}),
            "Failed to save dashboard; Grafana has trouble",
        ),
        (saying(503, b"<html>later</html>", "text/html"), "HTTP 503; Grafana has trouble of its own"),
        (saying(400, {"message": "Cannot save provisioned dashboard"}), "it came out of a file of Grafana's"),
        (saying(412, PLUGIN), "belongs to plugin stackdriver.; somebody else has changed it or has its name"),
        (
            saying(403, {"message": "Permissions needed: dashboards:write"}),
            "the role Editor, or the permissions",
        ),
        (saying(404, {"message": "Not found"}), "is it older than 11.0"),
        (saying(400, {"message": f"no\n\x1b[31m{TOKEN}"}), "no ?[31m***"),
        (saying(413, b""), "HTTP 413"),
    ],
)
def test_one_dashboard_that_fails_stops_no_other(
    stand: Stand, token: Path, trouble: Trouble, why: str
) -> None:
    """Everything else is brought, and the failure is named."""

    def of_node(handler: object) -> None:
        trouble(handler)  # type: ignore[arg-type]
        del stand.troubles["POST /api/dashboards/db"]

    stand.troubles["POST /api/dashboards/db"] = of_node
    said: Said = []
    done = pushed(stand.url, token, said)
    assert counts(done) == (4, 0, 0, 1)
    assert done.refused == ["dashboard gputally / fleet"]
    (failed,) = (line for line in said if line.startswith("failed: dashboard gputally / fleet: "))
    assert why in failed
    assert failed.isprintable()
    assert "gputally-node" in stand.boards
    assert len(stand.rules) == RULES


def test_a_dashboard_out_of_a_file_is_left_alone(stand: Stand, token: Path) -> None:
    """Grafana would refuse it; a dry run says so as well, and one that is equal needs nothing."""
    pushed(stand.url, token, [])
    stand.provisioned.add("gputally-node")
    assert counts(pushed(stand.url, token, [])) == (0, 0, 4, 0)
    stand.boards["gputally-node"]["text"]["title"] = "mine"
    for dry_run in (True, False):
        said: Said = []
        assert counts(pushed(stand.url, token, said, dry_run=dry_run)) == (0, 0, 3, 1)
        assert "it came out of a file of Grafana's provisioning" in "\n".join(said)


def test_rules_out_of_a_file_are_left_alone(stand: Stand, token: Path) -> None:
    """`gputally dashboards provision` was there first."""
    pushed(stand.url, token, [])
    stand.rules["gputally-gpu_down"] |= {"provenance": "file", "for": "1d"}
    said: Said = []
    assert counts(pushed(stand.url, token, said)) == (0, 0, 3, 1)
    assert "it came out of a file of Grafana's provisioning" in "\n".join(said)


def test_without_alerting_dashboards_come_all_the_same(stand: Stand, token: Path) -> None:
    """Somebody switched it off."""
    stand.has_alerting = False
    said: Said = []
    assert counts(pushed(stand.url, token, said)) == (3, 0, 0, 2)
    assert "is its alerting switched off" in "\n".join(said)


# ---- What stops all of it


def test_a_wrong_token_is_said(stand: Stand, tmp_path: Path) -> None:
    """With the file that it came out of, and no more of it."""
    wrong = tmp_path / "wrong"
    wrong.write_text("glsa_something_else", encoding="ascii")
    text = why_not(stand.url, wrong)
    assert "Invalid API key" in text
    assert f"the token in {wrong} is wrong or has expired" in text
    assert "glsa" not in text
    assert stand.writes == []


def test_no_token_is_said(stand: Stand) -> None:
    """With the option that names one."""
    assert "--token-file FILE" in why_not(stand.url, None)


def test_a_viewer_is_told_what_role_it_takes(stand: Stand, token: Path) -> None:
    """And the permissions, for those who give them one by one."""
    stand.role = "Viewer"
    text = why_not(stand.url, token)
    assert "refuses to make the folder" in text
    assert "the service account needs the role Editor, or the permissions folders:create" in text


def test_an_editor_is_told_who_makes_data_sources(stand: Stand, token: Path) -> None:
    """It takes an Admin."""
    said: Said = []
    done = pushed(stand.url, token, said, Wanted(dashboards={}, store=STORE))
    assert done.refused == ["data source"]
    assert "the service account needs the role Admin" in "\n".join(said)


def test_an_editor_who_may_write_no_rules_is_told(stand: Stand, token: Path) -> None:
    """The words `provisioning` in Grafana's own are no file of provisioning."""
    no = {"message": "Permissions needed: alert.provisioning:write"}
    stand.troubles["PUT .*"] = saying(403, no)
    said: Said = []
    assert len(pushed(stand.url, token, said).refused) == 2
    assert "the service account needs the role Editor, or Admin where that is not enough" in "\n".join(said)


def test_a_folder_that_cannot_be_made_stops_it(stand: Stand, token: Path) -> None:
    """Nothing else would find its place."""
    stand.folders["other"] = "gputally"
    assert "something else has this name or UID" in why_not(stand.url, token)


@pytest.mark.parametrize("version", ["10.4.2", "9.5.21", "8.0.0-beta1"])
def test_an_older_grafana_is_said(stand: Stand, token: Path, version: str) -> None:
    """With what may be done instead."""
    stand.version = version
    text = why_not(stand.url, token)
    assert f"is Grafana {version.split('-', maxsplit=1)[0]}, and 11.0 is the oldest that will do" in text
    assert "`gputally dashboards build`" in text
    assert stand.asked == ["GET /api/health"]


PAGE = b"<!doctype html><title>Welcome</title>"


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (saying(200, PAGE, "text/html"), "is no Grafana: /api/health answers something else"),
        (saying(200, {"status": "ok"}), "is no Grafana"),
        (saying(200, [1]), "is no Grafana"),
        (saying(200, b"hello"), "its answer is no JSON; is it the address of a Grafana"),
        (saying(200, b""), "its answer is no JSON"),
        (saying(200, b"[" * 100_000), "its answer is no JSON"),
        (saying(404, PAGE, "text/html"), "HTTP 404; is it older than 11.0"),
        (saying(302, b"", location="https://sso.example.org/login"), "sends us elsewhere"),
        (saying(503, {"database": "failing"}), "Grafana has trouble of its own"),
        (saying(200, {"database": "ok"}, "application/json; charset=no-such"), ""),
        (cut, "cannot be asked"),
    ],
)
def test_what_is_no_grafana_is_said(stand: Stand, token: Path, trouble: Trouble, why: str) -> None:
    """In one sentence, before anything is written."""
    stand.troubles["GET /api/health"] = trouble
    if not why:
        assert counts(pushed(stand.url, token, [])) == (5, 0, 0, 0)
        return
    assert why in why_not(stand.url, token)
    assert stand.writes == []


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("GET /api/folders/.*", [1]),
        ("GET /api/folders/.*", "yes"),
        ("GET /api/datasources", {"message": "none"}),
        ("GET /api/datasources", ["prom1"]),
        ("GET /api/dashboards/uid/.*", {"dashboard": [], "meta": {}}),
        ("GET /api/dashboards/uid/.*", {}),
        ("GET /api/v1/provisioning/.*", {"rules": {}}),
        ("GET /api/v1/provisioning/.*", {"rules": [1]}),
    ],
)
def test_answers_of_another_shape_are_said(stand: Stand, token: Path, path: str, told: object) -> None:
    """No traceback, whatever the server is."""
    stand.troubles[path] = saying(200, told)
    assert "does not answer as a Grafana does" in why_not(stand.url, token)


@pytest.mark.parametrize("trouble", [silent, drip])
def test_an_answer_that_never_ends_is_given_up(
    stand: Stand, token: Path, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the middle: nobody waits for the rest."""
    monkeypatch.setattr(grafana_answers, "SECONDS", 0.2)
    stand.troubles["POST /api/dashboards/db"] = trouble
    text = why_not(stand.url, token)
    assert "cannot take the dashboard" in text
    assert "timed out" in text or "has not ended after 0.4 seconds" in text
    assert "PUT" not in "".join(stand.writes)


def test_a_very_long_answer_is_given_up(stand: Stand, token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes are bounded."""
    monkeypatch.setattr(grafana_answers, "LONGEST_ANSWER", 1 << 20)
    stand.troubles["GET /api/datasources"] = saying(200, b" " * (1 << 21))
    assert "its answer is longer than 1 MiB" in why_not(stand.url, token)


def test_nobody_there_is_said(token: Path) -> None:
    """The port is closed."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert why_not(url, token).endswith(
            "Connection refused; does it run, and is it the address of a Grafana?"
        )


def test_no_redirect_is_followed(stand: Stand, token: Path) -> None:
    """Not even to itself: the token stays where it was meant to go."""
    stand.troubles["GET /api/folders/.*"] = saying(307, b"", location=f"{stand.url}/api/health?{TOKEN}")
    text = why_not(stand.url, token)
    assert "name the address it sends to" in text
    assert stand.asked[-1] == "GET /api/folders/gputally"


def test_neither_proxy_nor_netrc_of_the_environment_is_used(
    stand: Stand, token: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else learns of the token, and no other one takes its place."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n", encoding="ascii")
    monkeypatch.setenv("NETRC", str(netrc))
    assert counts(pushed(stand.url, token, [])) == (5, 0, 0, 0)


def test_a_certificate_is_verified(tmp_path: Path, token: Path) -> None:
    """Who signed it may be named."""
    context = rude._context(tmp_path, "own", 2)
    with grafana(context) as stand:
        url = stand.url.replace("127.0.0.1", "localhost")
        text = why_not(url, token)
        assert "certificate verify failed" in text
        assert text.endswith("name the file of who signed its certificate: --ca-file FILE")
        assert stand.asked == []
        stand.add_source("prom1")
        with Grafana(url, token_file=token, ca_file=tmp_path / "own.pem") as one:
            done = push(one, Wanted(dashboards=BOARDS, alerts=ALERTS), lambda _: None, dry_run=False)
        assert counts(done) == (5, 0, 0, 0)


def test_certificates_that_cannot_be_read_are_said(tmp_path: Path, token: Path) -> None:
    """Before anything is asked."""
    (tmp_path / "no.pem").write_text("nothing", encoding="ascii")
    for name in ("no.pem", "none.pem"):
        with pytest.raises(SettingsError, match="cannot read the certificates"):
            Grafana("https://localhost", token_file=token, ca_file=tmp_path / name)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("grafana.example.org", "must be an address such as https"),
        ("ftp://grafana.example.org", "must be an address such as https"),
        ("http://", "must be an address such as https"),
        ("http://x:0", "must be an address such as https"),
        ("http://x:99999", "must be an address such as https"),
        ("http://[x", "must be an address such as https"),
        ("http://x/?orgId=1", "must be an address such as https"),
        ("http://x/\x1b[2J", "must be an address such as https"),
        ("http://me:secret@x", "must hold no user and no password"),
        ("http://me@x", "must hold no user and no password"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(url: str, why: str) -> None:
    """Without repeating it: it may hold a password."""
    with pytest.raises(SettingsError) as found:
        Grafana(url)
    assert why in str(found.value)
    assert "secret" not in str(found.value)


def test_an_address_of_ipv6_is_understood() -> None:
    """Its brackets are kept."""
    with Grafana("http://[::1]:3000/x/") as one:
        assert one._api.client.url == "http://[::1]:3000/x/api"


@pytest.mark.parametrize(
    "text", [b"", b"two\nlines", b"\xff\xfe", "schlüssel".encode()], ids=["empty", "long", "binary", "umlaut"]
)
def test_a_token_is_one_line(tmp_path: Path, text: bytes) -> None:
    """A file that holds something else is refused without a word of it."""
    path = tmp_path / "token"
    path.write_bytes(text)
    with pytest.raises(SettingsError) as found:
        Grafana("http://x", token_file=path)
    assert str(path) in str(found.value)
    assert "lines" not in str(found.value)
    assert "schl" not in str(found.value)


def test_the_machine_itself_is_believed() -> None:
    """What signs for others of its programs signs for Grafana."""
    usual = ssl.get_default_verify_paths()
    with Grafana("https://localhost") as one:
        assert one._api.client.verify in (usual.cafile, usual.capath, True)
