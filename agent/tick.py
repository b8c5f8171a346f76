"""The vocabulary: what passes from the probe to the books, and on to journal, rules and exporters.

What is measured, by name and unit, is listed in agent/quantities.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from agent.pieces import PARTS, SLICE_QUANTITIES, SliceQuantities
from agent.quantities import QUANTITIES, Amount, Quantities


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


FAULTS = tuple(one for one in Condition if one is not Condition.OK)
"""Why a GPU does not answer."""
Kind = Literal["compute", "graphics", "mps"]
"""What a process does with a GPU."""


class Workload(StrEnum):
    """The class of a holder's work; each class has its own patience."""

    BATCH = "batch"
    INTERACTIVE = "interactive"
    SERVING = "serving"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process with a context on a GPU; pid as the host sees it.

    `sm_ratio` is its share of the interval on the multiprocessors, as the driver estimates it; `slice` is the
    UUID of the MIG slice it runs on.
    """

    pid: int
    kind: Kind = "compute"
    memory_used_bytes: int | None = None
    sm_ratio: Amount = None
    slice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a GPU: `kind` says which world named it, `owner` is the group that answers for it.

    `name` tells it from all others of its kind on the node; `title` is a name that its user chose. What its
    world does not have is empty.
    """

    kind: str
    name: str
    owner: str
    user: str = ""
    workload: Workload = Workload.BATCH
    account: str = ""
    partition: str = ""
    qos: str = ""
    namespace: str = ""
    container: str = ""
    title: str = ""
    cost_centre: str = ""

    def __hash__(self) -> int:
        return hash(self.name)


_SAID = {"slurm": "job", "pod": "pod", "container": "container"}


def said(kind: str, name: str) -> str:
    """Name a holder as people do: `job 4711`, `pod lab/notebook-0`, `ollama.service`, `python train.py`."""
    return f"{_SAID[kind]} {name}" if kind in _SAID else name


class Hold(NamedTuple):
    """A holder and its share of the GPU, or None where the share is not known.

    `slice` is the UUID of the MIG slice that it holds, empty for a whole GPU. `memory_used_bytes` is that of
    its processes, as far as the driver tells.
    """

    holder: Holder
    share: float | None = None
    slice: str = ""
    memory_used_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A physical device. The UUID is its identity; the index is for display only and may change.

    `minor` is the number of its device node; `module`, `chassis`, `slot` and `tray` say where a technician
    finds it, where the platform tells.
    """

    uuid: str
    index: int
    model: str
    serial: str = ""
    board_part: str = ""
    vbios: str = ""
    inforom: str = ""
    architecture: str = ""
    driver: str = ""
    cuda: str = ""
    pci_bus: str = ""
    minor: str = ""
    module: str = ""
    chassis: str = ""
    slot: str = ""
    tray: str = ""


class Part(NamedTuple):
    """A quantity of one of several parts of a GPU; `labels` follow `PARTS[quantity].labels`."""

    quantity: str
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, kw_only=True)
class Slice(SliceQuantities):
    """What one MIG slice did over the interval of its GPU's reading.

    `weight_ratio` is its share of the GPU's compute slices. Slices that share a GPU instance share its memory
    and activity: only the first of them tells.
    """

    uuid: str
    profile: str
    weight_ratio: float


@dataclass(frozen=True, kw_only=True)
class Reading(Quantities):
    """What one GPU did over one interval [start_ms, end_ms).

    `parts` is None where they were not read in this interval; those of an earlier one still hold then.
    `slices` is None where the GPU is not partitioned.
    """

    uuid: str
    start_ms: int
    end_ms: int
    condition: Condition = Condition.OK
    processes: tuple[Process, ...] | None = None
    parts: tuple[Part, ...] | None = None
    slices: tuple[Slice, ...] | None = None


class Xid(NamedTuple):
    """An error that the driver reported, by its number; `pci_bus` names a GPU of unknown UUID."""

    at_ms: int
    uuid: str
    number: int
    source: Literal["nvml", "kernel"] = "nvml"
    text: str = ""
    pci_bus: str = ""


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
    not there). A GPU of the inventory without a reading was not seen: its time is unknown. `since_ms` is when
    the probe began: what it counts by itself began at 0 then.
    """

    node: str
    start_ms: int
    end_ms: int
    readings: tuple[Reading, ...] = ()
    gpus: tuple[Gpu, ...] | None = None
    refusals: tuple[Refusal, ...] = ()
    xids: tuple[Xid, ...] = ()
    since_ms: int = 0
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
    """A rule's judgement: it opens, stays open, closes, and says what to do.

    `times` is how often it opened, each time soon after it had closed. `held_by` is who held the GPU then.
    """

    rule: str
    severity: str
    node: str
    uuid: str
    opened_ms: int
    closed_ms: int | None = None
    summary: str = ""
    action: str = ""
    times: int = 1
    held_by: str = ""


def reading_of(
    uuid: str,
    start_ms: int,
    end_ms: int,
    values: Mapping[str, Amount],
    *,
    condition: Condition = Condition.OK,
    processes: tuple[Process, ...] | None = None,
    parts: tuple[Part, ...] | None = None,
    slices: tuple[Slice, ...] | None = None,
) -> Reading:
    """Make a reading of the quantities that are known, by field name; all others are None.

    Raises KeyError for a name that is not a quantity.
    """
    if not values.keys() <= QUANTITIES.keys():
        raise KeyError(", ".join(sorted(values.keys() - QUANTITIES.keys())))
    reading = object.__new__(Reading)  # the constructor would set a hundred fields to None
    reading.__dict__.update(
        values,
        uuid=uuid,
        start_ms=start_ms,
        end_ms=end_ms,
        condition=condition,
        processes=processes,
        parts=parts,
        slices=slices,
    )
    return reading


def slice_of(uuid: str, profile: str, weight_ratio: float, values: Mapping[str, Amount]) -> Slice:
    """Make a slice of the quantities that are known, by field name; all others are None. Raises KeyError."""
    if not values.keys() <= SLICE_QUANTITIES.keys():
        raise KeyError(", ".join(sorted(values.keys() - SLICE_QUANTITIES.keys())))
    return Slice(uuid=uuid, profile=profile, weight_ratio=weight_ratio, **values)


def check_part(part: Part) -> Part:
    """Give the part back. Raises KeyError, ValueError for one that is not listed."""
    if len(part.labels) != len(PARTS[part.quantity].labels):
        raise ValueError(f"{part.quantity} has labels {PARTS[part.quantity].labels}, not {part.labels}")
    return part
