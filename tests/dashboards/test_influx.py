"""Fleet, Node and GPU asked in InfluxQL, on a real InfluxDB: nothing fails, and figures are true."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from agent.tally import HOUR_MS
from dashboards.build import RULES, boards, files
from dashboards.outline import Board, Config, Panel, Query
from exporters import line_protocol
from exporters.catalogue import FAMILIES
from tests.dashboards.filled import Filled, made, panel_of
from tests.stores.influx import Answer, Influx, influx

CONFIG = Config(language="influxql")
BOARDS = boards(CONFIG)
LATE_MS = 30_000
"""People look some time after an interval ended."""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """Two nodes of eight and four GPUs."""
    return made(tmp_path_factory.mktemp("nodes"))


@pytest.fixture(scope="module")
def server(filled: Filled) -> Iterator[Influx]:
    """Start an InfluxDB with what they pushed."""
    with influx() as one:
        for first in range(0, len(filled.rows), 2000):
            one.write_lines(line_protocol.encode(filled.rows[first : first + 2000])).good()
        yield one


def asked(server: Influx, text: str, filled: Filled, chosen: Mapping[str, str] | None = None) -> list[Answer]:
    """Ask as Grafana does: for the hour that ends a little after the last interval."""
    to_ms = filled.end_ms + LATE_MS
    told = {"node": "n1", "uuid": filled.uuid, **(chosen or {})}
    text = text.replace("$timeFilter", f"time >= {to_ms - HOUR_MS}ms AND time <= {to_ms}ms")
    text = text.replace("${__to}", str(to_ms)).replace("$__interval", "1m")
    text = re.sub(r"\$(\w+)", lambda found: told.get(found[1], ".*"), text)
    assert not re.search(r"\$[\w{]", text)
    return server.query(text)


def rows(
    server: Influx, query: Query, filled: Filled, *by: str, **chosen: str
) -> dict[tuple[str, ...], float]:
    """Give the newest figure of each series, by tags or by columns."""
    found = {}
    for series in asked(server, query.expr, filled, chosen):
        for row in series["values"]:
            told = dict(zip(series["columns"], row, strict=True)) | series.get("tags", {})
            if told["value"] is not None:
                found[tuple(str(told[name]) for name in by)] = float(told["value"])
    return found


def query_of(board: str, title: str) -> Query:
    """Give the only question of a panel."""
    (query,) = panel_of(next(one for one in BOARDS if one.name == f"influx-{board}"), title).queries
    return query


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_every_question_is_answered(server: Influx, filled: Filled, board: Board) -> None:
    """Those that are quiet while nothing is wrong may be empty; all else has something to show."""
    empty = [
        (panel.title, query.expr)
        for panel in board.panels
        for query in panel.queries
        if not asked(server, query.expr, filled) and not panel.quiet
    ]
    assert empty == []


@pytest.mark.parametrize(
    ("title", "gpus"),
    [("GPUs", 12.0), ("Silent", 0.0), ("Accounted for", 1.0), ("Down", 0.0)],
)
def test_all_gpus_are_there(server: Influx, filled: Filled, title: str, gpus: float) -> None:
    """Twelve, none silent, none down."""
    assert rows(server, query_of("fleet", title), filled) == {(): pytest.approx(gpus)}


def test_a_gpu_that_fell_silent_is_counted(server: Influx, filled: Filled) -> None:
    """Those of one node, ten minutes after it told the last; if all are silent there is no figure at all."""
    query = query_of("fleet", "Silent")
    of_day, then, of_now = query.expr.partition("), (SELECT")
    gone = of_day + then + of_now.replace('"cluster"', '"node" = \'n1\' AND "cluster"')
    assert rows(server, Query(gone), filled) == {(): 4.0}
    later = Filled(filled.rows, filled.end_ms + HOUR_MS // 2)
    assert rows(server, query, later) == {}


def test_states_are_what_the_accounts_grew_by(server: Influx, filled: Filled) -> None:
    """By state over the last whole span, and all of them make up the fleet; idle ones by owner as well."""
    told = rows(server, query_of("fleet", "GPUs by state"), filled, "state")
    true = grown(filled, "state")
    assert {state: told[state,] for state in true} == pytest.approx(true, abs=1e-6)
    assert sum(told.values()) == pytest.approx(12.0)
    idle = rows(server, query_of("fleet", "Held idle"), filled)
    assert idle == {(): pytest.approx(true["held_idle"])}
    assert rows(server, query_of("fleet", "Idle money per hour"), filled)[()] == pytest.approx(idle[()] * 2.5)
    owners = rows(server, query_of("fleet", "Idle GPUs by owner now"), filled, "owner")
    assert sum(owners.values()) == pytest.approx(idle[()])
    assert owners == {
        (owner,): pytest.approx(gpus) for owner, gpus in grown(filled, "owner", "held_idle").items()
    }


def grown(filled: Filled, label: str, state: str = "") -> dict[str, float]:
    """Give by label by how many GPUs' worth accounts grew between the last values of the last two spans."""
    to_ms = filled.end_ms + LATE_MS
    ends = (to_ms - 1, to_ms - 300_001)
    now, before = (filled.until("tally_seconds_total", end_ms) for end_ms in ends)
    found: dict[str, float] = {}
    for labels, (_, value) in now.items():
        told = dict(labels)
        gain = value - before.get(labels, (0, value))[1]
        if gain and state in ("", told["state"]):
            name = told.get(label, "")
            found[name] = found.get(name, 0.0) + gain / 300
    return found


