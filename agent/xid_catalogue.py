"""What each XID means, how grave it is, who should know, and what to do: NVIDIA's catalogue in our words.

An XID says when something happened; where the driver gives a recovery action, that is the truth about what to
do. A few numbers stand for grave and harmless things alike: there the driver's text decides, if there is one.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

Severity = Literal["critical", "warning", "user", "information"]
SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "warning", "user", "information")
"""Gravest first."""


class XidMeaning(NamedTuple):
    """What an XID says; `user` errors are told to the owner of the job, all others to the operator."""

    meaning: str
    severity: Severity
    audience: Literal["operator", "owner"]
    action: str


class _Row(NamedTuple):
    numbers: str
    severity: Severity
    meaning: str
    action: str


_RESET = "drain the GPU and reset it, and contact NVIDIA support if it comes again"
_RESET_SOFTWARE = "drain the GPU and reset it, and look at the driver and firmware versions if it comes again"
_RESTART_JOB = "restart the job, and contact NVIDIA support if it comes with other jobs too"
_DEBUG_JOB = "look for the bug in the job with compute-sanitizer or cuda-gdb"
_NOTE = "note it, and contact NVIDIA support if it repeats without another XID"
_WATCH = "go on, and contact NVIDIA support if it repeats"
_ECC = "drain the GPU and reset it, and run the field diagnostic if it comes again"
_REPLACE = "drain the GPU, reset it, run the field diagnostic, and have the board replaced if that fails"
_READ_LINK = "read unit, severity and link in the kernel's log, and reset the GPU if they say fatal"

_ROWS: Final = (
    _Row(
        "1-7 9 10 12 15-24 26-30 33-36 42 49-53 55 57-59 81 87 90 91 111",
        "information",
        "a number that present drivers do not use",
        _NOTE,
    ),
    _Row("14", "information", "an error that software injected as a test", "ignore it"),
    _Row("47 65 73", "information", "an error of a video encoder, from an older driver", _NOTE),
    _Row("56 112-118", "information", "an error of a display output", _NOTE),
    _Row("61", "information", "an internal controller met a breakpoint, in an older driver", _NOTE),
    _Row("122-125", "information", "the board's flash or InfoROM could not be accessed", _NOTE),
    _Row("138", "information", "an error of the deep learning accelerator", _NOTE),
    _Row("8", "user", "a channel timed out and the GPU stopped processing it", _RESTART_JOB),
    _Row("11 25 32 69", "user", "the GPU was sent an invalid or corrupted command stream", _DEBUG_JOB),
    _Row("80", "user", "data sent to the GPU did not match its checksum", _DEBUG_JOB),
    _Row("13", "user", "a kernel failed: access out of range or illegal instruction", _DEBUG_JOB),
    _Row("31", "user", "access to an address that is not mapped", _DEBUG_JOB),
    _Row("37", "user", "the firmware was asked for a method that it does not know", _DEBUG_JOB),
    _Row("38", "warning", "the watchdog of the scheduling firmware ran out", _WATCH),
    _Row("39-41 70-72 75-77 85 126-135", "user", "a copy engine failed", _RESTART_JOB),
    _Row(
        "43", "user", "the job's channel was reset after a fault of its own", "look for the job's own error"
    ),
    _Row("44", "warning", "a fault during a context switch", _WATCH),
    _Row(
        "45",
        "warning",
        "channels were removed after another error or the end of their process",
        "follow the other XID, or restart the fabric manager if there is none and no job was killed",
    ),
    _Row("46", "critical", "the GPU stopped processing", _RESET),
    _Row("48", "critical", "an ECC error that could not be corrected", _ECC),
    _Row(
        "54",
        "critical",
        "the board's auxiliary power is not connected",
        "drain the node and check its cables",
    ),
    _Row("60", "user", "the security or video processor failed", _RESTART_JOB),
    _Row("62", "critical", "an internal micro-controller halted", _RESET),
    _Row("63", "warning", "memory was marked for repair", "reset the GPU when it is next idle"),
    _Row("64", "critical", "memory could not be marked for repair", _REPLACE),
    _Row(
        "66 67",
        "information",
        "the driver or the firmware accessed a register illegally",
        "go on, and look at the driver's version if it repeats",
    ),
    _Row("68 83 84 88 89 96-98", "user", "a video decoder failed", _RESTART_JOB),
    _Row("82 99-105", "user", "a JPEG decoder failed", _RESTART_JOB),
    _Row("86 139", "user", "the optical flow engine failed", _RESTART_JOB),
    _Row(
        "74",
        "critical",
        "an NVLink failed",
        "drain the GPUs of the link and reset them, and check both ends if it comes again",
    ),
    _Row(
        "78",
        "warning",
        "a virtual GPU could not be started",
        "bring the drivers of host and guest to versions that fit each other",
    ),
    _Row(
        "79",
        "critical",
        "the GPU fell off the bus",
        "drain the node and reboot it, and check power, heat and the PCIe seat if it comes again",
    ),
    _Row("92", "warning", "single bit ECC errors come at a high rate", _WATCH),
    _Row("93", "information", "the InfoROM's limit of writes was passed", _WATCH),
    _Row(
        "94",
        "warning",
        "an ECC error was contained: only the job that met it is lost",
        "restart that job, and reset the GPU when it is next idle",
    ),
    _Row(
        "95",
        "critical",
        "an ECC error was not contained: every job on the GPU is affected",
        "start nothing new on the GPU, drain it and reset it",
    ),
    _Row("106 107", "information", "a test message of the board management interface", "ignore it"),
    _Row(
        "108 137",
        "user",
        "an access over NVLink was refused by the other GPU",
        "look whether the job's process on the other GPU died first, else debug it as a page fault",
    ),
    _Row("109", "critical", "a context switch timed out", _RESET),
    _Row("110", "critical", "a security fault", "drain the node and power it off and on"),
    _Row("119", "critical", "the GPU's system processor (GSP) did not answer", _RESET_SOFTWARE),
    _Row("120", "critical", "the GPU's system processor (GSP) failed", _RESET_SOFTWARE),
    _Row(
        "121",
        "warning",
        "corrected errors on the link to the Grace CPU",
        "reset the GPU when it is next idle, so that the link trains anew",
    ),
    _Row("136", "critical", "an NVLink could not be trained", "drain the GPU, reset it and check the link"),
    _Row("140", "critical", "an ECC error that the driver could not recover from", _RESET),
    _Row("141", "information", "an error on CUDA's fast path", _WATCH),
    _Row("142", "user", "a video encoder failed", _RESTART_JOB),
    _Row("143", "critical", "the GPU could not be initialised", _RESET),
    _Row("144", "warning", "an NVLink error in unit SAW", _READ_LINK),
    _Row("145", "warning", "an NVLink error in unit RLW", _READ_LINK),
    _Row("146", "warning", "an NVLink error in unit TLW", _READ_LINK),
    _Row("147", "warning", "an NVLink error in unit TREX", _READ_LINK),
    _Row("148", "warning", "an NVLink error in unit NVLPW", _READ_LINK),
    _Row("149", "warning", "an NVLink error in unit NETIR", _READ_LINK),
    _Row("150", "warning", "an NVLink error in unit MSE", _READ_LINK),
    _Row(
        "151",
        "warning",
        "a key of confidential computing could not be changed",
        "restart the virtual machine, and contact NVIDIA support if it comes again",
    ),
    _Row("152 153", "information", "an error of the deep learning accelerator, reserved here", _WATCH),
    _Row(
        "154",
        "warning",
        "the driver changed its advice on how to recover",
        "do what the driver's recovery action says",
    ),
    _Row("155", "critical", "an NVLink was taken down by software", _RESET_SOFTWARE),
    _Row("156", "warning", "a faulty part was marked for retirement", "reset the GPU when it is next idle"),
    _Row("157", "warning", "a faulty part could not be retired: no spares are left", _WATCH),
    _Row("158", "critical", "a fatal timeout inside the GPU", _RESET),
    _Row(
        "159",
        "warning",
        "an error on the coherent link to the Grace CPU",
        "follow the other XIDs, or contact NVIDIA support if there are none",
    ),
    _Row("160", "warning", "a memory channel was retired", _WATCH),
    _Row("161", "warning", "a memory channel could not be retired", _WATCH),
    _Row("162", "information", "power smoothing works again", "ignore it"),
    _Row(
        "163",
        "warning",
        "power smoothing switched itself off",
        "look for heat, and reset the GPU when it is next idle if power smoothing is wanted",
    ),
    _Row("164", "warning", "power smoothing is near the end of its life", "plan to replace the board"),
    _Row(
        "165",
        "warning",
        "power smoothing is worn out",
        "replace the board if the building cannot bear its swings of power",
    ),
    _Row(
        "166",
        "warning",
        "traffic on an NVLink before it was set up for encryption",
        "check the node's set-up for confidential computing",
    ),
    _Row(
        "167", "critical", "a fatal timeout on PCIe", "drain the node and reboot it, and check the PCIe seat"
    ),
    _Row(
        "168",
        "warning",
        "memory errors where the driver keeps its own: capacity is reduced",
        "switch ECC on and reset the GPU when it is next idle",
    ),
    _Row("169", "critical", "the security controller halted", "drain the node and reboot it"),
    _Row(
        "170",
        "warning",
        "an interrupt of NVLink in secure mode",
        "check the node's set-up for confidential computing",
    ),
    _Row("171", "critical", "detail of XID 48: the ECC error was in the device memory", _ECC),
    _Row("172", "critical", "detail of XID 48: the ECC error was in the chip's own memory", _ECC),
    _Row("173", "critical", "the link to the Grace CPU failed", "drain the node and reboot it"),
    _Row("174", "information", "the process of a channel that was reset was ended", "ignore it"),
    _Row("175", "warning", "an error of the memory subsystem", _WATCH),
    _Row("176", "warning", "errors on PCIe that were corrected", "check the PCIe seat if they repeat"),
    _Row(
        "999",
        "warning",
        "an error whose number the driver did not tell",
        "look for its XID in the kernel's log (dmesg)",
    ),
)

FOLLOWERS: Final = frozenset({13, 31, 43, 45})
"""What jobs suffer when the hardware below them fails."""

HARDWARE: Final = frozenset(
    # 109 is not here: a job that hangs causes it too, and then its own 13 or 31 is the cause
    {46, 48, 54, 62, 63, 64, 74, 79, 92, 94, 95, 110, 119, 120, 136, 140, 143}
    | {*range(144, 151), 155, 156, 157, 158, 159, 160, 161, 167, 169, 171, 172, 173, 175}
)
"""What a follower near them belongs to."""

BY_TEXT: Final = frozenset({*range(144, 151), 154})
"""Numbers of which only the driver's text says how grave they are."""

