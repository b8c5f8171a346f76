"""What happens to a node: logged when it begins and when it ends, and kept as events for the journal."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping

from agent.clock import Clock
from agent.tick import Condition, Event, Tick

log = logging.getLogger("gputally")


class Chronicle:
    """Gathers events between two ticks. `absent` is why the GPUs cannot be read now, if they cannot."""

    def __init__(self, node: str, clock: Clock) -> None:
        self.absent = ""
        self._node = node
        self._clock = clock
        self._conditions: dict[str, Condition] = {}
        self._troubles: Mapping[str, str] = {}
        self._events: list[Event] = []

    def take(self) -> list[Event]:
        """Give the events since the last time."""
        events, self._events = self._events, []
        return events

    def add(self, events: Iterable[Event]) -> None:
        """Log events that others made, and keep them."""
        for event in events:
            log.warning("GPU %s: %s", event.uuid, event.text) if event.uuid else log.warning(event.text)
            self._events.append(event)

    def keep(self, event: Event) -> None:
        """Keep an event that was logged already."""
        self._events.append(event)

    def tell(self, kind: str, text: str, uuid: str = "") -> None:
        """Log something that happened, and keep it as an event."""
        log.warning(text)
        self._note(kind, text, uuid)

    def _note(self, kind: str, text: str, uuid: str = "") -> None:
        at_ms = self._clock.wall_ms()
        self._events.append(Event(at_ms=at_ms, node=self._node, kind=kind, text=text, uuid=uuid))

    def note_absent(self, reason: str) -> None:
        """Tell that the GPUs cannot be read, or, without a reason, that they can; once for each."""
        if reason == self.absent:
            return
        if reason:
            log.warning("the GPUs cannot be read now: %s (will go on trying)", reason)
            self._note("probe_absent", reason)
        else:
            log.info("the GPUs are being read again")
            self._note("probe_back", "the probe reads again")
        self.absent = reason

    def note_worlds(self, troubles: Mapping[str, str]) -> None:
        """Tell when what knows holders fails, and when it answers again; once for each."""
        for world, trouble in troubles.items():
            if trouble and not self._troubles.get(world):
                log.warning("%s: holders may go without a name: %s", world, trouble)
                self._note("holders_unknown", f"{world}: {trouble}")
            elif self._troubles.get(world) and not trouble:
                log.info("%s names holders again", world)
                self._note("holders_known", f"{world} names holders again")
        self._troubles = troubles

    def note_gpus(self, tick: Tick) -> None:
        """Tell when GPUs come, and when one's condition changes."""
        new = [gpu for gpu in tick.gpus or () if gpu.uuid not in self._conditions]
        if new:
            models = Counter(gpu.model for gpu in new)
            told = ", ".join(f"{count} x {model}" for model, count in models.items())
            log.info("reading %d GPUs: %s", len(new), told)
        self._conditions |= {gpu.uuid: Condition.OK for gpu in new}
        for reading in tick.readings:
            before = self._conditions.get(reading.uuid, Condition.OK)
            if reading.condition is before:
                continue
            self._conditions[reading.uuid] = reading.condition
            log.warning("GPU %s is %s, it was %s", reading.uuid, reading.condition, before)
            text = f"the GPU is {reading.condition}, it was {before}"
            self._events.append(
                Event(at_ms=tick.end_ms, node=tick.node, kind="gpu_condition", text=text, uuid=reading.uuid)
            )
