"""How the simulated driver fails, and when: faults written behind the text of a simulation.

    MODELxN[:SCENARIO][!FAULT]...       FAULT = KIND[=ARGUMENT][@FROM[..TO]]
    h200x8:training!hang=3@+20..+60!xid=2:79@+5!lost=1@+10..+30

GPUS is `3`, `0-2` or `1,4`, and all of them if left out. FROM, TO and T are seconds since the Unix epoch, or
+SECONDS after the start. Without @ a fault is always there, without TO for ever.

    hang[=GPUS]                         every call on the GPU blocks, and the thread takes no signal
    slowcalls=GPUS:MILLISECONDS         every call on the GPU takes so long
    lost[=GPUS]                         fallen off the bus, for an old handle for ever
    reset_required[=GPUS]               the GPU wants a reset, for an old handle for ever
    crash[=GPUS]                        the process dies of SIGSEGV at the first call on the GPU
    removed[=GPUS]                      taken out: lost now, and not counted after the next init
    restart=GPUS@T                      what the driver counts begins at 0 again
    unloaded                            the driver is not loaded
    mismatch                            library and kernel module differ: no init, old clients go on
    nolibrary                           the driver's library is not installed
    forbidden[=GPUS]                    no permission to open the GPU
    garbage[=GPUS]                      counters, gauges, samples and times that cannot be true
    xid=GPU:NUMBER[*COUNT]@T            the driver reports an error, COUNT times within a second
    unpersistent[=GPUS]                 persistence mode is off
    plays=GPUS:SCENARIO                 the GPU does what it would in that scenario: stalled, held, free ...
    slowed=GPUS:REASON:PERCENT          at work the clock is so low: power_cap, power_brake, sw_thermal ...
    heat=GPUS:PLACE:KELVIN              core or memory is so much hotter than its work makes it
    fanstop[=GPUS]                      the fan stands still
    leak[=GPUS]                         memory stays in use, and no process is listed
    ecc=GPU:CORRECTED:UNCORRECTED@T     so many memory errors happen
    remap[=GPUS]                        a row of memory waits for a reset to be remapped
    memory=GPUS:MARK                    the memory is marked: remap_failed, page_pending, sram_exceeded
    errors=GPUS:LINK_ERROR:RATE         so many a minute: pcie_replay, or of NVLink crc, replay, recovery
    linkdown=GPUS:LINK                  an NVLink is down
    links=GPUS:COUNT                    only so many NVLinks are up
    narrow=GPUS:LANES                   the PCIe link has so few lanes
    slowlink=GPUS:GENERATION            the PCIe link is of so low a generation
    recovery=GPUS:CODE                  the driver asks for a reset (1), a reboot (2), a drain (3, 4) ...
    fabric=GPUS:STATE                   the NVLink fabric: 1 not started, 2 in progress, 3 completed
    unhealthy=GPUS:HEALTH               the fabric's own word: 1 healthy, 2 unhealthy, 3 of limited capacity
    mig=GPUS:PROFILE+PROFILE...         partitioned, as 3g.71gb+2g.35gb+1g.18gb; none: no instance yet

Faults are functions of wall time, so every process that knows the text sees the same.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import cleandoc

from agent.errors import SettingsError
from agent.simulated.phases import REASONS, SECOND_US
from agent.simulated.playbook import SCENARIOS

FAULTS_HELP: str = cleandoc(__doc__ or "")
"""The grammar and the kinds, for people."""

FORMS: Mapping[str, str] = {
    "hang": "hang[=GPUS]",
    "slowcalls": "slowcalls=GPUS:MILLISECONDS",
    "lost": "lost[=GPUS]",
    "reset_required": "reset_required[=GPUS]",
    "crash": "crash[=GPUS]",
    "removed": "removed[=GPUS]",
    "restart": "restart=GPUS@T",
    "unloaded": "unloaded",
    "mismatch": "mismatch",
    "nolibrary": "nolibrary",
    "forbidden": "forbidden[=GPUS]",
    "garbage": "garbage[=GPUS]",
    "xid": "xid=GPU:NUMBER[*COUNT]@T",
    "unpersistent": "unpersistent[=GPUS]",
    "plays": "plays=GPUS:SCENARIO",
    "slowed": "slowed=GPUS:REASON:PERCENT",
    "heat": "heat=GPUS:PLACE:KELVIN",
    "fanstop": "fanstop[=GPUS]",
    "leak": "leak[=GPUS]",
    "ecc": "ecc=GPU:CORRECTED:UNCORRECTED@T",
    "remap": "remap[=GPUS]",
    "memory": "memory=GPUS:MARK",
    "errors": "errors=GPUS:LINK_ERROR:RATE",
    "linkdown": "linkdown=GPUS:LINK",
    "links": "links=GPUS:COUNT",
    "narrow": "narrow=GPUS:LANES",
    "slowlink": "slowlink=GPUS:GENERATION",
    "recovery": "recovery=GPUS:CODE",
    "fabric": "fabric=GPUS:STATE",
    "unhealthy": "unhealthy=GPUS:HEALTH",
    "mig": "mig=GPUS:PROFILE+PROFILE...",
}
"""Kind → how it is written; what is read of a fault's argument and time follows from this."""

