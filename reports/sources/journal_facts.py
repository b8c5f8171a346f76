"""What sections are made from besides the accounts, as a journal tells it, or the journals of several nodes.

Call it inside `reports.sums.snapshot`, if the journal may be written meanwhile.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from agent.hourly import THROTTLE_COLUMNS
from agent.restore import tenures_of
from agent.tally import HOUR_MS
from agent.tenures import Tenure as Kept
from agent.tick import State
from reports.facts import FREE_THROUGHOUT_MS, Facts, FreeHour, GpuFacts, HourSum, Life, Stay, Tenure
from reports.sections import Group
from reports.sources.edges import outside
from reports.sources.free_hours import counted
from reports.sums import FIGURES, Amounts, hours_of, identities
from reports.window import Window

_NO_GPUS = (
    "the journal has neither temperatures nor lowered clocks of this time: nothing told them, or a gputally "
    "wrote it that did not keep them by the hour"
)
_LATEST_READINGS = 20_000
_STATES = tuple(State)
T = TypeVar("T")
_Seat = tuple[str, str]


def facts(db: sqlite3.Connection, window: Window, *, pool_label: str = "pool") -> Facts:
    """Read all that a journal has of a window, but for weeks before it.

    Temperatures, lowered clocks and XIDs are of all hours that it touches.

    The pool of a node is its label of that name in the settings.
    """
    pools = _pools(db, pool_label)
    gpus = _gpus(db, window)
    return Facts(
        hours=_hours(db, window, pools),
        free=_free(db, window, pools),
        gpus=gpus,
        stays=_stays(db),
        lives=_lives(db),
        tenures=tuple(map(_tenure, _tenures(db, window))),
        pools=pools,
        memory_bytes=_memory(db),
        missing={} if gpus else {"gpus": _NO_GPUS},
        identities=identities(db),
        latest=_latest(db, window),
    )


def _pools(db: sqlite3.Connection, pool_label: str) -> dict[str, str]:
    """Give the pool of each node that is in one."""
    found = {}
    for name, text in db.execute("SELECT name, labels FROM node ORDER BY name"):
        pool = json.loads(text).get(pool_label)
        if pool:
            found[name] = str(pool)
    return found


def _hours(db: sqlite3.Connection, window: Window, pools: Mapping[str, str]) -> tuple[HourSum, ...]:
    """Sum the hourly accounts of each group by state; nodes are told apart only where some are in a pool."""
    node = "node.name" if pools else "''"
    sums = ", ".join(f"sum({name})" for name in FIGURES)
    rows = db.execute(
        f"""SELECT hour_ms, {node}, model, state, {sums}
            FROM account_hour JOIN gpu ON gpu.id = gpu_id JOIN node ON node.id = node_id
            WHERE hour_ms >= ? AND hour_ms < ? GROUP BY 1, 2, 3, 4""",
        hours_of(window),
    )
    found = [
        HourSum(hour_ms, Group(pools.get(name, ""), model), State(state), Amounts.of(amounts))
        for hour_ms, name, model, state, *amounts in rows
    ]
    if beyond := outside(db, window):
        models = {uuid: one.model for uuid, one in identities(db).items()}
        for one in beyond:
            group = Group(pools.get(one.node, ""), models[one.uuid])
            found.append(HourSum(one.hour_ms, group, one.state, Amounts() - one.amounts))
    return tuple(row for row in _summed(found) if row.amounts != Amounts())


def _free(db: sqlite3.Connection, window: Window, pools: Mapping[str, str]) -> tuple[FreeHour, ...]:
    """Count the GPUs of each node that were free throughout an hour."""
    rows = db.execute(
        """SELECT hour_ms, node.name, model, count(*)
           FROM account_hour JOIN gpu ON gpu.id = gpu_id JOIN node ON node.id = node_id
           WHERE hour_ms >= ? AND hour_ms < ? AND state = ? AND elapsed_ms >= ? GROUP BY 1, 2, 3""",
        (*hours_of(window), State.FREE, FREE_THROUGHOUT_MS),
    )
    return counted((hour_ms, Group(pools.get(name, ""), model), gpus) for hour_ms, name, model, gpus in rows)


def _gpus(db: sqlite3.Connection, window: Window) -> dict[_Seat, GpuFacts]:
    """Give what is known of each GPU in each node; XIDs of GPUs that nobody knows have no UUID."""
    throttles = ", ".join(f"sum({column})" for column in THROTTLE_COLUMNS.values())
    rows = db.execute(
        f"""SELECT uuid, node.name, sum(heat_lost_ms), max(temperature_max_celsius),
                   min(margin_least_celsius), max(memory_max_bytes), max(power_max_watts), {throttles}
            FROM gpu_hour JOIN gpu ON gpu.id = gpu_id JOIN node ON node.id = node_id
            WHERE hour_ms >= ? AND hour_ms < ? GROUP BY gpu_id, node_id ORDER BY 2, 1""",
        hours_of(window),
    )
    told = {(uuid, node): (figures, throttle) for uuid, node, *figures, throttle in map(_cut, rows)}
    xids = _xids(db, window)
    found = {}
    for seat in {**told, **xids}:
        (lost, hottest, margin, memory, watts), throttle = told.get(seat, ((None,) * 5, {}))
        found[seat] = GpuFacts(
            throttle_ms=throttle,
            heat_lost_ms=lost,
            temperature_max_celsius=hottest,
            margin_least_celsius=margin,
            memory_max_bytes=memory,
            power_max_watts=watts,
            xids=xids.get(seat, {}),
        )
    return found


def _cut(row: Sequence[Any]) -> tuple[Any, ...]:
    """Put the columns of lowered clocks that are known into one table."""
    first = len(row) - len(THROTTLE_COLUMNS)
    throttle = zip(THROTTLE_COLUMNS, row[first:], strict=True)
    return (*row[:first], {reason: ms for reason, ms in throttle if ms is not None})


def _xids(db: sqlite3.Connection, window: Window) -> dict[_Seat, dict[int, int]]:
    rows = db.execute(
        """SELECT uuid, node.name, number, sum(count) FROM xid_hour JOIN node ON node.id = node_id
           WHERE hour_ms >= ? AND hour_ms < ? GROUP BY 1, 2, 3 ORDER BY 2, 1, 3""",
        hours_of(window),
    )
    found: defaultdict[_Seat, dict[int, int]] = defaultdict(dict)
    for uuid, node, number, count in rows:
        found[uuid, node][number] = count
    return dict(found)


def _stays(db: sqlite3.Connection) -> tuple[Stay, ...]:
    rows = db.execute(
        """SELECT uuid, node.name, position, from_ms, to_ms FROM place
           JOIN gpu ON gpu.id = place.gpu_id JOIN node ON node.id = place.node_id ORDER BY uuid, from_ms"""
    )
    return tuple(map(Stay._make, rows))


def _lives(db: sqlite3.Connection) -> dict[str, Life]:
    """Sum up the lifetime accounts; of a GPU that left, its last place says up to when."""
    rows = db.execute(
        """SELECT uuid, max(coalesce((SELECT until_ms FROM timeline WHERE timeline.gpu_id = gpu.id), 0),
                            coalesce((SELECT max(to_ms) FROM place WHERE place.gpu_id = gpu.id), 0)),
                  sum(CASE WHEN state NOT IN (?, ?) THEN elapsed_ms ELSE 0 END),
                  sum(CASE WHEN state = ? THEN elapsed_ms ELSE 0 END)
           FROM account JOIN gpu ON gpu.id = account.gpu_id GROUP BY gpu.id ORDER BY uuid""",
        (State.UNKNOWN, State.DOWN, State.ACTIVE),
    )
    return {uuid: Life(*sums) for uuid, *sums in rows}


def _tenures(db: sqlite3.Connection, window: Window) -> Iterable[Kept]:
    """Read the tenures of which at least a part lies in the window."""
    return tenures_of(db, "tenure.start_ms < ? AND tenure.end_ms > ?", window.to_ms, window.from_ms)


def _tenure(one: Kept) -> Tenure:
    holder = one.holder
    return Tenure(
        kind=holder.kind,
        name=holder.name,
        owner=holder.owner,
        user=holder.user,
        node=one.node,
        start_ms=one.start_ms,
        end_ms=one.end_ms,
        gpus=tuple(sorted(one.gpus)),
        elapsed_ms={State(state): ms for state, ms in one.elapsed_ms.items()},
        activity_mean=one.activity_mean,
        activity_max=one.activity_max,
        memory_max_bytes=one.memory_max_bytes,
    )


def _memory(db: sqlite3.Connection) -> dict[str, float]:
    """Give the device memory of each model, as the latest readings tell it."""
    rows = db.execute(
        """SELECT model, memory_total_bytes
           FROM (SELECT gpu_id, memory_total_bytes, tick_id FROM reading ORDER BY tick_id DESC LIMIT ?)
           JOIN gpu ON gpu.id = gpu_id WHERE memory_total_bytes IS NOT NULL ORDER BY tick_id""",
        (_LATEST_READINGS,),
    )
    return dict(rows.fetchall())


def _latest(db: sqlite3.Connection, window: Window) -> dict[str, State]:
    """Tell what each GPU was in its last interval of the window, if that was within the last hour.

    Of parts that differ, the first in the order of states is told, as on the node's page. Ticks are not kept
    for as long as accounts: nothing is known of windows that are older.
    """
    end_ms = db.execute("SELECT max(end_ms) FROM tick WHERE end_ms <= ?", (window.to_ms,)).fetchone()[0]
    if end_ms is None or end_ms <= window.from_ms:
        return {}
    rows = db.execute(
        """WITH late AS (
               SELECT gpu_id, state, posting.start_ms FROM posting JOIN tick ON tick.id = tick_id
               WHERE tick.end_ms > ? AND tick.end_ms <= ? AND elapsed_ms > 0)
           SELECT DISTINCT uuid, state FROM late JOIN gpu ON gpu.id = gpu_id
           JOIN (SELECT gpu_id AS of_gpu, max(start_ms) AS last_ms FROM late GROUP BY 1)
           ON of_gpu = gpu_id AND last_ms = start_ms""",
        (end_ms - HOUR_MS, end_ms),
    )
    found: defaultdict[str, set[State]] = defaultdict(set)
    for uuid, state in rows:
        found[uuid].add(State(state))
    return {uuid: min(states, key=_STATES.index) for uuid, states in found.items()}


def merge(several: Sequence[Facts]) -> Facts:
    """Put the facts of journals of different nodes together; weeks before are not among them.

    A field counts as missing where none of them has it.
    """
    lives: dict[str, Life] = {}
    for uuid, life in _pairs(one.lives for one in several):
        known = lives.get(uuid, Life(0, 0, 0))
        lives[uuid] = Life(
            max(known.until_ms, life.until_ms),
            known.seen_ms + life.seen_ms,
            known.active_ms + life.active_ms,
        )
    gpus: dict[_Seat, GpuFacts] = {}
    for seat, gpu in _pairs(one.gpus for one in several):
        gpus[seat] = _both(gpus[seat], gpu) if seat in gpus else gpu
    return Facts(
        hours=_summed(row for one in several for row in one.hours),
        free=tuple(sorted(row for one in several for row in one.free)),
        gpus=gpus,
        stays=tuple(
            sorted((row for one in several for row in one.stays), key=lambda row: (row.uuid, row.from_ms))
        ),
        lives=lives,
        tenures=tuple(
            sorted((row for one in several for row in one.tenures), key=lambda row: (row.start_ms, row.name))
        ),
        pools=dict(_pairs(one.pools for one in several)),
        memory_bytes=dict(_pairs(one.memory_bytes for one in several)),
        missing={
            name: text
            for name, text in _pairs(one.missing for one in several)
            if all(name in one.missing for one in several)
        },
        identities=dict(_pairs(one.identities for one in several)),
        latest=_latest_of(several),
    )


def _pairs(tables: Iterable[Mapping[Any, Any]]) -> Iterable[tuple[Any, Any]]:
    return (pair for table in tables for pair in table.items())


def _summed(rows: Iterable[HourSum]) -> tuple[HourSum, ...]:
    totals: defaultdict[tuple[int, Group, State], Amounts] = defaultdict(Amounts)
    for row in rows:
        totals[row.hour_ms, row.group, row.state] += row.amounts
    return tuple(HourSum(*key, totals[key]) for key in sorted(totals))


def _both(one: GpuFacts, other: GpuFacts) -> GpuFacts:
    """Put two parts of a GPU's time in a node together; what one does not know is as the other has it."""
    lost = [told for told in (one.heat_lost_ms, other.heat_lost_ms) if told is not None]
    return GpuFacts(
        throttle_ms=_sums(one.throttle_ms, other.throttle_ms),
        heat_lost_ms=sum(lost) if lost else None,
        temperature_max_celsius=_most(one.temperature_max_celsius, other.temperature_max_celsius),
        margin_least_celsius=min(
            (told for told in (one.margin_least_celsius, other.margin_least_celsius) if told is not None),
            default=None,
        ),
        memory_max_bytes=_most(one.memory_max_bytes, other.memory_max_bytes),
        power_max_watts=_most(one.power_max_watts, other.power_max_watts),
        xids=_sums(one.xids, other.xids),
    )


def _sums(one: Mapping[T, int], other: Mapping[T, int]) -> dict[T, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _most(*values: float | None) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _latest_of(several: Sequence[Facts]) -> dict[str, State]:
    """Where several journals tell of a GPU, the one that accounts for it longest is right."""
    found: dict[str, tuple[int, State]] = {}
    for one in several:
        for uuid, state in one.latest.items():
            life = one.lives.get(uuid)
            told = life.until_ms if life else 0, state
            if uuid not in found or told[0] > found[uuid][0]:
                found[uuid] = told
    return {uuid: state for uuid, (_, state) in found.items()}