_REMOVAL = 45
_ADVICE = 154


def follows(number: int, other: int) -> bool:
    """Say whether an XID near another belongs to it; removed channels belong to whatever removed them."""
    if number == _REMOVAL:
        return other not in {_REMOVAL, _ADVICE}
    return number in FOLLOWERS and other in HARDWARE


def meaning_of(number: int, text: str = "") -> XidMeaning:
    """Look up an XID, known or not; `text` is what the driver wrote behind the number."""
    known = XIDS.get(number, _UNKNOWN)
    if number not in BY_TEXT or not text:
        return known
    return _advice(known, text) if number == _ADVICE else _link(known, text)


def rank_of(severity: Severity) -> int:
    """Give a severity's place in `SEVERITIES`: 0 is the gravest."""
    return _RANKS[severity]


def numbers_of(severity: Severity) -> tuple[int, ...]:
    """Give the numbers of a severity; each number has one, so no two of these lists overlap."""
    return tuple(sorted(number for number, known in XIDS.items() if known.severity == severity))


_CONTACT = "look at the kernel's log (dmesg) and NVIDIA's list of XIDs, and contact NVIDIA support"
_UNKNOWN = XidMeaning("not in the catalogue", "warning", "operator", _CONTACT)
_RANKS: Mapping[Severity, int] = {severity: rank for rank, severity in enumerate(SEVERITIES)}
_FATAL = re.compile(r"\bfatal\b", re.IGNORECASE)
_NOT_FATAL = re.compile(r"\bnon-?fatal\b", re.IGNORECASE)


