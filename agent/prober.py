"""The parent's side of the probe: starts it, reads its frames with a deadline, and replaces it.

Whatever happens to the driver happens to a probe; the parent only ever sees frames, silence or an end. A GPU
in whose call a probe hangs is named, and a fresh probe goes on without it. From time to time another probe
tries that GPU alone; once it answers, it is taken in again. Probes that hang are left alone, and are few.
"""

import select
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf

from agent.cadence import SETTLE_SECONDS, SamplerSettings
from agent.cell import NO_GPU
from agent.child import Child, command
from agent.errors import FrameError
from agent.frames import Absent, Frame
from agent.mission import Mission
from agent.tick import Gpu, Tick

FIRST_FRAME_SECONDS = 30.0
"""Without persistence mode the driver takes seconds to wake each GPU."""
SILENCE_SECONDS = 8.0
"""A probe silent for longer than this beyond a poll is of no more use, whatever it does."""
HUNG_SECONDS = 4.0
"""A call on a GPU that lasts so long hangs: the driver gives its firmware 6 s and then logs XID 119. With all
that follows, a fresh probe tells of the other GPUs before the silence would be entered."""
SURE_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 3600.0
PATIENCE_SECONDS = 2.0
"""How long a probe may take to close its interval."""
FAREWELL_SECONDS = 0.6
"""How long a probe may take to end, each time it is asked."""
BACK_OFF_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
TRY_AGAIN_SECONDS = (30.0, 60.0, 120.0, 300.0, 600.0)
"""How long a hung GPU is left alone before it is tried once more."""
MOST_STUCK = 8
"""With so many probes stuck in the driver no other is started."""
MOST_STUCK_TO_TRY = 3
"""With so many stuck, hung GPUs are not tried."""


@dataclass(frozen=True, slots=True)
class Ended:
    """There is no probe now: why, and in how many seconds the next one starts."""

    reason: str
    retry_seconds: float


@dataclass(frozen=True, slots=True)
class Hung:
    """A driver call does not come back: which function, for how long; on which GPU, if that is known."""

    index: int
    gpu: Gpu | None
    function: str
    seconds: float


@dataclass(slots=True)
class _Sick:
    """A GPU that hung: who it is, how often it was tried since, and when it is tried again."""

    gpu: Gpu | None
    try_at: float
    tries: int = 0


