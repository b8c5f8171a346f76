"""Who does what on simulated GPUs: the scenarios, as plans of acts that the hours of a week bring."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from agent.simulated.phases import HOUR_US, NEVER, SECOND_US, WEEK_US, Given, Pattern, pattern, scatter
from agent.simulated.work import NO_WORK, NOTEBOOK, SERVING, SIMULATING, SPINNING, TRAINING, Work

DAYS = range(7)
WORKDAYS = range(5)


class Job(NamedTuple):
    """A user's process, and the share of the GPU's memory that it keeps."""

    user: str
    command: str
    memory_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What a GPU does for a while. `intensity` is the share of the dynamic power drawn while busy.

    `given` is the job that the scheduler gave the GPU to, whether it runs anything or not.
    """

    busy: Pattern = NEVER
    work: Work = NO_WORK
    intensity: float = 0.0
    jobs: tuple[Job, ...] = ()
    throttles: tuple[tuple[str, Pattern], ...] = ()
    hot: bool = False
    lost: bool = False
    given: Given | None = None


class Plan(NamedTuple):
    """Acts by the moment of a cycle at which they begin; the first begins at 0."""

    period_us: int
    acts: tuple[tuple[int, Act], ...]


@cache
def training() -> Pattern:
    """Make steps of 1.283 s with 45 ms between them, and every 30 minutes a checkpoint of about 49 s."""
    step_us, gap_us, steps = 1_283_000, 45_000, 1_365
    return pattern(1_800 * SECOND_US, ((n * step_us, (n + 1) * step_us - gap_us) for n in range(steps)))


@cache
def bursts(duty_percent: int) -> Pattern:
    """Make one burst in each cell of about 0.84 s, of random start and length; the duty is at most 60 %."""
    cell_us, cells = 837_001, 499

    def burst(cell: int) -> tuple[int, int]:
        share = 0.4 + 1.2 * (scatter(duty_percent, cell, 1) >> 11) / (1 << 53)
        length = round(cell_us * duty_percent / 100 * share)
        start = cell * cell_us + scatter(duty_percent, cell, 2) % (cell_us - length)
        return start, start + length

    return pattern(cell_us * cells, map(burst, range(cells)))


@cache
def pulse(period_seconds: int, start_seconds: int, end_seconds: int) -> Pattern:
    """Make one span in each period."""
    return pattern(period_seconds * SECOND_US, [(start_seconds * SECOND_US, end_seconds * SECOND_US)])


@cache
def steady(duty_percent: int) -> Pattern:
    """Make one span in each 0.8 s."""
    return pattern(800_000, [(0, 8_000 * duty_percent)])


FREE = Act()
LOST = Act(lost=True)

_TRAINERS = (
    Job("alice", "python train.py --config configs/base-13b.toml", 0.87),
    Job("dana", "python -m finetune --model base-7b --epochs 3", 0.71),
    Job("erik", "torchrun --nproc-per-node 1 pretrain.py", 0.91),
    Job("fatima", "python train_vision.py --batch 512", 0.64),
)
_SOLVER = Job("ines", "solve --mesh wing.msh --double", 0.74)
_CHAT = Job("svc-chat", "python -m serving.chat --port 8001", 0.78)
_EMBED = Job("svc-embed", "python -m serving.embed --batch 64", 0.34)
_NOTEBOOK = Job("bob", "python -m ipykernel_launcher -f kernel.json", 0.42)
_STUDY = Job("carol", "python evaluate.py --suite long", 0.55)
_EVALUATION = Given(
    name="88412",
    user="carol",
    account="speech",
    partition="gpu",
    qos="normal",
    title="evaluate-long",
)
_SIDE = Job("grace", "python -m ipykernel_launcher -f scratch.json", 0.12)


def _train(job: Job) -> Act:
    steps = training()
    return Act(busy=steps, work=TRAINING, intensity=0.97, jobs=(job,), throttles=(("power_cap", steps),))


def _hot(job: Job) -> Act:
    """Train while heat lowers the clocks; the hardware steps in only while the driver already did."""
    heat = (("sw_thermal", pulse(30, 0, 20)), ("hw_thermal", pulse(30, 4, 7)))
    return Act(busy=training(), work=TRAINING, intensity=0.74, jobs=(job,), throttles=heat, hot=True)


def _serve(duty_percent: int, *jobs: Job) -> Act:
    flow = bursts(duty_percent)
    return Act(busy=flow, work=SERVING, intensity=0.62, jobs=jobs, throttles=(("reliability", flow),))


def _hold(*jobs: Job) -> Act:
    return Act(jobs=jobs)


def _week(acts: Mapping[float, Act]) -> Plan:
    return Plan(WEEK_US, tuple((round(hour * HOUR_US), acts[hour]) for hour in sorted(acts)))


def _always(act: Act) -> Plan:
    return Plan(WEEK_US, ((0, act),))