def _link(known: XidMeaning, text: str) -> XidMeaning:
    if "BER_EVENT" in text:
        return known._replace(action="go on, and check the cable of the link when the node is next idle")
    if _NOT_FATAL.search(text):
        return known._replace(severity="information", action=_WATCH)
    if _FATAL.search(text):
        action = "drain the GPU and reset it, and check the link and its other end if it comes again"
        return known._replace(severity="critical", action=action)
    return known


def _advice(known: XidMeaning, text: str) -> XidMeaning:
    advice = text.lower().rpartition(" to ")[2]
    for word, severity, action in _ADVICES:
        if word in advice:
            return known._replace(severity=severity, action=action)
    return known


_ADVICES: Final[tuple[tuple[str, Severity, str], ...]] = (
    ("drain and reset", "critical", "drain the GPU and reset it"),
    ("drain p2p", "warning", "drain the GPU's traffic to other GPUs"),
    ("reboot", "critical", "drain the node and reboot it"),
    ("reset", "critical", "drain the GPU and reset it"),
    ("none", "information", "ignore it: nothing needs to be done any more"),
)


def _expanded(numbers: str) -> Iterator[int]:
    for part in numbers.split():
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


XIDS: Final[Mapping[int, XidMeaning]] = {
    number: XidMeaning(
        row.meaning, row.severity, "owner" if row.severity == "user" else "operator", row.action
    )
    for row in _ROWS
    for number in _expanded(row.numbers)
}
"""Number → what it means."""
