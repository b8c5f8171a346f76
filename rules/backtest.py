"""What rules would have found in the past, on whom and for how long, beside what the present rules find.

Both are judged in one pass, interval by interval, by the engine and the book of findings that a node has, so
that what comes out is what a node would have told. What is open in (the interval before, this interval] is
counted to those who hold the GPU in this one; a finding that flaps is open only while it is open.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from agent.findings import Findings
from agent.tick import Condition, Finding, said
from rules.definition import Rule, ancestors
from rules.engine import Engine
from rules.hindsight import Moment, Seat
from rules.outcome import Case, Outcome, RuleOutcome, Side

MOST_SEATS = 2_000
"""Of a rule so many holders are told apart; the time of all others is nobody's that is known."""
SURE_STEPS = 2
"""After so many intervals unseen nobody knows who held a GPU meanwhile."""
_NOTHING: Mapping[str, Case] = {}
Rules = Mapping[str, Rule]


def look_back_ms(rules: Rules) -> int:
    """Tell how much of the past decides what is open or pending, but for what hovers above `until`."""
    found = 0.0
    for rule in enabled(rules).values():
        over = max(one.over_seconds for one in rule.when.values())
        found = max(found, rule.for_seconds + over, rule.clear_seconds + over)
    return round(found * 1000)


def enabled(rules: Rules) -> dict[str, Rule]:
    """Give the rules that judge GPUs; of what those about the node judge, no past is kept."""
    return {name: rule for name, rule in rules.items() if rule.enabled and rule.about == "gpu"}


def quantities_of(*several: Rules) -> frozenset[str]:
    """Name the quantities that rules are about."""
    return frozenset().union(*(Engine(rules, 1000).quantities for rules in several))


def changed(rules: Rules, others: Rules) -> frozenset[str]:
    """Name the rules of two sets that may find something else: they differ, or what keeps them quiet does."""
    parents, other_parents = ancestors(rules), ancestors(others)
    differ = {name for name in rules.keys() | others.keys() if rules.get(name) != others.get(name)}
    quieted = {name for name in rules.keys() & others.keys() if parents[name] != other_parents[name]}
    behind = {name for name, above in parents.items() if not differ.isdisjoint(above)}
    return frozenset(differ | quieted | behind)


class _Judge:
    """Rules at work: their engine, and what became of each finding of those that are asked `about`."""

    def __init__(self, rules: Rules, interval_ms: int, about: Collection[str]) -> None:
        self._engine = Engine(rules, interval_ms)
        self._about = about
        self._findings: defaultdict[str, Findings] = defaultdict(Findings)
        self._latest: dict[tuple[str, str], Case] = {}
        self.open: defaultdict[str, dict[str, Case]] = defaultdict(dict)
        self.cases: list[Case] = []
        self.whom: defaultdict[str, Counter[Seat | None]] = defaultdict(Counter)

    def take(self, moment: Moment, end_ms: int) -> set[str]:
        """Judge an interval; name the GPUs on which something is, or was, open."""
        found: defaultdict[str, list[Finding]] = defaultdict(list)
        for one in self._engine.judge(moment.scene):
            if one.rule in self._about and one.uuid not in moment.left:
                found[one.uuid].append(one)
        readings = moment.scene.readings
        seen = {one.uuid for one in readings if one.condition is Condition.OK}.union(moment.left)
        touched = {one.uuid for one in readings if one.uuid in found or self.open.get(one.uuid)}
        for uuid in touched:
            for news in self._findings[uuid].update(found[uuid], seen, end_ms):
                self._note(news, moment)
        return touched

    def _note(self, one: Finding, moment: Moment) -> None:
        key, here = (one.rule, one.uuid), self.open[one.uuid]
        if one.closed_ms is not None:
            here.pop(one.rule).finding = replace(self._latest[key].finding, closed_ms=one.closed_ms)
            return
        one = replace(one, held_by=_held_by(moment.seats.get(one.uuid, ())))
        case = self._latest.get(key)
        if case is not None and one.times > 1:
            case.finding = one
        else:
            case = self._latest[key] = Case(one)
            self.cases.append(case)
        here[one.rule] = case

    def spend(self, uuid: str, known_ms: int, unknown_ms: int, seats: Sequence[Seat]) -> None:
        """Count time to what is open on a GPU, and to those who hold it."""
        for rule, case in self.open[uuid].items():
            case.open_ms += known_ms + unknown_ms
            whom = self.whom[rule]
            parts: Sequence[Seat | None] = seats or (None,)
            each_ms, rest_ms = divmod(known_ms, len(parts))
            for seat in parts:
                whom[seat if seat in whom or len(whom) < MOST_SEATS else None] += each_ms + rest_ms
                rest_ms = 0
            whom[None] += unknown_ms


def _held_by(seats: Sequence[Seat]) -> str:
    """Name who holds a GPU, as the books of a node do."""
    return ", ".join(dict.fromkeys(f"{said(one.kind, one.name)} of {one.owner}" for one in seats))


