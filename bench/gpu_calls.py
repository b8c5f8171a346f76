"""Times every call of the driver, and keeps what each of them answered first, as raw as it came.

Answers are told by function and the numbers it was asked with; fields by number and scope, metrics by number:
what a simulation of this driver must give.
"""

from collections.abc import Callable, Iterator, Mapping
from ctypes import Array, Structure, Union, c_char, c_int, c_uint
from math import isfinite
from statistics import median
from time import perf_counter_ns
from typing import Any, NamedTuple

from agent.cell import NO_GPU
from agent.nvml import Nvml

FIELDS_FUNCTION, METRICS_FUNCTION = "nvmlDeviceGetFieldValues", "nvmlGpmMetricsGet"
MOST_OF_A_LIST = 5
_MEMBERS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}
"""How nvmlValue_t is read, by nvmlValueType_t."""

Raw = Any
"""An answer as JSON has it."""


class Latency(NamedTuple):
    """How often a function was called, and how long it took in µs."""

    function: str
    calls: int
    median_us: float
    largest_us: float


class Answers:
    """What the driver answered first."""

    def __init__(self) -> None:
        self.calls: dict[str, Raw] = {}
        self.fields: dict[str, Raw] = {}
        self.metrics: dict[str, Raw] = {}
        self.slowest_us: dict[str, int] = {}

    def note(self, name: str, arguments: tuple[Any, ...], code: int) -> None:
        """Look at a call that came back."""
        if name == FIELDS_FUNCTION and not code:
            for entry in _referred(arguments[2])[: arguments[1].value]:
                self._field(entry)
            return
        if name == METRICS_FUNCTION and not code:
            asked = _referred(arguments[0])
            for metric in asked.metrics[: asked.numMetrics]:
                self.metrics.setdefault(
                    str(metric.metricId), {"code": metric.nvmlReturn, "value": plain(metric.value)}
                )
            return
        key = f"{name}({', '.join(str(number) for number in _inputs(arguments))})"
        if key not in self.calls:
            self.calls[key] = {"code": code} if code else {"code": code, "answer": list(_outputs(arguments))}

    def _field(self, entry: Any) -> None:  # noqa: ANN401  pynvml has no types
        key = field_key(entry.fieldId, entry.scopeId)
        microseconds = int(entry.latencyUsec)
        self.slowest_us[key] = max(microseconds, self.slowest_us.get(key, 0))
        if key in self.fields:
            return
        if entry.nvmlReturn:
            self.fields[key] = {"code": entry.nvmlReturn}
            return
        member = _MEMBERS.get(entry.valueType, "ullVal")
        self.fields[key] = {
            "code": 0,
            "type": entry.valueType,
            "value": plain(getattr(entry.value, member)),
            "dated": bool(entry.timestamp),
        }


class TimedNvml(Nvml):
    """The driver, with a stopwatch. Answers of the node and of the GPU at `index` are noted, or of all."""

    def __init__(self, answers: Answers, index: int | None = None) -> None:
        super().__init__()
        self._answers = answers
        self._index = index
        self.times_us: dict[str, list[float]] = {}

    def open(self) -> None:
        """Initialise NVML. Raises NvmlUnavailable."""
        began_ns = perf_counter_ns()
        super().open()
        self._timed("nvmlInit", began_ns)

    def prepare(self, index: int, name: str, *arguments: Any) -> Callable[[], int]:  # noqa: ANN401
        """Prepare a call that is timed and noted whenever it is made."""
        call = super().prepare(index, name, *arguments)

        def make() -> int:
            began_ns = perf_counter_ns()
            code = call()
            self._timed(name, began_ns)
            if self._index is None or index in (self._index, NO_GPU):
                self._answers.note(name, arguments, code)
            return code

        return make

    def _timed(self, name: str, began_ns: int) -> None:
        self.times_us.setdefault(name, []).append((perf_counter_ns() - began_ns) / 1000)


def latencies(times_us: Mapping[str, list[float]]) -> list[Latency]:
    """Sum up the times by function, the costliest first."""
    found = [Latency(name, len(each), median(each), max(each)) for name, each in times_us.items()]
    return sorted(found, key=lambda one: -sum(times_us[one.function]))


def field_key(number: int, scope: int) -> str:
    """Name a field: its number, and its scope where that is not 0."""
    return f"{number}:{scope:#x}" if scope else str(number)


def _inputs(arguments: tuple[Any, ...]) -> Iterator[int]:
    """Give the numbers that say what was asked for; the length that follows a buffer of text does not."""
    before: Any = None
    for argument in arguments:
        if isinstance(argument, (c_uint, c_int)) and not _is_text(before):
            yield argument.value
        before = argument


def _outputs(arguments: tuple[Any, ...]) -> Iterator[Raw]:
    """Give what was filled in: what is passed by reference, texts, arrays as far as they are full."""
    counts = [one.value for one in map(_referred, arguments) if isinstance(one, c_uint)]
    for argument in arguments:
        if _referred(argument) is not None:
            yield plain(_referred(argument))
        elif _is_text(argument):
            yield argument.value.decode(errors="replace")
        elif isinstance(argument, Array):
            filled = min(len(argument), MOST_OF_A_LIST, *counts)
            yield [plain(argument[place]) for place in range(filled)]


def _referred(argument: Any) -> Any:  # noqa: ANN401
    """Give what a reference made by ctypes.byref refers to; None for anything else."""
    return getattr(argument, "_obj", None)


def _is_text(argument: Any) -> bool:  # noqa: ANN401
    return isinstance(argument, Array) and argument._type_ is c_char


def plain(value: Any) -> Raw:  # noqa: ANN401
    """Give what a C value holds: numbers, text, lists, and structs by name of their fields."""
    told: Raw = None
    if isinstance(value, Union):
        told = getattr(value, "ullVal", None)
    elif isinstance(value, Structure):
        told = {name: _member(value, name) for name, *_ in value._fields_}
    elif isinstance(value, Array):
        told = [plain(one) for one in value]
    elif isinstance(value, bytes):
        told = value.decode(errors="replace")
    elif isinstance(value, float) and not isfinite(value):
        told = str(value)  # JSON has no NaN
    elif isinstance(value, (int, float, str)):
        told = value
    elif hasattr(value, "value"):
        told = plain(value.value)
    return told


def _member(value: Structure, name: str) -> Raw:
    try:
        return plain(getattr(value, name))
    except UnicodeDecodeError:  # nvidia-ml-py decodes what it gives
        return "no text"
