"""The report as JSON, for programs: the shape that the design promises under "Report as data".

Durations are seconds and energies joules, exact to three decimals, so that the states sum to the inventory as
printed; costs have six decimals. A value that is not known is null; there is no NaN. Everything but ASCII is
escaped.
"""

import json

from agent.tick import Finding
from reports.forms.data_sections import Json, cost_of, sections_of, window_of
from reports.money import Prices
from reports.outline import Decision, GpuLine, OwnerLine, Report, SpellLine, StateLine
from reports.sums import StateSums
from reports.window import rfc3339

SCHEMA_VERSION = 1


def to_json(report: Report) -> str:
    """Write a report as a JSON object, ended by a newline."""
    whole = report.sums.total
    content: Json = {
        "schema_version": SCHEMA_VERSION,
        "generated": rfc3339(report.made_ms),
        "unread": list(report.unread),
        "window": window_of(report.window),
        "covered": window_of(report.covered),
        "inventory": {
            "gpus": report.inventory.gpus,
            "gpu_seconds": report.inventory.gpu_ms / 1000,
            "cost": cost_of(report.inventory.cost),
        },
        "price_per_gpu_hour": report.price_per_gpu_hour,
        "prices": _prices(report.prices),
        "coverage_ratio": report.coverage_ratio,
        "identity_ok": report.identity_ok,
        "identity_violations": _violations(report),
        "busy_ratio_mean": report.busy_ratio_mean,
        "effective_ratio": report.effective_ratio._asdict(),
        "energy": {"joules": whole.joules, "seen_ratio": report.energy_seen_ratio},
        "states": {line.state.value: _state(line) for line in report.states},
        "owners": [_owner(line) for line in report.owners],
        "gpus": [_gpu(line) for line in report.gpus],
        "spells": [_spell(line) for line in report.spells],
        "findings": [_finding(finding) for finding in report.findings],
        "decisions": [_decision(decision) for decision in report.decisions],
        **sections_of(report),
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _prices(prices: Prices) -> Json:
    return {
        "currency": prices.currency or None,
        "default": prices.is_default,
        "note": prices.note,
        "rates": [
            {
                "pool": rate.group.pool,
                "model": rate.group.model,
                "from": rfc3339(rate.from_ms),
                "to": rfc3339(rate.to_ms),
                "gpu_seconds": rate.gpu_ms / 1000,
                "per_gpu_hour": cost_of(rate.per_gpu_hour),
            }
            for rate in prices.rates
        ],
    }


def _violations(report: Report) -> Json:
    return {
        "count": report.violation_count,
        "first": [
            {
                "uuid": row.uuid,
                "hour": rfc3339(row.hour_ms),
                "inventory_seconds": row.owed_ms / 1000,
                "states_seconds": row.entered_ms / 1000,
            }
            for row in report.violations
        ],
    }


def _state(line: StateLine) -> Json:
    return {
        "gpu_seconds": line.amounts.elapsed_ms / 1000,
        "joules": line.amounts.joules,
        "energy_seen_seconds": line.amounts.energy_seen_ms / 1000,
        "cost": cost_of(line.cost),
    }


def _by_state(sums: StateSums) -> Json:
    return {state.value: amounts.elapsed_ms / 1000 for state, amounts in sums.by_state.items()}


def _owner(line: OwnerLine) -> Json:
    return {
        "owner": line.owner,
        "gpu_seconds": line.sums.total.elapsed_ms / 1000,
        "states": _by_state(line.sums),
        "busy_ratio_mean": line.sums.total.busy_ratio_mean,
        "joules": line.sums.total.joules,
        "cost": cost_of(line.cost),
        "idle_cost": cost_of(line.idle_cost),
    }


def _gpu(line: GpuLine) -> Json:
    return {
        "uuid": line.uuid,
        "node": line.node,
        "index": line.index,
        "model": line.model,
        "serial": line.serial,
        "inventory_seconds": line.inventory_ms / 1000,
        "states": _by_state(line.sums),
        "coverage_ratio": line.coverage_ratio,
        "busy_ratio_mean": line.sums.total.busy_ratio_mean,
        "joules": line.sums.total.joules,
        "cost": cost_of(line.cost),
        "longest_spell_seconds": None if line.longest_spell_ms is None else line.longest_spell_ms / 1000,
    }


def _spell(line: SpellLine) -> Json:
    spell = line.spell
    return {
        "uuid": spell.uuid,
        "node": line.node,
        "index": line.index,
        "owner": spell.owner,
        "holder": spell.holder,
        "kind": spell.kind,
        "user": spell.user,
        "from": rfc3339(spell.start_ms),
        "to": rfc3339(spell.end_ms),
        "seen_seconds": spell.seen_ms / 1000,
        "beyond_patience_seconds": spell.beyond_ms / 1000,
        "ended": spell.ended,
    }


def _finding(finding: Finding) -> Json:
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "node": finding.node,
        "uuid": finding.uuid,
        "opened": rfc3339(finding.opened_ms),
        "closed": None if finding.closed_ms is None else rfc3339(finding.closed_ms),
        "summary": finding.summary,
        "action": finding.action,
    }


def _decision(decision: Decision) -> Json:
    return {
        "kind": decision.kind,
        "text": decision.text,
        "gpu_hours": round(decision.gpu_hours, 6),
        "cost": cost_of(decision.cost),
    }
