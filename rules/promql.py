"""A rule as expressions of PromQL that open and close as the engine does.

What came from a node is read through windows only, one sample to an interval: a series that is gone is not
known, and no store's idea of how long a value stays good plays a part. They end a little before the time of
evaluation, since a sample bears the time at which its scrape began and can be found only later; without that
a target whose scrapes fall just before the evaluation would never be seen. What was recorded lies
on the times of evaluation themselves; its windows are half an interval shorter, so that it does not matter
whether a store counts in the far end of a window.

A comparison of a gauge with a number is asked of the samples of the window, that of a counter's growth of the
growth, which is recorded at every interval. All else is recorded as 2 where the condition holds, as 1 where
it only holds by `until`, as 0 where it does not, and not at all where it is not known.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from agent.quantities import QUANTITIES
from rules.definition import PEERS, STATE, UP, XIDS, Comparison, Condition, Rule
from rules.engine import FEWEST_PEERS

FAR = "1h"
"""So long may a store be out of service, or a counter unseen, until what it knew before is forgotten."""
DELAY_PART = 5
"""Samples are looked at a fifth of an interval late: only then can a store find them for sure."""
LONGEST_UNSEEN_MS = 7 * 86_400_000
"""After so long a finding on a GPU that nobody saw any more is given up."""
OPEN, GROWTH, CONDITION = "gputally:open", "gputally:growth", "gputally:condition"
"""How the names of recorded series begin."""
_SIGNS = {
    Comparison.AT_MOST: "<=",
    Comparison.AT_LEAST: ">=",
    Comparison.BELOW: "<",
    Comparison.ABOVE: ">",
}
_OPPOSITE = {"<=": ">", ">=": "<", "<": ">=", ">": "<="}
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms"))


def span(milliseconds: int) -> str:
    """Write a duration: `9m55s`."""
    text = ""
    for unit_ms, unit in _UNITS:
        times, milliseconds = divmod(milliseconds, unit_ms)
        text += f"{times}{unit}" if times else ""
    return text


def figure(value: float) -> str:
    """Write a number without losing any of it."""
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


@dataclass(frozen=True, slots=True)
class Metric:
    """The series that a condition is about; `labels` are those that tell it from others of its name."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()

    def selector(self, *more: str) -> str:
        """Select it."""
        inside = ", ".join((*(f'{key}="{value}"' for key, value in self.labels), *more))
        return f"{self.name}{{{inside}}}" if inside else self.name

    def over(self, function: str, window: str) -> str:
        """Ask for something over a window, with no labels but those of the GPU."""
        asked = f"{function}({self.selector()}{window})"
        names = ", ".join(key for key, _ in self.labels)
        return f"sum without ({names}) ({asked})" if names else asked


def metric_of(quantity: str) -> Metric:
    """Tell how a quantity is named on a page."""
    if quantity in (UP, XIDS):
        return Metric(f"gpu_{quantity}")
    told = QUANTITIES[quantity]
    return Metric(f"gpu_{told.family or quantity}", told.labels)


def state_metric(state: str) -> Metric:
    """Select one of the states."""
    return Metric("gpu_state", (("state", state),))