_LAYOUT = "PROFILE+PROFILE..."
WORDS: Mapping[str, tuple[str, ...]] = {
    "SCENARIO": tuple(SCENARIOS),
    "REASON": REASONS,
    "PLACE": ("core", "memory"),
    "MARK": ("remap_failed", "page_pending", "sram_exceeded"),
    "LINK_ERROR": ("pcie_replay", "crc", "replay", "recovery"),
    _LAYOUT: (),
}
"""What is a word and not a number in a form → the choices; of profiles each model has its own."""

NODE = -1
"""Stands for the number of a GPU where a fault is of the whole driver."""

ALWAYS_US, NEVER_US = 0, 1 << 62

_EXAMPLE = "h200x8!hang=3@+20..+60!xid=2:79@+5"
_TIME = re.compile(r"\+?\d{1,12}(?:\.\d{1,9})?")
_NUMBER = re.compile(r"\d{1,9}")
_COUNT = re.compile(r"[1-9]\d{0,5}")
_GPUS = re.compile(r"(\d{1,3})(?:-(\d{1,3}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: in force in [start_us, end_us), or happening at `start_us`.

    `numbers` follow the GPUs in the text, and so does `word` where one of `WORDS` is asked for.
    """

    kind: str
    text: str
    gpus: tuple[int, ...]
    numbers: tuple[int, ...] = ()
    word: str = ""
    start_us: int = ALWAYS_US
    end_us: int = NEVER_US

    def holds(self, at_us: int) -> bool:
        """Tell whether the fault is in force at a moment."""
        return self.start_us <= at_us < self.end_us


@dataclass(frozen=True, slots=True)
class Faults:
    """All faults of a simulation.

    Of those of one kind that meet, the one written last is in force; errors, heat, links that are down and
    reasons for lower clocks add up.
    """

    faults: tuple[Fault, ...] = ()
    _rows: dict[tuple[str, int], tuple[Fault, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for fault in self.faults:
            for gpu in fault.gpus:
                self._rows[fault.kind, gpu] = (*self.of(fault.kind, gpu), fault)

    def of(self, kind: str, gpu: int = NODE) -> tuple[Fault, ...]:
        """Return the faults of a kind that a GPU ever has, as written."""
        return self._rows.get((kind, gpu), ())

    def now(self, kind: str, gpu: int, at_us: int) -> Fault | None:
        """Return the fault of a kind that is in force, if one is."""
        for fault in reversed(self.of(kind, gpu)):
            if fault.holds(at_us):
                return fault
        return None

    def since(self, kind: str, gpu: int, start_us: int, at_us: int) -> bool:
        """Tell whether a fault of a kind was in force at any moment of [start, at]."""
        found = self.of(kind, gpu)
        return bool(found) and any(one.start_us <= at_us and start_us < one.end_us for one in found)

    def restarted_us(self, gpu: int, at_us: int) -> int | None:
        """Return when the driver's counters of a GPU last began again, if they did."""
        moments = [fault.start_us for fault in self.of("restart", gpu) if fault.start_us <= at_us]
        return max(moments, default=None)


NO_FAULTS = Faults()


def split(text: str) -> tuple[str, list[str]]:
    """Part the text of a simulation from its faults."""
    simulation, *faults = text.split("!")
    return simulation, faults


def resolve(text: str, now_seconds: float) -> str:
    """Make times after the start absolute, so that all who get the text agree. Raises SettingsError."""
    simulation, faults = split(text)
    return "!".join((simulation, *(_resolved(fault, now_seconds) for fault in faults)))


def _resolved(fault: str, now_seconds: float) -> str:
    what, at, when = fault.partition("@")
    if not at:
        return fault
    times = [
        f"{now_seconds + float(time):.3f}" if time.startswith("+") else time for time in _times(fault, when)
    ]
    return f"{what}@{'..'.join(times)}"


def parse_faults(texts: Iterable[str], gpu_count: int) -> Faults:
    """Understand faults whose times are absolute. Raises SettingsError."""
    return Faults(tuple(_parse(text, gpu_count) for text in texts))


def misfit(fault: str, problem: str) -> SettingsError:
    """Say what is wrong with a fault, and which there are."""
    return SettingsError(
        f"the fault {fault!r} {problem}: write KIND[=ARGUMENT][@FROM[..TO]] as in {_EXAMPLE}, "
        f"with one of {', '.join(FORMS.values())}"
    )


def _parse(text: str, gpu_count: int) -> Fault:
    what, at, when = text.partition("@")
    kind, equals, argument = what.partition("=")
    form = FORMS.get(kind)
    if form is None:
        raise misfit(text, f"is of no known kind: {kind!r}")
    if bool(equals) > ("=" in form) or bool(equals) < ("=" in form and "[=" not in form):
        raise misfit(text, f"is not of the form {form}")
    listed, *parts = argument.split(":")
    wanted = re.sub(r"[\[\]]", "", form.partition("@")[0]).split(":")[1:]
    if len(parts) != len(wanted) or (equals and not listed):
        raise misfit(text, f"is not of the form {form}")
    words = [_word(text, what, part) for what, part in zip(wanted, parts, strict=True) if what in WORDS]
    numbers = [part for what, part in zip(wanted, parts, strict=True) if what not in WORDS]
    start_us, end_us = _window(text, form, at, when)
    return Fault(
        kind=kind,
        text=text,
        gpus=_gpus(text, listed, gpu_count) if "=" in form else (NODE,),
        numbers=tuple(_numbers(text, form, numbers)),
        word="".join(words),
        start_us=start_us,
        end_us=end_us,
    )


def _word(text: str, what: str, part: str) -> str:
    if WORDS[what] and part not in WORDS[what]:
        raise misfit(text, f"knows no {part!r}, only {', '.join(WORDS[what])}")
    return part


def _window(text: str, form: str, at: str, when: str) -> tuple[int, int]:
    moment = form.endswith("@T")
    times = _times(text, when) if at else []
    if moment and len(times) != 1:
        raise misfit(text, "happens at one moment")
    if any(time.startswith("+") for time in times):
        raise misfit(text, "has a time after a start that is not known")
    edges = [round(float(time) * SECOND_US) for time in times]
    start_us, end_us = (*edges, *(ALWAYS_US, NEVER_US)[len(edges) :])
    if end_us <= start_us:
        raise misfit(text, "ends before it begins")
    return start_us, end_us


def _times(fault: str, when: str) -> list[str]:
    """Part FROM from TO, each with the + it may have."""
    times = when.split("..")
    if len(times) > len(("FROM", "TO")) or not all(_TIME.fullmatch(time) for time in times):
        raise misfit(fault, "has no time that can be understood")
    return times


def _numbers(text: str, form: str, parts: Sequence[str]) -> Iterator[int]:
    """Read the numbers; where a count may follow and does not, it is 1."""
    for part in parts:
        number, star, count = part.partition("*")
        counted = "*" in form
        if not _NUMBER.fullmatch(number) or (star and not (counted and _COUNT.fullmatch(count))):
            raise misfit(text, f"is not of the form {form}")
        yield int(number)
        if counted:
            yield int(count or 1)


def _gpus(text: str, listed: str, gpu_count: int) -> tuple[int, ...]:
    if not listed:
        return tuple(range(gpu_count))
    found: list[int] = []
    for piece in listed.split(","):
        match = _GPUS.fullmatch(piece)
        if match is None:
            raise misfit(text, f"names no GPUs: {listed!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < gpu_count:
            raise misfit(text, f"names a GPU that is not there: {piece!r} of {gpu_count}")
        found += range(first, last + 1)
    return tuple(dict.fromkeys(found))
