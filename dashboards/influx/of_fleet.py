"""The questions of the Fleet dashboard in InfluxQL, by the title of their panel."""

from collections.abc import Mapping
from typing import Any

from agent.tick import State
from dashboards.influx.asking import (
    LATEST,
    Account,
    drawn_sum,
    grew,
    grown,
    latest,
    now,
    of_group,
    ratio,
    seen,
    share,
)
from dashboards.outline import Config, Query

SECONDS, BUSY = "tally_seconds_total", "tally_busy_seconds_total"
_HELD = (State.ACTIVE, State.HELD_GAP, State.HELD_IDLE, State.SERVICE)
_GPU = ("node", "gpu", "model", "uuid")
_COLUMNS = ", ".join(f'"{tag}"' for tag in _GPU)


def panels(config: Config) -> Mapping[str, Mapping[str, Any]]:
    """Give what of each panel is another."""
    return _now(config) | _over_time(config) | _tables(config)


def _of(config: Config, *states: State, but: bool = False) -> str:
    among = "|".join(states)
    return f'{of_group(config)} AND "state"::tag {"!~" if but else "=~"} /^({among})$/'


def _one(text: str) -> dict[str, Any]:
    return {"queries": (Query(text, instant=True),)}


def _now(config: Config) -> dict[str, dict[str, Any]]:
    group = of_group(config)
    idle = _of(config, State.HELD_IDLE)
    every = Account(SECONDS, group, ("state", "owner"))
    known = Account(SECONDS, _of(config, State.UNKNOWN, State.DOWN, but=True), ("state", "owner"))
    day, latest_ones = seen(group, "1d", "day"), seen(group, "5m", "now")
    return {
        "GPUs": _one(f'SELECT count("now") AS "value" FROM ({latest_ones})'),
        "Silent": _one(f'SELECT count("day") - count("now") AS "value" FROM ({day}), ({latest_ones})'),
        "Accounted for": _one(ratio(known, every, over_time=False))
        | {
            "says": "Share of the GPUs that are heard of for which it is known what they do; the Silent ones "
            "are not counted. Below 98 % the figures here are in doubt."
        },
        "Busy": _one(ratio(Account(BUSY, group, ("owner",)), every, over_time=False)),
        "Held idle": _one(grew(SECONDS, idle, (), ("state", "owner"))),
        "Idle money per hour": _one(
            grew(SECONDS, idle, (), ("state", "owner"), times=f" * {config.price:g}")
        ),
        "Down": _one(grew(SECONDS, _of(config, State.DOWN), (), ("state", "owner"))),
        "Least margin": _one(now("temperature_margin_celsius", group, "min")),
    }


def _over_time(config: Config) -> dict[str, dict[str, Any]]:
    group = of_group(config)
    every = Account(SECONDS, group, ("state", "owner"))
    busy = Account(BUSY, group, ("owner",))
    held = Account(SECONDS, _of(config, *_HELD), ("state", "owner"))
    in_use = share("memory_used_bytes", "memory_total_bytes", group)
    free = _of(config, State.FREE)
    return {
        "GPUs by state": {"queries": (Query(grown(SECONDS, group, ("state",), ("owner",)), "{{state}}"),)},
        "Held, busy, and memory": {
            "queries": (
                Query(ratio(held, every), "held"),
                Query(ratio(busy, every), "busy"),
                Query(in_use, "memory in use"),
            )
        },
        "Power": {"queries": (Query(drawn_sum("power_watts", group, ("model",)), "{{model}}"),)},
        "Busy by model": {"queries": (Query(ratio(busy, every, ("model",)), "{{model}}"),)},
        "Free by pool": {
            "queries": (
                Query(grown(SECONDS, free, (config.pool_label,), ("state",)), f"{{{{{config.pool_label}}}}}"),
            )
        },
    }


def _tables(config: Config) -> dict[str, dict[str, Any]]:
    group = of_group(config)
    idle = _of(config, State.HELD_IDLE)
    by_owner = grew(SECONDS, idle, ("owner",), ("state",))
    hottest = latest("temperature_margin_celsius", group, _GPU)
    return {
        "Who holds GPUs idle": {
            "queries": (Query(grown(SECONDS, idle, ("owner",), ("state",), beyond="0"), "{{owner}}"),)
        },
        "Idle GPUs by owner now": _one(
            f'SELECT top("value", 20) AS "value", "owner" FROM ({by_owner}) WHERE "value" > 0'
        ),
        "Findings that are open": _one(latest("finding", group, ("severity", "rule", *_GPU))),
        "Nearest to their limits": _one(
            f'SELECT bottom("value", 20) AS "value", {_COLUMNS} FROM ({hottest}) WHERE {LATEST}'
        ),
    }
