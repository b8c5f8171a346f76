"""Which state a GPU is in: a pure judgement over one reading, first match wins.

The judgement does not know time: whether a held GPU without activity is in a gap or idle depends on how long
that has lasted, which agent/spells.py tells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from agent.errors import SettingsError
from agent.tick import Condition, Hold, Holder, Process, Reading, Slice, State, Workload

UNATTRIBUTED = "unattributed"
"""The owner of a held GPU whose holder nobody could name."""

LEAST_WEIGHT = 1e-6
"""Less of a GPU than this is the rounding of its slices' weights."""
_UNATTRIBUTED = {
    (kind, workload.value): Hold(Holder(kind=kind, name="", owner=UNATTRIBUTED, workload=workload))
    for kind in ("process", "memory", "activity")
    for workload in Workload
}
"""Who holds a GPU that nobody is named for: by what shows that it is held, and by class of work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSettings:
    """The thresholds behind the states; ratios are shares of an interval, patience is per workload class.

    The SM threshold sits below the busy threshold since a resident kernel may use few multiprocessors.
    """

    active_busy_ratio: float = 0.05
    active_sm_ratio: float = 0.02
    held_memory_bytes: int = 512 * 1024 * 1024
    held_memory_ratio: float = 0.01
    patience_batch_seconds: float = 1800.0
    patience_interactive_seconds: float = 3600.0
    patience_serving_seconds: float = 86400.0
    spell_unknown_seconds: float = 600.0
    default_workload: str = "batch"
    service_owners: tuple[str, ...] = ()
    drain_file: str = ""
    missing_days: float = 7.0

    def __post_init__(self) -> None:
        """Refuse values that cannot be meant."""
        for name in ("active_busy_ratio", "active_sm_ratio", "held_memory_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"[states] {name} is a share of the whole: give a number from 0 to 1")
        for name in (
            "held_memory_bytes",
            "patience_batch_seconds",
            "patience_interactive_seconds",
            "patience_serving_seconds",
            "spell_unknown_seconds",
            "missing_days",
        ):
            if not 0 <= getattr(self, name) <= 10**15:
                raise SettingsError(f"[states] {name} must not be negative")
        if self.default_workload not in set(Workload):
            raise SettingsError(f"[states] default_workload must be one of {', '.join(Workload)}")

    def patience_ms(self, workload: Workload) -> int:
        """How long a holder of this class may pause before its time counts as idle."""
        match workload:
            case Workload.BATCH:
                seconds = self.patience_batch_seconds
            case Workload.INTERACTIVE:
                seconds = self.patience_interactive_seconds
            case Workload.SERVING:
                seconds = self.patience_serving_seconds
        return round(seconds * 1000)


class Verdict(NamedTuple):
    """A state, and who answers for it. `held_gap` stands for held without activity, however long.

    It is about `weight` of the GPU: all of it, or a slice by its UUID.
    """

    state: State
    holds: Sequence[Hold] = ()
    weight: float = 1.0
    slice: str = ""


def activity(reading: Reading | Slice, settings: StateSettings) -> bool | None:
    """Tell whether the GPU or slice worked in the interval; None where the device would not say."""
    if isinstance(reading, Slice):
        active = reading.sm_active_ratio
        return None if active is None else active >= settings.active_sm_ratio
    for engine in (reading.encoder_ratio, reading.decoder_ratio, reading.jpeg_ratio, reading.ofa_ratio):
        if engine is not None and engine > 0:
            return True
    if reading.sm_active_ratio is not None:
        return reading.sm_active_ratio >= settings.active_sm_ratio
    if reading.busy_ratio is not None:
        return reading.busy_ratio >= settings.active_busy_ratio
    return None


def _memory_held(reading: Reading | Slice, settings: StateSettings) -> bool | None:
    if reading.memory_used_bytes is None:
        return None
    share = (reading.memory_total_bytes or 0.0) * settings.held_memory_ratio
    return reading.memory_used_bytes > max(settings.held_memory_bytes, share)


def at_work(reading: Reading) -> list[Process]:
    """List the processes that hold the GPU: a display server, which sits on every GPU, holds none."""
    return [one for one in reading.processes or () if one.kind != "graphics"]


def judge(
    reading: Reading, holds: Sequence[Hold], settings: StateSettings, *, drained: bool = False
) -> Verdict:
    """Judge one reading as a whole with the holders that were found for it."""
    if drained:
        return Verdict(State.DRAINED)
    if reading.condition is not Condition.OK:
        return Verdict(State.DOWN)
    return _judged(reading, holds, at_work(reading), settings)


def judge_parts(
    reading: Reading, holds: Sequence[Hold], settings: StateSettings, *, drained: bool = False
) -> Sequence[Verdict]:
    """Judge one reading in its parts; their weights sum to 1.

    A whole GPU is one part. A partitioned one has one for each slice, and one for what is in no slice, which
    nobody can hold: it is free, or unknown where the size of a slice is.
    """
    if not reading.slices or drained or reading.condition is not Condition.OK:
        return (judge(reading, holds, settings, drained=drained),)
    verdicts, left = [], 1.0
    for one in reading.slices:
        weight = min(one.weight_ratio, left)
        left -= weight
        working = [process for process in at_work(reading) if process.slice == one.uuid]
        verdict = _judged(one, _holds_of(one, holds), working, settings)
        verdicts.append(verdict._replace(weight=weight, slice=one.uuid))
    if left > LEAST_WEIGHT:
        sized = all(one.weight_ratio for one in reading.slices)
        verdicts.append(Verdict(State.FREE if sized else State.UNKNOWN, weight=left))
    return verdicts


def _holds_of(one: Slice, holds: Sequence[Hold]) -> Sequence[Hold]:
    """Find who holds a slice: who was given it or runs on it, else who holds the GPU as a whole."""
    own = [hold for hold in holds if hold.slice == one.uuid]
    return own or [hold for hold in holds if not hold.slice]


def _judged(
    reading: Reading | Slice, holds: Sequence[Hold], working: Sequence[Process], settings: StateSettings
) -> Verdict:
    active = activity(reading, settings)
    by_memory = _memory_held(reading, settings)
    if not holds and (working or by_memory):
        holds = (_UNATTRIBUTED["process" if working else "memory", settings.default_workload],)
    if active is None:
        nothing_seen = by_memory is None and not isinstance(reading, Slice) and reading.processes is None
        return Verdict(State.UNKNOWN if holds or nothing_seen else State.FREE)
    if holds and settings.service_owners and all(_is_service(hold.holder, settings) for hold in holds):
        return Verdict(State.SERVICE, holds)
    if active:
        return Verdict(State.ACTIVE, holds or (_UNATTRIBUTED["activity", settings.default_workload],))
    return Verdict(State.HELD_GAP, holds) if holds else Verdict(State.FREE)


def _is_service(holder: Holder, settings: StateSettings) -> bool:
    return any(fnmatchcase(holder.owner, pattern) for pattern in settings.service_owners)