class Translator:
    """Rules as expressions, for a store that gets and judges a sample of everything in each interval.

    With `is_late`, what is recorded can be found at the next evaluation only.
    """

    def __init__(self, rules: Mapping[str, Rule], interval_ms: int, *, is_late: bool = False) -> None:
        self.rules = {name: rule for name, rule in rules.items() if rule.enabled}
        self.interval_ms = interval_ms
        self.interval = span(interval_ms)
        self.delay = span(interval_ms // DELAY_PART)
        self.now = self.scraped(1)
        self.judged = f"last_over_time(gpu_up{self.now})"
        self._is_late = is_late
        self._places = {name: place for place, name in enumerate(self.rules)}

    def slots(self, seconds: float) -> int:
        """Count the intervals of a window, as the engine does."""
        return max(1, round(seconds * 1000 / self.interval_ms))

    def scraped(self, slots: int) -> str:
        """Write a window of so many intervals over what nodes say."""
        return f"[{span(slots * self.interval_ms)}] offset {self.delay}"

    def recorded(self, slots: int) -> str:
        """Write a window of so many intervals over what was recorded."""
        half_ms = self.interval_ms // 2
        if self._is_late:
            return f"[{span(slots * self.interval_ms)}] offset {span(half_ms)}"
        return f"[{span(slots * self.interval_ms - half_ms)}]"

    def growths(self) -> Iterator[tuple[str, str]]:
        """Give name and expression of what each counter grew by, where it did, in an interval."""
        counters = dict.fromkeys(
            one.quantity for rule in self.rules.values() for one in rule.when.values() if one.over_seconds
        )
        for quantity in counters:
            metric = metric_of(quantity)
            far = f"[{FAR}] offset {span(self.interval_ms + self.interval_ms // DELAY_PART)}"
            before = f"last_over_time({metric.selector()}{far})"
            grown = f"last_over_time({metric.selector()}{self.now}) - {before} > 0"
            names = ", ".join(key for key, _ in metric.labels)
            yield f"{GROWTH}:{quantity}", f"sum without ({names}) (\n  {grown}\n)" if names else grown

    def conditions(self, rule: Rule) -> Iterator[tuple[str, str]]:
        """Give name and expression of the conditions of a rule that are recorded."""
        for key, condition in rule.when.items():
            name = _recorded(rule, key)
            if _has_level(rule, condition):
                yield name, self._level(rule, condition)
            elif condition.over_seconds:
                yield name, self._grown(condition)

    def open(self, rule: Rule) -> tuple[str, str]:
        """Give name and expression of the findings of a rule.

        1 is open, more is open and unseen for so many intervals, less one; 0 is said once when it closes.
        """
        opens = "\n  and ".join([*self._opening(rule), self.judged])
        if rule.workloads:
            opens += f"\n  and on (uuid) {self._holders(rule)}"
        for parent in rule.inhibited_by:
            if parent in self.rules:
                opens += f"\n  unless {self._open_now(parent, before=rule.name)}"
        stays, unseen = self._staying(rule)
        parts = (f"({opens}\n) * 0 + 1", stays, unseen, f"{_was_open(rule)} * 0")
        return f"{OPEN}:{rule.name}", "\nor\n".join(parts)

    def told(self, rule: Rule) -> str:
        """Give the findings of a rule as nodes tell them; those on GPUs that are not seen now stay."""
        finding = f'gpu_finding{{rule="{rule.name}"}}'
        unseen = f"last_over_time({finding}[{FAR}]) unless on (uuid) {self.judged}"
        return f"last_over_time({finding}{self.now})\nor\n({unseen})"

    def _open_now(self, parent: str, before: str) -> str:
        """Tell where a parent's finding is open by now; one that comes later has not been judged yet."""
        if self._places[parent] < self._places[before]:
            return f"({OPEN}:{parent} > 0)"
        return f"({' or '.join(self._staying(self.rules[parent]))})"

    def _staying(self, rule: Rule) -> tuple[str, str]:
        """Tell where a finding stays: on GPUs that are seen, and on those that are not."""
        was = _was_open(rule)
        closes = "".join(f"\n  unless {one}" for one in self._closing(rule))
        most = LONGEST_UNSEEN_MS // self.interval_ms
        return (
            f"({was}\n  and {self.judged}{closes}\n) * 0 + 1",
            f"({was} + 1 < {most} unless on (uuid) {self.judged})",
        )

    def _opening(self, rule: Rule) -> Iterator[str]:
        """Tell where each condition held for long enough."""
        slots = self.slots(rule.for_seconds)
        needed = ceil(rule.coverage_ratio * slots)
        for key, condition in rule.when.items():
            if condition.quantity == STATE and not _has_level(rule, condition):
                yield from self._state_holds(condition, self.scraped(slots), needed)
                continue
            metric, window = self._series(rule, key, slots)
            if _has_level(rule, condition):
                yield f"({metric.over('min_over_time', window)} == 2)"
            else:
                worst = metric.over("max_over_time" if condition.is_falling else "min_over_time", window)
                yield f"({worst} {_SIGNS[condition.comparison]} {figure(condition.number)})"
            if needed > 1:
                yield f"({metric.over('count_over_time', window)} >= {needed})"

    def _closing(self, rule: Rule) -> Iterator[str]:
        """Tell, for each condition, where it was known not to hold, and never to hold, for long enough."""
        slots = self.slots(rule.clear_seconds)
        for key, condition in rule.when.items():
            metric, window = self._series(rule, key, slots)
            if _has_level(rule, condition):
                yield f"({metric.over('max_over_time', window)} == 0)"
            elif condition.quantity == STATE:
                wanted, unknown = state_metric(condition.is_state), state_metric("unknown")
                not_known = unknown.over("min_over_time", window)
                yield f"({wanted.over('max_over_time', window)} == 0 and {not_known} == 0)"
            else:
                best = metric.over("min_over_time" if condition.is_falling else "max_over_time", window)
                edge = condition.number if condition.until is None else condition.until
                yield f"({best} {_OPPOSITE[_SIGNS[condition.comparison]]} {figure(edge)})"

    def _series(self, rule: Rule, key: str, slots: int) -> tuple[Metric, str]:
        """Give the series that a condition is asked of, and the window of so many intervals over it."""
        condition = rule.when[key]
        if _has_level(rule, condition) or condition.over_seconds:
            return Metric(_recorded(rule, key)), self.recorded(slots)
        if condition.quantity == STATE:
            return state_metric(condition.is_state), self.scraped(slots)
        return metric_of(condition.quantity), self.scraped(slots)

    def _state_holds(self, condition: Condition, window: str, needed: int) -> Iterator[str]:
        """Tell where all states of a window were the wanted one, but for those that are not known."""
        wanted, unknown = state_metric(condition.is_state), state_metric("unknown")
        seen = wanted.over("count_over_time", window)
        yield f"({wanted.over('sum_over_time', window)} >= {needed})"
        explained = f"{wanted.over('sum_over_time', window)} + {unknown.over('sum_over_time', window)}"
        yield f"({explained} == {seen})"

    def _level(self, rule: Rule, condition: Condition) -> str:
        """Tell in each interval whether a condition holds: 2, 1, 0 or nothing."""
        value, limit, edge = self._sides(condition)
        sign = _SIGNS[condition.comparison]
        pairing = ""
        if condition.of == PEERS:
            pairing = "ignoring (gpu, uuid) group_left () "
        if condition.is_state:
            level = f"2 * ({value})"
        elif edge is None:
            level = f"2 * ({value} {sign} bool {pairing}{limit})"
        else:
            level = f"({value} {sign} bool {pairing}{limit})\n+ ({value} {sign} bool {pairing}{edge})"
        if not rule.workloads:
            return level
        return f"(\n{level}\n) and on (uuid) {self._holders(rule)}\nor (\n{level}\n) * 0"

    def _holders(self, rule: Rule) -> str:
        """Select those whom a rule is about."""
        classes = "|".join(rule.workloads)
        return f'last_over_time(gpu_holder_info{{workload=~"{classes}"}}{self.now})'

    def _sides(self, condition: Condition) -> tuple[str, str, str | None]:
        """Give what is compared with what, and with what when it is asked whether a finding may close."""
        until = condition.until
        if condition.is_state:
            return self._state_now(condition.is_state), "", None
        if condition.over_seconds:
            value = self._grown(condition)
        else:
            value = metric_of(condition.quantity).over("last_over_time", self.now)
        if not condition.of:
            return value, figure(condition.number), None if until is None else figure(until)
        other = self._other(condition)
        scaled = other if condition.times == 1 else f"{other} * {figure(condition.times)}"
        return (
            value,
            f"({scaled}{_added(condition.plus)})",
            None if until is None else f"({scaled}{_added(until)})",
        )

    def _other(self, condition: Condition) -> str:
        if condition.of != PEERS:
            return metric_of(condition.of).over("last_over_time", self.now)
        several = metric_of(condition.quantity).over("last_over_time", self.now)
        middle = f"quantile without (gpu, uuid) (0.5, {several})"
        return f"({middle} and count without (gpu, uuid) ({several}) >= {FEWEST_PEERS})"

    def _state_now(self, state: str) -> str:
        wanted = state_metric(state).over("last_over_time", self.now)
        unknown = state_metric("unknown").over("last_over_time", self.now)
        return f"{wanted} unless {unknown} == 1"

    def _grown(self, condition: Condition) -> str:
        """Tell how much a counter grew in its window; it is known where the counter is read."""
        window = self.recorded(self.slots(condition.over_seconds))
        if condition.quantity == XIDS:
            numbers = "|".join(map(str, condition.xids))
            series = f'{GROWTH}:{XIDS}{{xid=~"{numbers}"}}'
            grown, read = f"sum without (xid) (sum_over_time({series}{window}))", self.judged
        else:
            grown = f"sum_over_time({GROWTH}:{condition.quantity}{window})"
            read = metric_of(condition.quantity).over("last_over_time", self.now)
        return f"({grown} and {read}\n  or {read} * 0)"


def _has_level(rule: Rule, condition: Condition) -> bool:
    """Tell whether it must be recorded if a condition holds, as no one number would tell."""
    return bool(rule.workloads or condition.of)


def _recorded(rule: Rule, key: str) -> str:
    """Name the series of a condition; keys that differ in odd characters only are told apart by place."""
    keys: Sequence[str] = list(rule.when)
    plain = re.sub(r"\W", "_", key, flags=re.ASCII)
    alike = [one for one in keys if re.sub(r"\W", "_", one, flags=re.ASCII) == plain]
    return f"{CONDITION}:{rule.name}:{plain}{'' if len(alike) == 1 else keys.index(key)}"


def _was_open(rule: Rule) -> str:
    return f"(last_over_time({OPEN}:{rule.name}[{FAR}]) > 0)"


def _added(number: float) -> str:
    if number == 0:
        return ""
    return f" + {figure(number)}" if number > 0 else f" - {figure(-number)}"
