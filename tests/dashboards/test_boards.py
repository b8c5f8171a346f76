"""Dashboards as files: fresh, known to Grafana's types, and by the habits that its linter asks for."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.build import RULES, boards, files
from dashboards.outline import WIDTH, Board, Config, Panel, Query
from dashboards.recorded import ALL
from exporters.catalogue import FAMILIES

FOLDER = Path(__file__).parents[2] / "dashboards" / "json"
CONFIGS = [Config(), Config(recorded=False), Config(pool_label="hall", cluster_label="site")]
BOARDS = [board for config in CONFIGS for board in boards(config)]
RECORDED = {one.name for one in ALL}
PLAIN_UNITS = {"none", "percentunit", "celsius", "watt", "watth", "hertz", "bytes", "Bps", "currencyUSD"} | {
    "s",
    "h",
    "short",
}
PLAIN_UNITS |= {"kwatth", "cps", "s", "dateTimeFromNow"}
_NAME = re.compile(r"\b(?:gpu_|gputally[_:])[a-z0-9_:]+")


def whole(config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the JSON of each dashboard."""
    for name, text in files(config).items():
        if name != RULES:
            yield name, json.loads(text)


def every_panel() -> list[tuple[Board, Panel]]:
    """Give all panels of all dashboards."""
    return [(board, panel) for board in BOARDS for panel in board.panels]


def test_the_files_are_fresh() -> None:
    """`gputally dashboards build --out dashboards/json` makes exactly what is there."""
    found = [path for path in FOLDER.iterdir() if path.is_file()]
    assert {path.name: path.read_text(encoding="utf-8") for path in found} == files(Config())


@pytest.mark.parametrize("config", CONFIGS)
def test_grafana_knows_all_of_it(config: Config) -> None:
    """Its own types read it and nothing is lost of panels, rows, variables and links."""
    for name, told in whole(config):
        read = Dashboard.from_json(told)
        assert read.uid == f"gputally-{name.removesuffix('.json')}"
        assert len(read.panels or []) == len(told["panels"])
        assert told["editable"] is False
        assert told["tags"] == ["gputally"]


def test_links_keep_time_and_choice() -> None:
    """Each dashboard leads to all others."""
    every = dict(whole(Config()))
    uids = {told["uid"] for told in every.values()}
    for told in every.values():
        others = [link for link in told["links"] if "?" not in link["url"]]
        assert {link["url"].removeprefix("/d/") for link in others} == uids - {told["uid"]}
        assert all(link["keepTime"] for link in others)
        assert all(link["includeVars"] for link in told["links"])


def test_the_planner_leads_to_the_week_of_the_report() -> None:
    """Grafana's words for the previous week, which begins on Monday as the report's does."""
    told = dict(whole(Config()))["planner.json"]
    (link,) = (link for link in told["links"] if "?" in link["url"])
    assert link["url"] == "/d/gputally-planner?from=now-1w%2Fw&to=now-1w%2Fw"
    assert (link["keepTime"], told["weekStart"]) == (False, "monday")