def _trains(index: int) -> Plan:
    return _always(_train(_TRAINERS[index % len(_TRAINERS)]))


def _chats(_index: int) -> Plan:
    duty = {0: 12, 2: 4, 6: 12, 8: 30, 10: 45, 13: 38, 15: 50, 18: 40, 21: 24}
    quiet = {0: 8, 2: 3, 8: 15, 12: 22, 22: 10}
    hours: dict[float, Act] = {
        day * 24 + hour: _serve(percent, _CHAT)
        for day in DAYS
        for hour, percent in (duty if day in WORKDAYS else quiet).items()
    }
    return _week(hours)


def _works_by_day(_index: int) -> Plan:
    """Let a job work by day; its allocation outlasts what it runs by an hour and a quarter."""
    hours: dict[float, Act] = {0: FREE}
    for day in WORKDAYS:
        works = replace(_train(_STUDY), given=_EVALUATION)
        hours |= {day * 24 + 8.5: works, day * 24 + 19.75: Act(given=_EVALUATION), day * 24 + 21: FREE}
    return _week(hours)


def _is_forgotten(_index: int) -> Plan:
    at_work = Act(busy=pulse(420, 11, 64), work=NOTEBOOK, intensity=0.55, jobs=(_NOTEBOOK,))
    return _week({0: FREE, 9.25: at_work, 11.5: _hold(_NOTEBOOK), 4 * 24 + 17: FREE})


def _gets_hot(_index: int) -> Plan:
    job = _TRAINERS[1]
    hours: dict[float, Act] = {0: _train(job)}
    for day in DAYS:
        hours |= {day * 24 + 13: _hot(job), day * 24 + 17.5: _train(job)}
    return _week(hours)


def _falls_off(_index: int) -> Plan:
    job = _TRAINERS[2]
    return _week({0: _train(job), 48 + 13: LOST, 48 + 15 + 20 / 60: FREE, 48 + 16: _train(job)})


def _ends_early(_index: int) -> Plan:
    """Train until Friday evening and keep the memory over the weekend."""
    return _week({0: _train(_TRAINERS[3]), 4 * 24 + 18.5: _hold(_TRAINERS[3])})


def _is_shared(_index: int) -> Plan:
    hours: dict[float, Act] = {0: _serve(50, _EMBED)}
    for day in DAYS:
        hours |= {day * 24 + 6: _serve(4, _EMBED), day * 24 + 22: _serve(50, _EMBED)}
    for day in WORKDAYS:
        hours |= {day * 24 + 10: _serve(15, _EMBED, _SIDE), day * 24 + 16.5: _serve(4, _EMBED)}
    return _week(hours)


_COMPUTE = Act(busy=steady(100), work=SIMULATING, intensity=0.83, jobs=(_SOLVER,))
"""Without a pause and without matrices: physics in double precision."""


def _stalls(index: int) -> Plan:
    """Spin for ever: another GPU of the job never came to the collective."""
    job = _TRAINERS[index % len(_TRAINERS)]
    return _always(Act(busy=steady(100), work=SPINNING, intensity=0.22, jobs=(job,)))


def _waits(index: int) -> Plan:
    """Have a share of the work that is next to nothing, and wait for the others."""
    job = _TRAINERS[index % len(_TRAINERS)]
    return _always(Act(busy=steady(4), work=TRAINING, intensity=0.9, jobs=(job,)))


def _is_lost_at_times(index: int) -> Plan:
    act = _train(_TRAINERS[index % len(_TRAINERS)])
    minute = 60 * SECOND_US
    return Plan(10 * minute, ((0, act), (2 * minute, LOST), (4 * minute, act)))


_DEMO = (
    _trains,
    _chats,
    _is_forgotten,
    _gets_hot,
    _works_by_day,
    _falls_off,
    _ends_early,
    _is_shared,
)

_SIMPLE: Mapping[str, Callable[[int], Plan]] = {
    "training": _trains,
    "bursty": lambda _index: _always(_serve(30, _CHAT)),
    "held": lambda _index: _always(_hold(_NOTEBOOK)),
    "free": lambda _index: _always(FREE),
    "hot": lambda index: _always(_hot(_TRAINERS[index % len(_TRAINERS)])),
    "lost": _is_lost_at_times,
}

SCENARIOS: Mapping[str, Callable[[int], Plan]] = {
    "demo": lambda index: _DEMO[index % len(_DEMO)](index),
    **_SIMPLE,
    "computing": lambda _index: _always(_COMPUTE),
    "stalled": _stalls,
    "waiting": _waits,
    "given": lambda _index: _always(Act(given=_EVALUATION)),
    "lost": lambda index: (_trains if index else _is_lost_at_times)(index),
    "mixed": lambda index: tuple(_SIMPLE.values())[index % len(_SIMPLE)](index),
}
"""Name of a scenario → the plan of the GPU with an index. `demo` is a week; the others show one thing."""
