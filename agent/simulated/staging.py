"""How the GPUs of a model play a scenario, and what faults make them do instead."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from agent.simulated.faults import ALWAYS_US, NEVER_US, NO_FAULTS, Fault, Faults
from agent.simulated.models import Model
from agent.simulated.phases import Phase, SimProcess, Timeline, scatter
from agent.simulated.playbook import SCENARIOS, Act, Job
from agent.simulated.turns import History, Turns
from agent.tick import Process


class Stage(NamedTuple):
    """A GPU and the scenario that it plays when no fault makes it do something else."""

    model: Model
    gpu: int
    name: str

    def history(self, faults: Faults = NO_FAULTS) -> History:
        """Return what the GPU does over all time."""
        pids: dict[Job, int] = {}

        @cache
        def line(played: Fault | None, slowed: tuple[Fault, ...]) -> Timeline:
            if slowed:
                return _lowered(self.model, line(played, slowed[:-1]), slowed[-1])
            return self._timeline(played.word if played else self.name, pids)

        own = line(None, ())
        meddling = (*faults.of("plays", self.gpu), *faults.of("slowed", self.gpu))
        if not meddling:
            return own
        edges = {ALWAYS_US, *(edge for one in meddling for edge in (one.start_us, one.end_us))}
        turns = [
            (
                edge,
                line(
                    faults.now("plays", self.gpu, edge),
                    tuple(one for one in faults.of("slowed", self.gpu) if one.holds(edge)),
                ),
            )
            for edge in sorted(edges - {NEVER_US})
        ]
        return Turns(turns)

    def _timeline(self, name: str, pids: dict[Job, int]) -> Timeline:
        """Let the GPU play a scenario; each GPU is elsewhere in its patterns."""
        plan = SCENARIOS[name](self.gpu)
        for job in (job for _, act in plan.acts for job in act.jobs):
            pids.setdefault(job, 20_011 + 331 * self.gpu + 17 * len(pids))
        phases = [self._phase(number, *both, pids.__getitem__) for number, both in enumerate(plan.acts)]
        return Timeline(plan.period_us, phases)

    def _phase(self, number: int, start_us: int, act: Act, pid_of: Callable[[Job], int]) -> Phase:
        model, gpu = self.model, self.gpu
        if act.lost:
            return Phase(start_us=start_us, celsius=model.idle_celsius, lost=True)
        offset_us, warmer = scatter(gpu, number), scatter(gpu) % 5
        processes = _processes(model, act.jobs, pid_of)
        busy = act.busy.shifted(offset_us)
        load = act.intensity * busy.on_us / busy.period_us
        warmth = model.idle_celsius + warmer + load * (model.full_celsius - model.idle_celsius)
        return Phase(
            start_us=start_us,
            busy=busy,
            work=act.work if model.links else act.work.without_links(),
            throttles=tuple((reason, lowered.shifted(offset_us)) for reason, lowered in act.throttles),
            idle_milliwatts=model.idle_watts * 1_000,
            active_milliwatts=round((model.peak_watts - model.idle_watts) * 1_000 * act.intensity),
            celsius=model.slowdown_celsius + 0.7 if act.hot else warmth,
            processes=processes,
            listed=tuple(Process(pid=one.pid, memory_used_bytes=one.memory_bytes) for one in processes),
            memory_bytes=sum(one.memory_bytes for one in processes),
            given=act.given,
        )


def _processes(model: Model, jobs: tuple[Job, ...], pid_of: Callable[[Job], int]) -> tuple[SimProcess, ...]:
    usable = model.memory_total_bytes - model.memory_reserved_bytes
    return tuple(
        SimProcess(pid_of(job), job.user, job.command, round(usable * job.memory_share)) for job in jobs
    )


def _lowered(model: Model, line: Timeline, slowed: Fault) -> Timeline:
    """Lower the clocks of all that a GPU does, for one more reason, and so its power and heat."""
    (percent,) = slowed.numbers

    def lowered(phase: Phase) -> Phase:
        others = tuple(one for one in phase.throttles if one[0] != slowed.word)
        return replace(
            phase,
            throttles=(*others, (slowed.word, phase.busy)),
            active_milliwatts=phase.active_milliwatts * percent // 100,
            celsius=model.idle_celsius + (phase.celsius - model.idle_celsius) * percent / 100,
            clock_percent=percent,
        )

    return Timeline(line.period_us, [lowered(phase) for phase in line.phases])