def test_nothing_lies_on_anything_else() -> None:
    """Each cell of the grid has at most one panel, and none is beyond its edge."""
    for name, told in whole(Config()):
        cells: Counter[tuple[int, int]] = Counter()
        for panel in told["panels"]:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= WIDTH, (name, panel["title"])
            cells.update(
                (x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
            )
        assert max(cells.values()) == 1, name


def test_panels_have_numbers_of_their_own() -> None:
    """Links to a panel go by its number."""
    for name, told in whole(Config()):
        numbers = [panel["id"] for panel in told["panels"]]
        assert len(numbers) == len(set(numbers)), name


def test_rows_are_full() -> None:
    """No panel hangs alone beside a hole: the widths of a row fill whole lines."""
    for board in BOARDS:
        for row in board.rows:
            assert sum(panel.width for panel in row.panels) % WIDTH == 0, (board.name, row.title)


@pytest.mark.parametrize(("board", "panel"), every_panel(), ids=lambda one: getattr(one, "title", ""))
def test_a_panel_says_what_it_shows(board: Board, panel: Panel) -> None:
    """Title, unit, and what a high or low value means; lines have names."""
    assert panel.title
    assert panel.unit in PLAIN_UNITS, board.name
    assert len(panel.says) > 25
    assert panel.says.endswith((".", ")."))
    assert panel.queries
    if panel.kind in ("timeseries", "state_timeline") and len(panel.queries) > 1:
        assert all(query.legend for query in panel.queries)
    if panel.kind == "table":
        assert panel.labels
        assert all(query.instant for query in panel.queries)


@pytest.mark.parametrize(("board", "panel"), every_panel(), ids=lambda one: getattr(one, "title", ""))
def test_names_are_in_the_catalogue(board: Board, panel: Panel) -> None:
    """Counters are rated, gauges are not, and what is recorded is defined."""
    for query in panel.queries:
        for name in _NAME.findall(query.expr):
            if ":" in name:
                assert name in RECORDED, board.name
                continue
            kind = FAMILIES[name].kind
            rated = re.search(rf"(rate|increase)\({name}\{{[^}}]*\}}\[", query.expr) is not None
            assert rated is (kind == "counter" and not is_total(panel, query, name)), query.expr


def is_total(panel: Panel, query: Query, name: str) -> bool:
    """Tell whether a counter is asked for as it stands: XIDs ever, ECC errors since the driver's start."""
    if name == "gpu_ecc_volatile_errors_total":
        return f'{name}{{kind="uncorrected"' in query.expr
    return query.instant and panel.title in ("XIDs", "Repeat offenders")


def test_all_of_a_large_fleet_is_asked_for_by_sums() -> None:
    """No drawing over time of the fleet asks for every GPU, if sums are recorded."""
    (fleet,) = (board for board in boards(Config()) if board.name == "fleet")
    for panel in fleet.panels:
        for query in panel.queries:
            if not query.instant:
                assert all(":" in name for name in _NAME.findall(query.expr)), panel.title


def test_recording_rules_are_what_a_store_reads() -> None:
    """One for each sum, by the labels of the site."""
    told = yaml.safe_load(files(Config(pool_label="hall"))[RULES])
    rules = [rule for group in told["groups"] for rule in group["rules"]]
    assert [group["interval"] for group in told["groups"]] == ["1m", "1h"]
    assert sorted(rule["record"] for rule in rules) == sorted(one.name for one in ALL)
    assert all("by (cluster, hall, model" in rule["expr"] for rule in rules)
    assert RULES not in files(Config(recorded=False))


def test_the_data_source_is_chosen_at_the_top() -> None:
    """Nothing names one."""
    for _, told in whole(Config()):
        text = json.dumps(told)
        assert set(re.findall(r'"uid": "\$\{(\w+)\}"', text)) == {"datasource"}
        first = told["templating"]["list"][0]
        assert (first["type"], first["query"], first["label"]) == ("datasource", "prometheus", "Data source")
        assert all(one["refresh"] == 2 for one in told["templating"]["list"][1:])


def test_columns_of_tables_have_units_of_their_own() -> None:
    """One for the whole table would make figures of names that read as numbers: GPU 4 would be 4 °C."""
    found = 0
    for _, told in whole(Config()):
        for panel in (panel for panel in told["panels"] if panel["type"] == "table"):
            assert panel["fieldConfig"]["defaults"]["unit"] == "string"
            steps = {step["id"]: step["options"] for step in panel["transformations"]}
            assert [*steps][-1] == "organize"
            if len(panel["targets"]) > 1:
                assert [*steps] == ["filterFieldsByName", "merge", "organize"]
                assert "(Time|" in steps["filterFieldsByName"]["include"]["pattern"], "frames merge by it"
                assert steps["organize"]["excludeByName"] == {"Time": True}
            overrides = {
                one["matcher"]["options"]: one["properties"] for one in panel["fieldConfig"]["overrides"]
            }
            for name, title in steps["organize"]["renameByName"].items():
                if name.startswith("Value"):
                    units = [one["value"] for one in overrides[title] if one["id"] == "unit"]
                    assert set(units) <= PLAIN_UNITS, panel["title"]
                    found += len(units)
    assert found > 60
