"""Scenes for rules: one GPU or a few, interval by interval."""

from collections.abc import Iterable, Mapping, Sequence

from agent.quantities import Amount
from agent.scene import Scene
from agent.tick import Condition, State, reading_of
from rules.definition import Rule
from rules.engine import Engine

NODE = "hall2-n017"
GPUS = ("GPU-a", "GPU-b", "GPU-c", "GPU-d")
START_MS, INTERVAL_MS = 1_767_657_600_000, 10_000
MODEL = "NVIDIA H200"


class Stage:
    """A node whose intervals are judged one after the other."""

    def __init__(self, rules: Mapping[str, Rule], engine: Engine | None = None) -> None:
        self.engine = engine or Engine(rules, INTERVAL_MS)
        self.end_ms = START_MS
        self.xids: dict[tuple[str, int], int] = {}

    def skip(self, intervals: int) -> None:
        """Let time pass unseen."""
        self.end_ms += intervals * INTERVAL_MS

    def scene(
        self,
        values: Mapping[str, Amount] | Sequence[Mapping[str, Amount]] | None,
        *,
        state: State = State.ACTIVE,
        condition: Condition = Condition.OK,
        workload: str = "",
    ) -> Scene:
        """Make the scene of the next interval, of the first GPU or of several."""
        several: Iterable[Mapping[str, Amount]] = (
            [values or {}] if not isinstance(values, Sequence) else values
        )
        self.end_ms += INTERVAL_MS
        readings = [
            reading_of(uuid, self.end_ms - INTERVAL_MS, self.end_ms, dict(one), condition=condition)
            for uuid, one in zip(GPUS, several, strict=False)
        ]
        return Scene(
            node=NODE,
            end_ms=self.end_ms,
            readings=readings,
            states=dict.fromkeys(GPUS, state),
            models=dict.fromkeys(GPUS, MODEL),
            workloads=dict.fromkeys(GPUS, frozenset({workload})),
            xids=self.xids,
        )

    def see(
        self,
        values: Mapping[str, Amount] | Sequence[Mapping[str, Amount]] | None,
        *,
        state: State = State.ACTIVE,
        condition: Condition = Condition.OK,
        workload: str = "",
        intervals: int = 1,
    ) -> set[tuple[str, str]]:
        """Judge intervals; give rule and GPU of what is open in the end."""
        found: list[tuple[str, str]] = []
        for _ in range(intervals):
            scene = self.scene(values, state=state, condition=condition, workload=workload)
            found = [(one.rule, one.uuid) for one in self.engine.judge(scene)]
        return set(found)
