"""Rules that no node can judge by itself: what only who sees all nodes can know, as PromQL.

They stand in fleet.toml. `<job>` in an expression is put in when the rules are exported.
"""

import tomllib
from dataclasses import dataclass
from importlib.resources import files

from rules.definition import Audience, Runbook
from rules.load import duration_seconds

FLEET = "fleet.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRule:
    """One of them. The summary is a template of Prometheus, of `$labels` and `$value`."""

    name: str
    summary: str
    severity: str
    audience: Audience
    expr: str
    for_seconds: float
    runbook: Runbook

    def expression(self, job: str) -> str:
        """Give the PromQL, for agents that are scraped as `job`, a regular expression."""
        return self.expr.replace("<job>", job.replace("\\", "\\\\").replace('"', '\\"'))


def fleet_rules() -> tuple[FleetRule, ...]:
    """Give those that are shipped."""
    told = tomllib.loads(files("rules").joinpath(FLEET).read_text(encoding="utf-8"))
    return tuple(
        FleetRule(
            name=name,
            summary=one["summary"],
            severity=one["severity"],
            audience=one["audience"],
            expr=one["expr"].strip(),
            for_seconds=duration_seconds("for", one.get("for", "0s")),
            runbook=Runbook(**one["runbook"]),
        )
        for name, one in told.items()
    )