def test_power_margin_and_memory_are_those_of_the_gpus(server: Influx, filled: Filled) -> None:
    """The least margin now; power and memory over the last span."""
    margins = filled.latest("temperature_margin_celsius")
    assert rows(server, query_of("fleet", "Least margin"), filled) == {
        (): pytest.approx(min(margins.values()))
    }
    told = rows(server, query_of("fleet", "Nearest to their limits"), filled, "uuid")
    assert told == {(dict(labels)["uuid"],): pytest.approx(value) for labels, value in margins.items()}
    power = rows(server, query_of("fleet", "Power"), filled, "model")
    watts: dict[str, list[float]] = {}
    for row in filled.rows:
        if row.at_ms > filled.end_ms + LATE_MS - 300_000:
            for name, value in row.fields:
                if name == "power_watts":
                    watts.setdefault(dict(row.labels)["model"], []).append(value)
    gpus = {"NVIDIA H200": 8, "NVIDIA H100 80GB HBM3": 4}
    assert power == {
        (model,): pytest.approx(sum(some) / len(some) * gpus[model]) for model, some in watts.items()
    }


def test_a_part_of_the_fleet_is_a_part(server: Influx, filled: Filled) -> None:
    """By pool and by model."""
    query = query_of("fleet", "GPUs")
    assert rows(server, query, filled, pool="train") == {(): 8.0}
    assert rows(server, query, filled, pool="(train|serve)") == {(): 12.0}
    assert rows(server, query, filled, model="NVIDIA H100 80GB HBM3") == {(): 4.0}


def test_what_is_wrong_is_shown(server: Influx, filled: Filled) -> None:
    """The finding and the XIDs of the first GPU, on its own page and on those of its node and the fleet."""
    for board in ("fleet", "gpu"):
        told = rows(server, query_of(board, "Findings that are open"), filled, "rule", "severity")
        assert told == {("thermal_margin_low", "warning"): 1.0}
    assert rows(server, query_of("node", "Findings that are open"), filled) == {(): 1.0}
    assert rows(server, query_of("gpu", "XIDs"), filled, "xid", "node") == {("79", "n1"): 2.0}
    assert rows(server, query_of("node", "XIDs"), filled, "gpu", "xid") == {("0", "79"): 1.0}
    assert len(rows(server, query_of("node", "Driver"), filled, "uuid")) == 8


def test_fields_are_in_the_catalogue() -> None:
    """Counters are told by how they grow, gauges are not."""
    for board in BOARDS:
        for panel in board.panels:
            for query in panel.queries:
                for before, field in re.findall(r'(\w+)\("([a-z_0-9]+)"\)', query.expr):
                    if before in ("sum", "count", "top", "bottom") or field in ("value", "day", "now"):
                        continue
                    kind = FAMILIES[f"gpu_{field}"].kind
                    rated = re.search(rf'(derivative|difference)\(last\("{field}"\)', query.expr) is not None
                    ever = panel.title == "XIDs" and query.instant
                    assert rated is (kind == "counter" and not ever), (board.name, query.expr)


def test_variables_are_answered(server: Influx, filled: Filled) -> None:
    """Each has the values that the nodes tell."""
    wanted = {"cluster": {"c1"}, "pool": {"train", "serve"}, "node": {"n1", "n2"}}
    for board in BOARDS:
        for variable in board.variables:
            (answer,) = asked(server, variable.query, filled)
            told = {row[1] for row in answer["values"]}
            assert told == wanted.get(variable.name, told)
            assert len(told) == {"uuid": 12, "model": 2}.get(variable.name, len(told))


def test_the_panels_are_those_of_the_others() -> None:
    """By title, unit, width and place; the JSON asks an InfluxDB and leads to its own dashboards."""

    def outline(board: Board) -> list[tuple[str, int, int]]:
        return [(panel.title, panel.width, panel.height) for panel in board.panels]

    others = {board.name: board for board in boards(Config())}
    for board in BOARDS:
        assert outline(board) == outline(others[board.name.removeprefix("influx-")])
    made_files = files(CONFIG)
    assert RULES not in made_files
    for text in made_files.values():
        told = json.loads(text)
        assert told["templating"]["list"][0]["query"] == "influxdb"
        assert all(link["url"].startswith("/d/gputally-influx-") for link in told["links"])
        targets = [target for panel in told["panels"] for target in panel.get("targets", ())]
        assert {target["datasource"]["type"] for target in targets} == {"influxdb"}
        assert all(target["rawQuery"] is True and "expr" not in target for target in targets)


def test_the_files_are_fresh() -> None:
    """`gputally dashboards build --language influxql --out dashboards/json/influxql` makes what is there."""
    folder = Path(__file__).parents[2] / "dashboards" / "json" / "influxql"
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} == files(CONFIG)


def test_an_alias_names_tags() -> None:
    """As Grafana's InfluxQL has it."""
    (node,) = (json.loads(text) for name, text in files(CONFIG).items() if name == "influx-node.json")
    busy = next(panel for panel in node["panels"] if panel["title"] == "Busy")
    assert busy["targets"][0]["alias"] == "GPU $tag_gpu"


def every_panel() -> list[tuple[Board, Panel]]:
    """Give all panels."""
    return [(board, panel) for board in BOARDS for panel in board.panels]


@pytest.mark.parametrize(("board", "panel"), every_panel(), ids=lambda one: getattr(one, "title", ""))
def test_a_panel_says_what_it_shows(board: Board, panel: Panel) -> None:
    """A sentence, a unit and a name for each line."""
    assert len(panel.says) > 25, board.name
    assert panel.says.endswith((".", ")."))
    assert panel.unit
    if panel.kind == "timeseries" and len(panel.queries) > 1:
        assert all(query.legend for query in panel.queries)