class Prober:
    """Keeps a probe running; `wake` is a descriptor that becomes readable when waiting shall stop."""

    def __init__(
        self, settings: SamplerSettings, node: str, simulation: str = "", wake: int | None = None
    ) -> None:
        self._mission = Mission(node=node, settings=settings, cell=-1, simulation=simulation)
        self._command: Callable[[Mission], Sequence[str]] = command
        self._wake = wake
        self._child: Child | None = None
        self._failures = 0
        self._start_at = 0.0
        self._deadline = 0.0
        self._absent = ""
        self._gpus: dict[int, Gpu] = {}
        self._sick: dict[int, _Sick] = {}
        self._trial: tuple[int, Child] | None = None
        self._stuck: list[Child] = []

    def know(self, gpus: Iterable[Gpu]) -> None:
        """Name GPUs that were met before, so that one which hangs at the start has a name."""
        self._gpus |= {gpu.index: gpu for gpu in gpus}

    @property
    def pid(self) -> int | None:
        """The probe's process id while there is one."""
        return self._child.pid if self._child else None

    @property
    def stuck(self) -> int:
        """How many probes hang in the driver and were left alone."""
        self._stuck = [child for child in self._stuck if not child.ended()]
        return len(self._stuck)

    @property
    def _patience_seconds(self) -> float:
        return self._mission.settings.poll_seconds + SETTLE_SECONDS + SILENCE_SECONDS

    def next(self, timeout_seconds: float) -> Frame | Ended | Hung | None:
        """Give the next frame, the end of a probe, or None when the time is over or `wake` was touched."""
        until = time.monotonic() + timeout_seconds
        while True:
            now = time.monotonic()
            self._try_the_sick(now)
            child = self._child
            if child is None:
                if now >= self._start_at:
                    failed = self._start()
                    if failed:
                        return failed
                elif not self._wait(None, min(until, self._start_at) - now) or now >= until:
                    return None
                continue
            # What waits in the pipe is read before the probe is judged: the parent may be the late one.
            came = self._take(child)
            if came is not None:
                return came
            call = child.hangs(HUNG_SECONDS, SURE_SECONDS)
            if call:
                return self._go_on_without(call.gpu, call.function, now - call.since_ns / 1e9)
            deadline = max(self._deadline, child.beat_seconds() + self._patience_seconds)
            if now >= deadline:
                return self._give_up(child, now)
            soon = min(until, deadline, now + child.judge_in(HUNG_SECONDS, SURE_SECONDS))
            if now >= until or not self._wait(child.out, soon - now):
                return None

    def finish(self) -> list[Tick]:
        """Let the probe end, and give what it still says: above all the interval in progress."""
        ticks: list[Tick] = []
        self._give_up_trial()
        until = time.monotonic() + PATIENCE_SECONDS
        if self._child:
            self._child.dismiss()
        while self._child and (left := until - time.monotonic()) > 0:
            came = self._take(self._child)
            if isinstance(came, Tick):
                ticks.append(came)
            elif came is None and self._child:
                self._wait(self._child.out, left, wakes=False)
        if self._child:  # it had its time, so the end of the agent does not wait for it any more
            self._leave(self._child)
            self._child = None
        return ticks

    def adopt(self, settings: SamplerSettings) -> list[Tick]:
        """Read by other settings from now on; give what the probe still says if it must be another."""
        if settings == self._mission.settings:
            return []
        ticks = self.finish()
        self._mission = replace(self._mission, settings=settings)
        if self._start_at != inf:  # else it rests
            self._start_at = 0.0
        return ticks

    def rest(self) -> None:
        """End the probe, and start no other until `resume`."""
        self._stop(self._child)
        self._give_up_trial()
        self._start_at = inf

    def resume(self) -> None:
        """Start a probe when the next frame is asked for."""
        self._start_at = 0.0

    def close(self) -> None:
        """End the probe for good."""
        self._give_up_trial()
        self._stop(self._child)
        for child in self._stuck:
            child.forget()

    def _wait(self, source: int | None, seconds: float, *, wakes: bool = True) -> bool:
        """Wait for a probe or for time; False when woken."""
        waiting = select.poll()
        if source is not None:
            waiting.register(source, select.POLLIN)
        if self._trial:
            waiting.register(self._trial[1].out, select.POLLIN)
        if wakes and self._wake is not None:
            waiting.register(self._wake, select.POLLIN)
        events = waiting.poll(min(max(0.0, seconds), LONGEST_WAIT_SECONDS) * 1000)
        return all(descriptor != self._wake for descriptor, _ in events)

    def _launch(self, shunned: Sequence[int]) -> Child:
        gpus = {index: self._gpus.get(index) for index in shunned}
        return Child(partial(_with_cell, replace(self._mission, shunned=gpus)), self._command)

    def _start(self) -> Ended | None:
        self._absent = ""
        if self.stuck >= MOST_STUCK:
            return self._end(f"{MOST_STUCK} probes hang in the driver; the next one waits for one to end")
        try:
            self._child = self._launch(list(self._sick))
        except OSError as error:
            return self._end(f"it cannot be started: {error.strerror}")
        self._deadline = time.monotonic() + FIRST_FRAME_SECONDS
        return None

    def _take(self, child: Child) -> Frame | Ended | None:
        """Give a frame that was read, or the end of a child that closed its pipe."""
        try:
            frame = child.frame()
            if frame is None and not child.read():
                frame = child.frame()
                if frame is None:
                    words = child.last_words()
                    code = self._stop(child)
                    ended = f"it ended with exit code {code}" + (f": {words}" if words else "")
                    return self._end(self._absent or ended)
            frame = frame or child.frame()
        except FrameError as error:
            return self._end(str(error))
        if frame is None:
            return None
        self._deadline = time.monotonic() + self._patience_seconds
        if isinstance(frame, Absent):
            self._absent = frame.sentence
        else:
            self._failures = 0
        if isinstance(frame, Tick):
            self._gpus |= {gpu.index: gpu for gpu in frame.gpus or ()}
        return frame

    def _give_up(self, child: Child, now: float) -> Ended | Hung:
        """Do without a probe that is silent, or without the GPU whose calls take all its time."""
        call = child.in_call()
        seconds = now - call.since_ns / 1e9 if call else 0.0
        if call and call.gpu != NO_GPU and seconds >= SURE_SECONDS:
            return self._go_on_without(call.gpu, call.function, seconds)
        what = f"{call.function} does not come back" if call else "a driver call hangs"
        return self._end(f"no sign of life for {SILENCE_SECONDS:.0f} s: {what}")

    def _end(self, reason: str) -> Ended:
        self._stop(self._child)
        self._child = None
        pause = BACK_OFF_SECONDS[min(self._failures, len(BACK_OFF_SECONDS) - 1)]
        self._failures += 1
        self._start_at = time.monotonic() + pause
        return Ended(reason, pause)

    def _stop(self, child: Child | None) -> int | None:
        """Ask a child to end; one that hangs in the kernel is left behind."""
        if child is None:
            return None
        if child is self._child:
            self._child = None
        code = child.end(FAREWELL_SECONDS)
        if not child.ended():
            self._stuck.append(child)
        return code

    def _leave(self, child: Child) -> None:
        """Ask a child to end, and do not wait for it."""
        child.end(0.0)
        self._stuck.append(child)

    def _go_on_without(self, index: int, function: str, seconds: float) -> Hung:
        """Leave a probe that hangs alone, and start a fresh one that does not touch its GPU."""
        child, self._child = self._child, None
        if child:
            self._leave(child)
        self._sick[index] = _Sick(self._gpus.get(index), time.monotonic() + TRY_AGAIN_SECONDS[0])
        self._start_at = 0.0
        return Hung(index, self._gpus.get(index), function, seconds)

    def _try_the_sick(self, now: float) -> None:
        """Let a probe of its own touch a hung GPU when its time has come; take the GPU in if it answers."""
        if self._trial is None:
            due = [index for index, sick in self._sick.items() if now >= sick.try_at]
            if due and self._child and self.stuck < MOST_STUCK_TO_TRY:
                self._begin_trial(due[0])
            return
        index, child = self._trial
        try:
            alive = child.read()
            frame = child.frame()
        except FrameError:
            alive, frame = False, None
        if isinstance(frame, Tick):
            self._give_up_trial()
            del self._sick[index]
            if self._child:
                self._child.order(f"admit {index}")
        elif (
            not alive or child.hangs(HUNG_SECONDS, SURE_SECONDS) or now > child.started + FIRST_FRAME_SECONDS
        ):
            self._give_up_trial()

    def _begin_trial(self, index: int) -> None:
        sick = self._sick[index]
        sick.tries += 1
        sick.try_at = time.monotonic() + TRY_AGAIN_SECONDS[min(sick.tries, len(TRY_AGAIN_SECONDS) - 1)]
        try:
            self._trial = index, self._launch(sorted({*self._gpus, *self._sick} - {index}))
        except OSError:
            return

    def _give_up_trial(self) -> None:
        if self._trial:
            child, self._trial = self._trial[1], None
            self._leave(child)


def _with_cell(mission: Mission, cell: int) -> Mission:
    return replace(mission, cell=cell)
