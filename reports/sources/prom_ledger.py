"""The accounts of a fleet in a store that speaks PromQL: VictoriaMetrics, Prometheus, Mimir, Thanos.

Whoever stores the same series twice (two Prometheus side by side) has each account counted once: the largest
wins. Nothing is asked for with a function that extrapolates, except for the shape of a week (`hours`).
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Protocol

from agent.promql import quoted, span
from agent.store import Series, Value
from agent.tally import HOUR_MS
from agent.tick import Finding, State
from reports.facts import FREE_THROUGHOUT_MS, FreeHour, HourSum
from reports.sections import Group
from reports.sources.ledger import BEFORE_MS, Account, Known, Looks, Quantity, Seat
from reports.sources.runs import FINDING_STEP_MS, findings_of
from reports.sums import Amounts
from reports.window import Window

AT_ONCE = 2
"""Questions under way."""
MOST_SEATS = 200
"""GPUs in one question: their names must fit into an address."""
_MOST_STEPS = 10_000
"""Prometheus gives no more than 11 000 moments at once."""
_STATES = {state.value: state for state in State}


class Asked(Protocol):
    """A store as agent/store.py asks it."""

    url: str

    def values(self, query: str, at_ms: int) -> list[Value]:
        """Ask for a moment."""

    def steps(self, query: str, first_ms: int, last_ms: int, step_ms: int) -> list[Series]:
        """Ask for moments."""

    def known(self, selector: str, from_ms: int, until_ms: int) -> list[Mapping[str, str]]:
        """Ask for labels."""


class PromLedger:
    """A fleet's accounts in a store; see ledger.py. `pool_label` names the label that tells pools."""

    def __init__(self, store: Asked, pool_label: str, matchers: Sequence[str] = ()) -> None:
        self.name = store.url
        self._store = store
        self._pool = pool_label
        self._matchers = tuple(matchers)

    def _selector(self, name: str, *more: str) -> str:
        inside = ", ".join((*self._matchers, *more))
        return f"{name}{{{inside}}}" if inside else name

    def seats(self, from_ms: int, to_ms: int) -> dict[Seat, Known]:
        """Name the GPUs of the series that tell who they are."""
        found: dict[Seat, Known] = {}
        for labels in self._store.known(self._selector("gpu_info"), from_ms, to_ms):
            position = labels.get("gpu", "")
            found[_seat(labels)] = Known(
                int(position) if position.isascii() and position.isdecimal() else 0,
                labels.get("model", ""),
                labels.get("serial", ""),
                labels.get(self._pool, ""),
            )
        return found

    def first(self, from_ms: int, to_ms: int) -> int:
        """Count the GPUs that are told, hour by hour, where there are none at the beginning."""
        told = f"count(last_over_time({self._selector('gpu_info')}[{span(HOUR_MS)}]))"
        last_ms = from_ms + (to_ms - from_ms) // HOUR_MS * HOUR_MS
        if self._store.values(told, from_ms) or last_ms == from_ms:
            return from_ms
        first_ms = from_ms - BEFORE_MS
        moments = [
            at_ms for one in self._store.steps(told, first_ms, last_ms, HOUR_MS) for at_ms, _ in one.samples
        ]
        return max(from_ms, min(moments, default=from_ms))

    def looks(
        self, quantity: Quantity, moments: Sequence[int], back_ms: int, seats: Sequence[Seat] | None = None
    ) -> Looks:
        """Look at accounts, state by state, so that no answer is too long."""
        found: Looks = {}
        by = "node, uuid, owner" if quantity == "busy_seconds" else "node, uuid, state, owner"
        queries = []
        for matcher in self._parts(quantity, seats):
            picked = self._selector(f"gpu_tally_{quantity}_total", *matcher)
            queries.append(f"max by ({by}) (last_over_time({picked}[{span(back_ms)}]))")
        for told in self._each(queries, moments):
            for labels, samples in told:
                state = _STATES.get(labels.get("state", ""))
                if state is None and quantity != "busy_seconds":
                    continue
                seat = _seat(labels)
                account = Account(state, labels.get("owner", ""))
                found.setdefault(seat, {})[account] = samples
        return found

    def _parts(self, quantity: Quantity, seats: Sequence[Seat] | None) -> Iterator[tuple[str, ...]]:
        if seats is not None:
            uuids = sorted({seat.uuid for seat in seats})
            for first in range(0, len(uuids), MOST_SEATS):
                yield (_any_of("uuid", uuids[first : first + MOST_SEATS]),)
        elif quantity == "busy_seconds":
            yield ()
        else:
            for state in _STATES:
                yield (f"state={quoted(state)}",)

    def _each(
        self, queries: Iterable[str], moments: Sequence[int]
    ) -> Iterator[list[tuple[Mapping[str, str], list[tuple[int, float]]]]]:
        """Ask several, so that the store works at one while another is read."""
        waiting = iter(queries)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            asked = deque(pool.submit(self._all, query, moments) for query in islice(waiting, AT_ONCE))
            while asked:
                told = asked.popleft().result()
                asked.extend(pool.submit(self._all, query, moments) for query in islice(waiting, 1))
                yield told

    def _all(
        self, query: str, moments: Sequence[int]
    ) -> list[tuple[Mapping[str, str], list[tuple[int, float]]]]:
        return list(self._at(query, moments))

    def _at(
        self, query: str, moments: Sequence[int]
    ) -> Iterator[tuple[Mapping[str, str], list[tuple[int, float]]]]:
        if len(moments) == 1:
            for labels, value in self._store.values(query, moments[0]):
                yield labels, [(moments[0], value)]
            return
        step_ms = moments[1] - moments[0]
        yield from self._store.steps(query, moments[0], moments[-1], step_ms)

    def ends(self, moments: Sequence[int], back_ms: int) -> dict[str, dict[int, int]]:
        """Tell what agents that are scraped say; what is pushed has the moment itself.

        An agent may be another target since its last start, and addresses are used again: the latest counts.
        """
        told = self._selector("gputally_tick_end_timestamp_seconds")
        found: dict[str, dict[int, int]] = {}
        ends = list(self._at(f"max by (job, instance) (last_over_time({told}[{span(back_ms)}]))", moments))
        if not ends:
            return found
        seen = f"count by (job, instance, node) (last_over_time({self._selector('gpu_up')}[{span(back_ms)}]))"
        nodes: defaultdict[tuple[str, str, int], set[str]] = defaultdict(set)
        for labels, samples in self._at(seen, moments):
            for at_ms, _ in samples:
                nodes[(*_target(labels), at_ms)].add(labels.get("node", ""))
        for labels, samples in ends:
            for at_ms, value in samples:
                for node in nodes.get((*_target(labels), at_ms), ()):
                    end_of = found.setdefault(node, {})
                    end_of[at_ms] = max(round(value * 1000), end_of.get(at_ms, 0))
        return found

    def hours(self, window: Window) -> Iterator[HourSum]:
        """Sum up what grew in each hour, by the store's own `increase`, which may be off by an interval."""
        for labels, at_ms, seconds in self._hourly("seconds", ("state",), window):
            state = _STATES.get(labels.get("state", ""))
            if state is not None:
                amounts = Amounts(elapsed_ms=round(seconds * 1000))
                yield HourSum(at_ms, self._group(labels), state, amounts)
        for labels, at_ms, seconds in self._hourly("busy_seconds", (), window):
            yield HourSum(at_ms, self._group(labels), State.ACTIVE, Amounts(busy_us=round(seconds * 1e6)))
        for labels, at_ms, joules in self._hourly("joules", ("state",), window):
            state = _STATES.get(labels.get("state", ""))
            if state is not None:
                yield HourSum(at_ms, self._group(labels), state, Amounts(energy_mj=round(joules * 1000)))

    def _hourly(
        self, quantity: Quantity, more: Sequence[str], window: Window
    ) -> Iterator[tuple[Mapping[str, str], int, float]]:
        """Give labels, the beginning of each hour, and what accounts grew by within it."""
        if window.to_ms - window.from_ms < HOUR_MS:
            return
        by = ", ".join(("model", *((self._pool,) if self._pool else ()), *more))
        grown = f"sum by ({by}) (increase({self._selector(f'gpu_tally_{quantity}_total')}[1h]))"
        for labels, samples in self._store.steps(grown, window.from_ms + HOUR_MS, window.to_ms, HOUR_MS):
            for at_ms, value in samples:
                yield labels, at_ms - HOUR_MS, value

    def free(self, window: Window) -> Iterator[FreeHour]:
        """Let the store count GPUs and nodes: its answer does not grow with the fleet."""
        if window.to_ms - window.from_ms < HOUR_MS:
            return
        by = ", ".join(("model", *((self._pool,) if self._pool else ())))
        picked = self._selector("gpu_tally_seconds_total", f"state={quoted(State.FREE)}")
        grown = f"max by (node, uuid, {by}) (increase({picked}[1h])) >= {FREE_THROUGHOUT_MS // 1000}"
        told = f'count_values by ({by}) ("free_gpus", count by (node, {by}) ({grown}))'
        for labels, samples in self._store.steps(told, window.from_ms + HOUR_MS, window.to_ms, HOUR_MS):
            gpus = round(float(labels.get("free_gpus", "0")))
            for at_ms, nodes in samples:
                yield FreeHour(at_ms - HOUR_MS, self._group(labels), gpus, round(nodes))

    def _group(self, labels: Mapping[str, str]) -> Group:
        return Group(labels.get(self._pool, "") if self._pool else "", labels.get("model", ""))

    def sliced(self, from_ms: int, to_ms: int) -> dict[str, float]:
        """Ask at both ends, and for the time between where they differ."""
        flag = self._selector("gpu_mig_mode_flag")
        cut = f"max by (uuid) (last_over_time({flag}[{span(HOUR_MS)}])) == 1"
        first, last = (
            {one.labels.get("uuid", "") for one in self._store.values(cut, at_ms)}
            for at_ms in (from_ms, to_ms)
        )
        found = dict.fromkeys(first & last, 1.0)
        changed = sorted(first ^ last)
        for begin in range(0, len(changed), MOST_SEATS):
            uuids = _any_of("uuid", changed[begin : begin + MOST_SEATS])
            picked = self._selector("gpu_mig_mode_flag", uuids)
            mean = f"max by (uuid) (avg_over_time({picked}[{span(to_ms - from_ms)}]))"
            found |= {one.labels.get("uuid", ""): one.value for one in self._store.values(mean, to_ms)}
        return found

    def throttled(self, window: Window) -> dict[Seat, dict[str, int]]:
        """Tell what the counters of lowered clocks grew by."""
        found: dict[Seat, dict[str, int]] = {}
        for labels, seconds in self._grown("gpu_throttle_seconds_total", "reason", window):
            found.setdefault(_seat(labels), {})[labels.get("reason", "")] = round(seconds * 1000)
        return found

    def xids(self, window: Window) -> dict[Seat, dict[int, int]]:
        """Tell what the counters of XIDs grew by."""
        found: dict[Seat, dict[int, int]] = {}
        for labels, times in self._grown("gpu_xid_errors_total", "xid", window):
            number = labels.get("xid", "")
            if number.isascii() and number.isdecimal():
                found.setdefault(_seat(labels), {})[int(number)] = round(times)
        return found

    def _grown(self, metric: str, label: str, window: Window) -> Iterator[tuple[Mapping[str, str], float]]:
        """Give what counters grew by from edge to edge; one that is new grew from 0."""
        back, length = span(HOUR_MS), span(window.to_ms - window.from_ms)
        now = f"last_over_time({self._selector(metric)}[{back}])"
        before = f"last_over_time({self._selector(metric)}[{back}] offset {length})"
        grown = f"({now} - {before}) > 0 or ({now} unless {before}) > 0"
        for one in self._store.values(f"max by (node, uuid, {label}) ({grown})", window.to_ms):
            yield one.labels, one.value

    def findings(self, window: Window) -> list[Finding]:
        """Tell when findings were open, to within the time after which they are told again."""
        lasts_ms = window.to_ms - window.from_ms
        step_ms = FINDING_STEP_MS * -(-lasts_ms // (FINDING_STEP_MS * _MOST_STEPS))
        picked = self._selector("gpu_finding")
        query = f"max by (node, uuid, rule, severity) (last_over_time({picked}[{span(step_ms)}]))"
        told = self._store.steps(query, window.from_ms, window.to_ms, step_ms)
        seen = ((labels, [at_ms for at_ms, value in samples if value]) for labels, samples in told)
        return findings_of(seen, step_ms, window.to_ms)


def _seat(labels: Mapping[str, str]) -> Seat:
    return Seat(labels.get("uuid", ""), labels.get("node", ""))


def _any_of(label: str, values: Iterable[str]) -> str:
    """Match any of some texts, as they are and not as patterns."""
    return f"{label}=~{quoted('|'.join(_literal(value) for value in values))}"


def _literal(text: str) -> str:
    """Write a text as a pattern of RE2, which refuses to have anything escaped that is not of ASCII."""
    return "".join(
        char if char.isalnum() or char in "-_ " or not char.isascii() else f"\\x{ord(char):02x}"
        for char in text
    )


def _target(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get("job", ""), labels.get("instance", "")
