"""The vocabulary, and the single list of quantities.

Every quantity is a field of `Reading`, annotated with its kind and help. Exposition, the journal's columns,
the replay format and docs/metrics.md derive from it. A name ends in a base unit, or this module does not
import. `None` means that the device would not say: it is never 0 and never a sentinel.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple, get_type_hints

Amount = float | None
"""A quantity in its base unit; None where the device would not say."""

GAUGE_UNITS = ("_ratio", "_bytes", "_watts", "_celsius", "_hertz", "_seconds")
COUNTER_UNITS = ("_joules_total", "_seconds_total", "_bytes_total", "_total")


class State(StrEnum):
    """What a GPU is at any moment: exactly one of these. The order is the order of display."""

    ACTIVE = "active"
    HELD_GAP = "held_gap"
    HELD_IDLE = "held_idle"
    FREE = "free"
    SERVICE = "service"
    DRAINED = "drained"
    DOWN = "down"
    UNKNOWN = "unknown"


class Condition(StrEnum):
    """Whether a GPU can be spoken with; anything but `ok` makes it `down`."""

    OK = "ok"
    LOST = "lost"
    RESET_REQUIRED = "reset_required"
    HUNG = "hung"
    MISSING = "missing"


class Workload(StrEnum):
    """The class of a holder's work; each class has its own patience."""

    BATCH = "batch"
    INTERACTIVE = "interactive"
    SERVING = "serving"


class Metric(NamedTuple):
    """What is said of a quantity once. With `family` and `label`, several fields make one metric."""

    kind: Literal["gauge", "counter"]
    help: str
    family: str = ""
    label: tuple[str, str] | None = None


def _gauge(text: str) -> Metric:
    return Metric("gauge", text)


def _counter(text: str) -> Metric:
    return Metric("counter", text)


def _throttle(reason: str, text: str) -> Metric:
    return Metric("counter", text, "throttle_seconds_total", ("reason", reason))


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process with a context on a GPU; pid as the host sees it."""

    pid: int
    memory_used_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a GPU: `kind` says which world named it, `owner` is the group that answers for it."""

    kind: str
    name: str
    owner: str
    user: str = ""
    workload: Workload = Workload.BATCH

    def __hash__(self) -> int:
        return hash(self.name)


class Hold(NamedTuple):
    """A holder and its share of the GPU, or None where the share is not known."""

    holder: Holder
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A physical device. The UUID is its identity; the index is for display only and may change."""

    uuid: str
    index: int
    model: str
    serial: str = ""
    board_part: str = ""
    vbios: str = ""
    driver: str = ""
    cuda: str = ""
    pci_bus: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one GPU did over one interval [start_ms, end_ms).

    Quantities have no defaults, so that a reader which forgets one does not type-check.
    """

    uuid: str
    start_ms: int
    end_ms: int
    condition: Condition = Condition.OK
    processes: tuple[Process, ...] | None = None

    busy_ratio: Annotated[Amount, _gauge("Share of the interval in which any kernel was resident")]
    memory_busy_ratio: Annotated[
        Amount, _gauge("Share of the interval in which device memory was read or written")
    ]
    sm_active_ratio: Annotated[
        Amount, _gauge("Mean share of streaming multiprocessors with at least one warp resident")
    ]
    encoder_ratio: Annotated[Amount, _gauge("Share of the interval in which a video encoder worked")]
    decoder_ratio: Annotated[Amount, _gauge("Share of the interval in which a video decoder worked")]
    jpeg_ratio: Annotated[Amount, _gauge("Share of the interval in which a JPEG engine worked")]
    ofa_ratio: Annotated[Amount, _gauge("Share of the interval in which the optical flow accelerator worked")]
    memory_used_bytes: Annotated[Amount, _gauge("Device memory in use without the driver's own, mean")]
    memory_used_max_bytes: Annotated[
        Amount, _gauge("Device memory in use without the driver's own, largest of the polls")
    ]
    memory_reserved_bytes: Annotated[Amount, _gauge("Device memory that driver and firmware keep")]
    memory_total_bytes: Annotated[Amount, _gauge("Device memory installed")]
    power_watts: Annotated[Amount, _gauge("Electric power, mean over the interval")]
    power_limit_watts: Annotated[Amount, _gauge("Power limit that the driver enforces")]
    energy_joules_total: Annotated[Amount, _counter("Energy used since the driver was loaded")]
    temperature_celsius: Annotated[Amount, _gauge("Core temperature, mean of the polls")]
    temperature_max_celsius: Annotated[Amount, _gauge("Core temperature, largest of the polls")]
    temperature_slowdown_celsius: Annotated[
        Amount, _gauge("Core temperature at which hardware slows the clocks down")
    ]
    temperature_shutdown_celsius: Annotated[
        Amount, _gauge("Core temperature at which the device switches itself off")
    ]
    memory_temperature_celsius: Annotated[Amount, _gauge("Device memory temperature, mean of the polls")]
    memory_temperature_max_celsius: Annotated[
        Amount, _gauge("Device memory temperature, largest of the polls")
    ]
    sm_clock_hertz: Annotated[Amount, _gauge("Clock of the streaming multiprocessors, mean of the polls")]
    sm_clock_max_hertz: Annotated[Amount, _gauge("Highest clock the streaming multiprocessors can run at")]
    memory_clock_hertz: Annotated[Amount, _gauge("Clock of the device memory at the end of the interval")]
    throttle_power_cap_seconds_total: Annotated[
        Amount, _throttle("power_cap", "Time with clocks lowered, by reason; reasons overlap")
    ]
    throttle_sync_boost_seconds_total: Annotated[
        Amount, _throttle("sync_boost", "clocks held down with a group of GPUs")
    ]
    throttle_sw_thermal_seconds_total: Annotated[
        Amount, _throttle("sw_thermal", "the driver lowers clocks for heat")
    ]
    throttle_hw_thermal_seconds_total: Annotated[
        Amount, _throttle("hw_thermal", "the hardware lowers clocks for heat")
    ]
    throttle_power_brake_seconds_total: Annotated[
        Amount, _throttle("power_brake", "an outside signal asks for less power")
    ]
    throttle_reliability_seconds_total: Annotated[
        Amount, _throttle("reliability", "the voltage limit holds clocks down")
    ]


