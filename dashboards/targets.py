"""Questions as Grafana's data sources take them: PromQL to stores that speak it, InfluxQL to InfluxDB."""

import re
from typing import Any

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.outline import Language, Query

SOURCE = "datasource"
"""The variable by which the data source is chosen."""
TYPES: dict[Language, str] = {"promql": "prometheus", "influxql": "influxdb"}
Builder = Any
"""A builder of the SDK: those of panels have no common type."""


def source_of(language: Language) -> DataSourceRef:
    """Refer to the chosen data source."""
    return DataSourceRef(type_val=TYPES[language], uid=f"${{{SOURCE}}}")


def target(query: Query, ref: str, language: Language, *, as_table: bool) -> Builder:
    """Give what builds a question of a panel."""
    if language == "influxql":
        return As(_InfluxQL(query, ref, as_table=as_table))
    built = prometheus.Dataquery().expr(query.expr).legend_format(query.legend or "__auto").ref_id(ref)
    built.datasource(source_of(language))
    if query.instant:
        built.instant()
    else:
        built.range()
    if as_table:
        built.format(PromQueryFormat.TABLE)
    return built


class As:
    """A thing that is made already, where the SDK wants its maker: so it moves no panel elsewhere."""

    def __init__(self, made: object) -> None:
        self._made = made

    def build(self) -> Any:  # noqa: ANN401  whatever it is
        """Give it."""
        return self._made


class _InfluxQL(Dataquery):
    """A question to InfluxDB, for which the SDK has no type."""

    def __init__(self, query: Query, ref: str, *, as_table: bool) -> None:
        self._query, self._ref, self._as_table = query, ref, as_table

    def to_json(self) -> dict[str, object]:
        """Give it as Grafana's editor writes it."""
        told: dict[str, object] = {
            "refId": self._ref,
            "datasource": source_of("influxql"),
            "query": self._query.expr,
            "rawQuery": True,
            "resultFormat": "table" if self._as_table else "time_series",
        }
        if self._query.legend and not self._as_table:
            told["alias"] = re.sub(r"\{\{(\w+)\}\}", r"$tag_\1", self._query.legend)
        return told
