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

Prometheus finds at once what a rule before recorded. vmalert does not before the next evaluation: for it the
present is worked out anew wherever it is asked for, and only the past is read from what was recorded.
"""

from collections.abc import Iterator, Mapping
from math import ceil

from agent.promql import span
from rules.definition import JOB, PEERS, STATE, XIDS, Condition, Rule, ancestors
from rules.series import (
    GROWTH,
    OPEN,
    OPPOSITE,
    SIGNS,
    Metric,
    added,
    edge_of,
    figure,
    has_level,
    is_recorded,
    limit_of,
    metric_of,
    recorded_name,
    state_metric,
)
from rules.sight import FEWEST_PEERS

FAR = "1h"
"""So long may a store be out of service, or a counter unseen, until what it knew before is forgotten."""
DELAY_PART = 5
"""Samples are looked at a fifth of an interval late: only then can a store find them for sure."""
_PAIRINGS = {PEERS: "ignoring (gpu, uuid) group_left () ", JOB: "on (uuid) group_left () "}
"""How a value finds what it is compared with, if that is no series of the same GPU."""
LONGEST_UNSEEN_MS = 7 * 86_400_000
"""After so long a finding on a GPU that nobody saw any more is given up."""


class Translator:
    """Rules as expressions, for a store that gets and judges a sample of everything in each interval.

    With `is_late`, what is recorded can be found at the next evaluation only. Parents come before children.
    """

    def __init__(self, rules: Mapping[str, Rule], interval_ms: int, *, is_late: bool = False) -> None:
        enabled = {name: rule for name, rule in rules.items() if rule.enabled and rule.about == "gpu"}
        self._ancestors = ancestors(enabled)
        self.rules = {name: enabled[name] for name in self._ancestors}
        self.interval_ms = interval_ms
        self.interval = span(interval_ms)
        self.delay = span(interval_ms // DELAY_PART)
        self.now = self.scraped(1)
        self.judged = f"last_over_time(gpu_up{self.now})"
        self._is_late = is_late

    def slots(self, seconds: float) -> int:
        """Count the intervals of a window, as the engine does."""
        return max(1, round(seconds * 1000 / self.interval_ms))

    def scraped(self, slots: int) -> str:
        """Write a window of so many intervals over what nodes say."""
        return f"[{span(slots * self.interval_ms)}] offset {self.delay}"

    def recorded(self, slots: int) -> str:
        """Write a window of so many intervals over what was recorded, up to now."""
        return f"[{span(slots * self.interval_ms - self.interval_ms // 2)}]"

    def before(self, slots: int) -> str:
        """Write the same window without its latest interval."""
        return f"[{span((slots - 1) * self.interval_ms)}] offset {span(self.interval_ms // 2)}"

    def growths(self) -> Iterator[tuple[str, str]]:
        """Give name and expression of what each counter grew by, where it did, in an interval."""
        counters = dict.fromkeys(
            one.quantity for rule in self.rules.values() for one in rule.when.values() if one.over_seconds
        )
        for quantity in counters:
            yield f"{GROWTH}:{quantity}", self._growth(quantity)

    def _growth(self, quantity: str, selected: str = "") -> str:
        """Tell what a counter grew by in this interval, where it did."""
        metric = metric_of(quantity)
        selector = metric.selector(*filter(None, [selected]))
        far = f"[{FAR}] offset {span(self.interval_ms + self.interval_ms // DELAY_PART)}"
        grown = f"last_over_time({selector}{self.now}) - last_over_time({selector}{far}) > 0"
        names = ", ".join(key for key, _ in metric.labels)
        return f"sum without ({names}) (\n  {grown}\n)" if names else grown

    def conditions(self, rule: Rule) -> Iterator[tuple[str, str]]:
        """Give name and expression of the conditions of a rule that are recorded."""
        for key, condition in rule.when.items():
            name = recorded_name(rule, key)
            if has_level(rule, condition):
                yield name, self._level(rule, condition)
            elif condition.over_seconds:
                yield name, self._grown(condition)

    def open(self, rule: Rule) -> tuple[str, str]:
        """Give name and expression of the findings of a rule.

        1 is open, more is open and unseen for so many intervals, less one; 0 is said once when it closes.
        """
        stays, unseen = self._staying(rule)
        parts = (f"({self._opens(rule)}\n) * 0 + 1", stays, unseen, f"{self._was_open(rule)} * 0")
        return f"{OPEN}:{rule.name}", "\nor\n".join(parts)

    def fires(self, rule: Rule) -> str:
        """Tell where a rule is open by now."""
        if not self._is_late:
            return f"{OPEN}:{rule.name} > 0"
        return "\nor\n".join((f"({self._opens(rule)}\n) * 0 + 1", *self._staying(rule)))

    def told(self, rule: Rule) -> str:
        """Give the findings of a rule as nodes tell them; those on GPUs that are not seen now stay."""
        finding = f'gpu_finding{{rule="{rule.name}"}}'
        unseen = f"last_over_time({finding}[{FAR}]) unless on (uuid) {self.judged}"
        return f"last_over_time({finding}{self.now})\nor\n({unseen})"

    def _opens(self, rule: Rule) -> str:
        """Tell where a finding would open, were it not open yet."""
        return self._wants(rule) + "".join(
            f"\n  unless {self._parent(self.rules[name])}" for name in self._ancestors[rule.name]
        )

    def _wants(self, rule: Rule) -> str:
        """Tell where all conditions of a rule hold, and held for long enough."""
        return "\n  and ".join(self._opening(rule))

    def _parent(self, parent: Rule) -> str:
        """Tell where a parent is open or was an interval ago.

        What keeps it from opening keeps its children quiet as well, so that nobody need ask for that.
        """
        if self._is_late:
            return f"(({self._wants(parent)}\n) or {self._was_open(parent)})"
        return f"(max_over_time({OPEN}:{parent.name}{self.recorded(2)}) > 0)"

    def _staying(self, rule: Rule) -> tuple[str, str]:
        """Tell where a finding stays: on GPUs that are seen, and on those that are not."""
        was = self._was_open(rule)
        closes = "".join(f"\n  unless {one}" for one in self._closing(rule))
        most = LONGEST_UNSEEN_MS // self.interval_ms
        return (
            f"({was}\n  and {self.judged}{closes}\n) * 0 + 1",
            f"({was} + 1 < {most} unless on (uuid) {self.judged})",
        )

    def _was_open(self, rule: Rule) -> str:
        """Tell where a rule was open an interval ago; vmalert may have recorded this one by now."""
        window = f"[{FAR}] offset {span(self.interval_ms // 2)}" if self._is_late else f"[{FAR}]"
        return f"(last_over_time({OPEN}:{rule.name}{window}) > 0)"

    def _opening(self, rule: Rule) -> Iterator[str]:
        """Tell where each condition holds, and held for long enough."""
        slots = self.slots(rule.for_seconds)
        needed = ceil(rule.coverage_ratio * slots)
        for key, condition in rule.when.items():
            sign, limit, worst = limit_of(rule, condition)
            if condition.quantity == STATE and not has_level(rule, condition):
                yield from self._state_holds(condition, self.scraped(slots), needed)
            elif self._is_late and is_recorded(rule, condition):
                yield self._holds_throughout(rule, key, slots, needed)
            else:
                metric, window = self._series(rule, key, slots)
                yield f"({metric.over(worst, window)} {sign} {limit})"
                if slots > 1:
                    yield self._is_known(rule, key)
                if needed > 1:
                    yield f"({metric.over('count_over_time', window)} >= {needed})"

    def _holds_throughout(self, rule: Rule, key: str, slots: int, needed: int) -> str:
        """Tell where a condition held in what was recorded of a window, and holds now."""
        name, now = recorded_name(rule, key), f"({self._now_of(rule, key)})"
        sign, limit, worst = limit_of(rule, rule.when[key])
        if slots == 1:
            return f"({now} {sign} {limit})"
        before = self.before(slots)
        fails = f"{OPPOSITE.get(sign, '<')} {limit}"
        seen = f"\n  and count_over_time({name}{before}) >= {needed - 1}" if needed > 1 else ""
        return f"({now} {sign} {limit}{seen}\n  unless {worst}({name}{before}) {fails})"

    def _closing(self, rule: Rule) -> Iterator[str]:
        """Tell, for each condition, where it was known not to hold, and never to hold, for long enough."""
        slots = self.slots(rule.clear_seconds)
        for key, condition in rule.when.items():
            metric, window = self._series(rule, key, slots)
            sign, edge, best = edge_of(rule, condition)
            if self._is_late and is_recorded(rule, condition):
                yield self._fails_throughout(rule, key, slots)
            elif condition.quantity == STATE and not has_level(rule, condition):
                wanted, unknown = state_metric(condition.is_state), state_metric("unknown")
                not_known = unknown.over("min_over_time", window)
                never = f"{wanted.over('max_over_time', window)} == 0"
                yield f"(({self._state_now(condition.is_state)}) == 0 and {never} and {not_known} == 0)"
            else:
                known = f" and {self._is_known(rule, key)}" if slots > 1 else ""
                yield f"({metric.over(best, window)} {sign} {edge}{known})"

    def _fails_throughout(self, rule: Rule, key: str, slots: int) -> str:
        """Tell where a condition never held in what was recorded of a window, and fails now."""
        name, now = recorded_name(rule, key), f"({self._now_of(rule, key)})"
        sign, edge, best = edge_of(rule, rule.when[key])
        if slots == 1:
            return f"({now} {sign} {edge})"
        holds = f"{OPPOSITE.get(sign, '>')} {edge}"
        return f"({now} {sign} {edge}\n  unless {best}({name}{self.before(slots)}) {holds})"

    def _is_known(self, rule: Rule, key: str) -> str:
        """Tell where it is known in this interval whether a condition holds."""
        metric, _ = self._series(rule, key, 1)
        window = self.recorded(1) if is_recorded(rule, rule.when[key]) else self.now
        return metric.over("last_over_time", window)

    def _now_of(self, rule: Rule, key: str) -> str:
        """Tell what is recorded of a condition in this interval."""
        condition = rule.when[key]
        return self._level(rule, condition) if has_level(rule, condition) else self._grown(condition)

    def _series(self, rule: Rule, key: str, slots: int) -> tuple[Metric, str]:
        """Give the series that a condition is asked of, and the window of so many intervals over it."""
        condition = rule.when[key]
        if is_recorded(rule, condition):
            return Metric(recorded_name(rule, key)), self.recorded(slots)
        if condition.quantity == STATE:
            return state_metric(condition.is_state), self.scraped(slots)
        return metric_of(condition.quantity), self.scraped(slots)

    def _state_holds(self, condition: Condition, window: str, needed: int) -> Iterator[str]:
        """Tell where all states of a window were the wanted one, but for those that are not known."""
        wanted, unknown = state_metric(condition.is_state), state_metric("unknown")
        seen = wanted.over("count_over_time", window)
        yield f"({wanted.over('last_over_time', self.now)} == 1)"
        yield f"({wanted.over('sum_over_time', window)} >= {needed})"
        explained = f"{wanted.over('sum_over_time', window)} + {unknown.over('sum_over_time', window)}"
        yield f"({explained} == {seen})"

    def _level(self, rule: Rule, condition: Condition) -> str:
        """Tell in each interval whether a condition holds: 2, 1, 0 or nothing."""
        value, limit, edge = self._sides(condition)
        sign = SIGNS[condition.comparison]
        pairing = _PAIRINGS.get(condition.of, "")
        if condition.is_state:
            level = f"2 * ({value})"
        elif edge is None:
            level = f"2 * ({value} {sign} bool {pairing}{limit})"
        else:
            level = f"({value} {sign} bool {pairing}{limit})\n+ ({value} {sign} bool {pairing}{edge})"
        if not rule.workloads:
            return level
        held = f"count by (uuid) ({self._holders(rule)}) * 0 + 1 or count by (uuid) ({self.judged}) * 0"
        return f"({level})\n* on (uuid) group_left () ({held})"

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
            f"({scaled}{added(condition.plus)})",
            None if until is None else f"({scaled}{added(until)})",
        )

    def _other(self, condition: Condition) -> str:
        several = metric_of(condition.quantity).over("last_over_time", self.now)
        if condition.of == JOB:
            return self._of_job(several)
        if condition.of != PEERS:
            return metric_of(condition.of).over("last_over_time", self.now)
        middle = f"quantile without (gpu, uuid) (0.5, {several})"
        return f"({middle} and count without (gpu, uuid) ({several}) >= {FEWEST_PEERS})"

    def _of_job(self, several: str) -> str:
        """Give each GPU the median of those of its job: it has one where a single holder has a name."""
        names = "node, model, kind, holder"
        held = f'max by (uuid, {names}) (last_over_time(gpu_holder_info{{holder!=""}}{self.now}))'
        job = f"({held} and on (uuid) (count by (uuid) ({held}) == 1))"
        values = f"({job} * on (uuid) group_left () max by (uuid) ({several}))"
        middle = f"quantile by ({names}) (0.5, {values})"
        enough = f"count by ({names}) ({values}) >= {FEWEST_PEERS}"
        return f"max by (uuid) ({job} * 0 + on ({names}) group_left () ({middle} and {enough}))"

    def _state_now(self, state: str) -> str:
        wanted = state_metric(state).over("last_over_time", self.now)
        unknown = state_metric("unknown").over("last_over_time", self.now)
        return f"{wanted} unless {unknown} == 1"

    def _grown(self, condition: Condition) -> str:
        """Tell how much a counter grew in its window; it is known where the counter is read."""
        quantity, slots = condition.quantity, self.slots(condition.over_seconds)
        own = ""
        read = metric_of(quantity).over("last_over_time", self.now)
        if quantity == XIDS:
            numbers = "|".join(map(str, condition.xids))
            own, read = f'xid=~"{numbers}"', self.judged
        series = f"{GROWTH}:{quantity}{f'{{{own}}}' if own else ''}"
        grown = f"sum_over_time({series}{self.before(slots) if self._is_late else self.recorded(slots)})"
        if self._is_late:
            now = f"({self._growth(quantity, own)})"
            grown = f"({grown} + {now} or {grown} or {now})" if slots > 1 else now
        if own:
            grown = f"sum without (xid) ({grown})"
        return f"({grown} and {read}\n  or {read} * 0)"