class Backtest:
    """Takes the past, oldest first, and gives what came of it. What closed by `from_ms` does not count.

    Without `present`, or if it judges the same, there is one side only.
    """

    def __init__(self, rules: Rules, present: Rules | None, interval_ms: int, from_ms: int) -> None:
        self._rules = enabled(rules)
        self._present = None if present is None else enabled(present)
        self._changed = changed(self._rules, self._present or {})
        self._from_ms = from_ms
        self._unsure_ms = SURE_STEPS * interval_ms
        self._judge = _Judge(self._rules, interval_ms, self._rules)
        self._other = self._judge_of_present(interval_ms)
        self._until: dict[str, int] = {}
        self._seen: set[str] = set()
        self._nodes: set[str] = set()
        self._end_ms = self._intervals = self._observed_ms = 0
        self._both_ms: Counter[str] = Counter()
        self._covered_ms = self._covered_before_ms = 0

    def _judge_of_present(self, interval_ms: int) -> _Judge | None:
        """Make what judges by the present rules: only what differs, as all else is found already."""
        if self._present is None or not self._changed:
            return None
        parents, about = ancestors(self._present), self._changed & self._present.keys()
        needed = about.union(*(parents[name] for name in about))
        return _Judge(
            {name: rule for name, rule in self._present.items() if name in needed}, interval_ms, about
        )

    def take(self, moments: Iterable[Moment]) -> None:
        """Judge some more of the past."""
        for moment in moments:
            end_ms = moment.scene.end_ms
            self._end_ms = max(end_ms, self._end_ms)
            if end_ms > self._from_ms:
                self._intervals += 1
                self._nodes.add(moment.scene.node)
            self._pass(moment, end_ms)
            touched = self._judge.take(moment, end_ms)
            if self._other is not None:
                touched &= self._other.take(moment, end_ms)
                for uuid in touched:
                    self._meet(uuid)

    def _pass(self, moment: Moment, end_ms: int) -> None:
        """Let the time go by that lies between the interval before and the end of this one."""
        until, from_ms = self._until, self._from_ms
        for reading in moment.scene.readings:
            uuid = reading.uuid
            before_ms = until.get(uuid, reading.start_ms)
            if end_ms <= before_ms:
                continue  # the clock was set back: that time is counted already
            until[uuid] = end_ms
            spent_ms = end_ms - max(before_ms, from_ms)
            if spent_ms > 0:
                self._seen.add(uuid)
                self._spend(uuid, spent_ms, moment.seats.get(uuid, ()))

    def _spend(self, uuid: str, spent_ms: int, seats: Sequence[Seat]) -> None:
        self._observed_ms += spent_ms
        known_ms = min(spent_ms, self._unsure_ms) if seats else spent_ms
        here = self._judge.open.get(uuid, _NOTHING)
        if here:
            self._covered_ms += spent_ms
            self._judge.spend(uuid, known_ms, spent_ms - known_ms, seats)
        if self._other is None:
            return
        there = self._other.open.get(uuid, _NOTHING)
        if there:
            self._other.spend(uuid, known_ms, spent_ms - known_ms, seats)
            for rule in here.keys() & there.keys():
                self._both_ms[rule] += spent_ms
        if there or not here.keys() <= self._changed:
            self._covered_before_ms += spent_ms

    def _meet(self, uuid: str) -> None:
        """Note what is open by both."""
        assert self._other is not None  # noqa: S101  for the type checker
        here, there = self._judge.open[uuid], self._other.open[uuid]
        for rule in here.keys() & there.keys():
            here[rule].is_in_both = there[rule].is_in_both = True

    def outcome(self) -> Outcome:
        """Sum up; what is still open was so until the last interval of all."""
        for uuid, before_ms in self._until.items():
            spent_ms = self._end_ms - max(before_ms, self._from_ms)
            if spent_ms > 0 and before_ms < self._end_ms:
                self._left_over(uuid, spent_ms)
        rules, present = self._judge.cases, None
        if self._present is not None and self._other is not None:
            for case in rules:
                case.is_in_both = case.is_in_both or case.finding.rule not in self._changed
            shared = [case for case in rules if case.finding.rule not in self._changed]
            whom = {**self._judge.whom, **{name: self._other.whom[name] for name in self._changed}}
            cases = [*shared, *self._other.cases]
            present = self._side(self._present, cases, whom, self._covered_before_ms)
            for case in shared:
                self._both_ms[case.finding.rule] += case.open_ms
        return Outcome(
            intervals=self._intervals,
            nodes=len(self._nodes),
            gpus=len(self._seen),
            observed_ms=self._observed_ms,
            rules=self._side(self._rules, rules, self._judge.whom, self._covered_ms),
            present=present,
            both_ms=dict(self._both_ms),
            is_same=self._present is not None and not self._changed,
        )

    def _side(
        self,
        rules: Rules,
        cases: Iterable[Case],
        whom: Mapping[str, Counter[Seat | None]],
        covered_ms: int,
    ) -> Side:
        """Sum up what was open at some time of what was asked for."""
        kept = [
            one for one in cases if one.finding.closed_ms is None or one.finding.closed_ms > self._from_ms
        ]
        by_rule: defaultdict[str, list[Case]] = defaultdict(list)
        for case in kept:
            by_rule[case.finding.rule].append(case)
        told = {
            name: RuleOutcome.of(rule, by_rule[name], whom.get(name, Counter()))
            for name, rule in rules.items()
        }
        return Side(rules=told, cases=tuple(kept), covered_ms=covered_ms)

    def _left_over(self, uuid: str, spent_ms: int) -> None:
        """Count the time of what stayed open on a GPU that was not seen to the end."""
        sides = [self._judge] if self._other is None else [self._judge, self._other]
        if any(side.open.get(uuid) for side in sides):
            self._seen.add(uuid)
            self._until[uuid] = self._end_ms
            self._spend(uuid, spent_ms, ())