class Refusal(NamedTuple):
    """A value that was not believed, or could not be read: which one, why, and how often in the interval."""

    uuid: str
    quantity: str
    reason: str
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """All readings of a node for one interval [start_ms, end_ms), and what the agent saw of itself.

    `gpus` is the inventory that the driver enumerated; None where nothing enumerated it (the probe was
    not there). A GPU of the inventory without a reading was not seen: its time is unknown.
    """

    node: str
    start_ms: int
    end_ms: int
    readings: tuple[Reading, ...] = ()
    gpus: tuple[Gpu, ...] | None = None
    refusals: tuple[Refusal, ...] = ()
    driver_calls: int = 0
    driver_seconds: float = 0.0
    late_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened at a moment: to a GPU, or to the agent when `uuid` is empty."""

    at_ms: int
    node: str
    kind: str
    text: str
    uuid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A rule's judgement: it opens, stays open, closes, and says what to do."""

    rule: str
    severity: str
    node: str
    uuid: str
    opened_ms: int
    closed_ms: int | None = None
    summary: str = ""
    action: str = ""


def check_name(name: str, kind: str) -> None:
    """Raise TypeError unless a quantity's name ends in a unit that fits its kind."""
    if not name.endswith(COUNTER_UNITS if kind == "counter" else GAUGE_UNITS):
        units = " ".join(COUNTER_UNITS if kind == "counter" else GAUGE_UNITS)
        raise TypeError(f"{kind} {name!r} does not end in a base unit: one of {units}")


def _quantities() -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    hints = get_type_hints(Reading, include_extras=True)
    for field in fields(Reading):
        for mark in getattr(hints[field.name], "__metadata__", ()):
            check_name(field.name, mark.kind)
            found[field.name] = mark
    return found


QUANTITIES: Mapping[str, Metric] = _quantities()
"""Field name of `Reading` → what it is; in the order of declaration."""


def reading_of(
    uuid: str,
    start_ms: int,
    end_ms: int,
    values: Mapping[str, Amount],
    *,
    condition: Condition = Condition.OK,
    processes: tuple[Process, ...] | None = None,
) -> Reading:
    """Make a reading of the quantities that are known, by field name; all others are None.

    Raises KeyError for a name that is not a quantity.
    """
    quantities = {**_BLANK, **values}
    if len(quantities) > len(_BLANK):
        raise KeyError(", ".join(sorted(values.keys() - _BLANK.keys())))
    return Reading(
        uuid=uuid,
        start_ms=start_ms,
        end_ms=end_ms,
        condition=condition,
        processes=processes,
        **quantities,
    )


_BLANK: Mapping[str, Amount] = dict.fromkeys(QUANTITIES)
