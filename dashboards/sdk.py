"""Turns dashboards into Grafana's JSON by Grafana's own types. Needs grafana-foundation-sdk; decision 16."""

import json
from collections.abc import Iterable, Iterator
from urllib.parse import urlencode

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from dashboards.outline import WIDTH, Board, Event, Language, Panel, Row, Variable
from dashboards.panels import UID, built
from dashboards.targets import SOURCE, TYPES, As, Builder, source_of

TAG = "gputally"
MOST_TOLD = 200
"""So many annotations are drawn, the newest: more could not be told apart."""


def to_json(board: Board, others: Iterable[Board]) -> str:
    """Give the dashboard as Grafana imports it, with links to the others that keep time and choice."""
    whole = (
        Dashboard(board.title)
        .uid(UID + board.name)
        .description(board.says)
        .tags([TAG])
        .readonly()
        .refresh("1m")
        .time(board.since, "now")
        .timezone("utc")
        .week_start("monday")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .variables([_source(board.language), *(_variable(one, board.language) for one in board.variables)])
        .annotations([_told(), *map(_event, board.events)])
        .links([*_shortcuts(board), *(_link(other) for other in others if other.name != board.name)])
    )
    for number, (panel, place) in enumerate(_placed(board), 1):
        made = dashboard.Row(panel.title) if isinstance(panel, Row) else built(panel, board.language)
        whole.with_panel(As(made.id(number).grid_pos(place).build()))  # type: ignore[arg-type]
    told = JSONEncoder(sort_keys=True, indent=1).encode(whole.build())
    return json.dumps(json.loads(told), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _placed(board: Board) -> Iterator[tuple[Row | Panel, models.GridPos]]:
    """Lay out rows from above, and their panels from left to right in lines."""
    top = 0
    for row in board.rows:
        yield row, models.GridPos(h=1, w=WIDTH, x=0, y=top)
        top, left, height = top + 1, 0, 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                top, left, height = top + height, 0, 0
            yield panel, models.GridPos(h=panel.height, w=panel.width, x=left, y=top)
            left, height = left + panel.width, max(height, panel.height)
        top += height


def _source(language: Language) -> Builder:
    return dashboard.DatasourceVariable(SOURCE).label("Data source").type(TYPES[language])


def _variable(one: Variable, language: Language) -> Builder:
    asked: str | dict[str, object] = one.query
    if language == "promql":
        asked = {"query": one.query, "refId": f"variable-{one.name}"}
    made = (
        dashboard.QueryVariable(one.name)
        .label(one.label)
        .datasource(source_of(language))
        .query(asked)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.NATURAL_ASC)
        .multi(one.every)
        .include_all(one.every)
    )
    if one.every:
        made.all_value(".*").current(models.VariableOption(selected=True, text="All", value="$__all"))
    return made


def _told() -> Builder:
    """Show what was posted: findings, and reports that were made."""
    here = models.DataSourceRef(type_val="grafana", uid="-- Grafana --")
    target = models.AnnotationTarget(type_val="tags", tags=[TAG], limit=MOST_TOLD)
    built = dashboard.AnnotationQuery().name("Findings and reports").datasource(here).type("tags")
    return built.target(As(target)).icon_color("orange").enable(True)  # type: ignore[arg-type]


def _event(one: Event) -> Builder:
    built = (
        dashboard.AnnotationQuery()
        .name(one.name)
        .datasource(source_of("promql"))
        .expr(one.expr)
        .icon_color(one.colour)
    )
    return built.enable(True)


def _shortcuts(board: Board) -> Iterator[Builder]:
    for one in board.shortcuts:
        asked = urlencode({"from": one.since, "to": one.until})
        yield (
            dashboard.DashboardLink(one.title)
            .type(models.DashboardLinkType.LINK)
            .url(f"/d/{UID}{board.name}?{asked}")
            .tooltip(f"{board.title} from {one.since} to {one.until}")
            .include_vars(True)
        )


def _link(other: Board) -> Builder:
    title = other.title.rpartition("/ ")[2]
    return (
        dashboard.DashboardLink(title)
        .type(models.DashboardLinkType.LINK)
        .url(f"/d/{UID}{other.name}")
        .tooltip(other.says)
        .keep_time(True)
        .include_vars(True)
    )
