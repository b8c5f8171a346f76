"""The kernel's log as the second source of XIDs: it also has those from while the agent was down.

Reading never waits, and a call does a bounded amount of work: where the log runs away, reading goes on at
its end and what was passed over is counted. A record is told once, by the first call after it was written.
"""

import errno
import os
import re
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from agent.tick import Xid

KMSG = Path("/dev/kmsg")
MOST_RECORDS = 2000
MOST_NS = 20_000_000
BEHIND_CALLS = 3
HISTORY_CALLS = 200
SAME_FALL_MS = 10_000
FELL_OFF = 79

_CHUNK_BYTES = 16_384  # more than the kernel makes of one record: a smaller buffer would lose it
_MOST_LINE_BYTES = 65_536
_MOST_TEXT = 300
_MOST_GPUS = 64

_HEADER = re.compile(rb"\d{1,9},(\d{1,19}),(\d{1,19}),[^;]*")
_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([^)\s]{1,60})[^)]{0,80}\): ?(\d{1,9})\b[,:]? ?(.*)", re.DOTALL)
_PLACE = re.compile(r"\b[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\b", re.IGNORECASE)
_PCI = re.compile(r"(?:pci:)?(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})(?:\.[0-7])?")


def normal_pci(name: str) -> str:
    """Give a PCI name as the kernel's log does, 0000:1b:00; NVML adds zeros, capitals and a function."""
    name = name.strip().lower()
    match = _PCI.fullmatch(name)
    if not match:
        return name
    domain, bus, device = (int(part or "0", 16) for part in match.groups())
    return f"{domain:04x}:{bus:02x}:{device:02x}"


def same_pci(one: str, other: str) -> bool:
    """Say whether two PCI names are of one device."""
    return normal_pci(one) == normal_pci(other)


def parse_line(text: str) -> tuple[str, int, str] | None:
    """Give PCI name (or UUID), number and detail of a line about an XID; None for any other line.

    "Fell off the bus" without a number is XID 79. The PCI name is empty where the line has none.
    """
    if not text.startswith("NVRM: "):
        return None
    match = _XID.match(text)
    if match:
        place, number, detail = match.groups()
        return (place if place.startswith("GPU-") else normal_pci(place)), int(number), _tidy(detail)
    if "fallen off the bus" in text:
        found = _PLACE.search(text)
        return normal_pci(found[0]) if found else "", FELL_OFF, _tidy(text.removeprefix("NVRM: "))
    return None


def log_began_ms(now_ms: int) -> int:
    """Give the wall clock's time at which the clock of the kernel's log began.

    The log's clock is never set nor slewed, as CLOCK_MONOTONIC_RAW: by any other it would be seconds off
    after some weeks.
    """
    return now_ms - time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) // 1_000_000


class KernelLog:
    """Reads records of /dev/kmsg; `skipped` counts those never seen, `trouble` says why reading ended."""

    def __init__(self, path: Path = KMSG, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.skipped = 0
        self.trouble = ""
        self._path = path
        self._monotonic_ns = monotonic_ns
        self._descriptor = -1
        self._since_ms: int | None = None
        self._read_ms: int | None = None
        self._calls_behind = 0
        self._lines: deque[bytes] = deque()
        self._rest = b""
        self._latest = b""
        self._presumed = 0  # records counted as skipped before the next one tells how many they were
        self._falls: dict[str, tuple[int | None, bool]] = {}

    def open(self, since_ms: int | None = None) -> str:
        """Begin at the end of the log, or with what came since a moment; say why if that cannot be."""
        self.close()
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self.trouble = self._why(error)
            return self.trouble
        self.trouble = ""
        self._since_ms = since_ms
        if since_ms is None:
            self._seek_end()
        return ""

    def close(self) -> None:
        """Let go of the log; `open` begins anew."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1
        self._read_ms = None
        self._calls_behind = 0
        self._presumed = 0
        self._lines.clear()
        self._rest = self._latest = b""

    def read(self, now_ms: int, boot_ms: int) -> list[Xid]:
        """Give the XIDs since the last call; `boot_ms` is when the log's clock began (`log_began_ms`)."""
        found: list[Xid] = []
        until_ns = self._monotonic_ns() + MOST_NS
        for _ in range(MOST_RECORDS):
            line = self._line()
            if line is None:
                self._caught_up(now_ms)
                return found
            xid = self._understand(line, now_ms, boot_ms)
            if xid is not None:
                found.append(xid)
            if self._monotonic_ns() >= until_ns:
                break
        self._fell_behind(now_ms)
        return found

    def _caught_up(self, now_ms: int) -> None:
        self._calls_behind = 0
        self._since_ms = None
        self._read_ms = now_ms

    def _fell_behind(self, now_ms: int) -> None:
        self._calls_behind += 1
        if self._calls_behind < (BEHIND_CALLS if self._since_ms is None else HISTORY_CALLS):
            return
        self._presume(max(1, len(self._lines)))
        self._lines.clear()
        self._rest = b""
        self._seek_end()
        self._caught_up(now_ms)

    def _seek_end(self) -> None:
        try:
            os.lseek(self._descriptor, 0, os.SEEK_END)
        except OSError as error:
            if error.errno != errno.ESPIPE:  # a pipe stands in for the log
                self._give_up(error)

    def _line(self) -> bytes | None:
        """Give the next line, empty for one that was lost; None when there is none now."""
        while not self._lines:
            if self._descriptor < 0:
                return None
            try:
                chunk = os.read(self._descriptor, _CHUNK_BYTES)
            except OSError as error:
                return self._unread(error)
            if not chunk:
                return None
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            self._lines.extend(lines)
            if len(self._rest) > _MOST_LINE_BYTES:
                self._rest = b""
                self.skipped += 1
        return self._lines.popleft()

    def _unread(self, error: OSError) -> bytes | None:
        match error.errno:
            case errno.EAGAIN | errno.EINTR:
                return None
            case errno.EPIPE:  # the kernel overwrote what was not read yet
                self._presume(1)
                return b""
            case errno.EINVAL:  # a record larger than any should be; the kernel steps over it
                self.skipped += 1
                return b""
            case _:
                self._give_up(error)
                return None

    def _give_up(self, error: OSError) -> None:
        self.trouble = self._why(error)
        self.close()

    def _why(self, error: OSError) -> str:
        match error.errno:
            case errno.ENOENT | errno.ENXIO | errno.ENODEV:
                return f"{self._path} is missing: give the agent the host's, so that no XID is missed"
            case errno.EACCES | errno.EPERM:
                return f"{self._path} may not be read: give the agent CAP_SYSLOG and leave to read the file"
            case _:
                return f"{self._path} cannot be read ({error.strerror}): XIDs come from NVML alone"

    def _presume(self, records: int) -> None:
        self.skipped += records
        self._presumed += records

    def _understand(self, line: bytes, now_ms: int, boot_ms: int) -> Xid | None:
        if not line or line.startswith(b" "):
            return None
        if self._presumed:
            self._count_gap(line)
        self._latest = line
        if b"NVRM" not in line:
            return None
        header, _, text = line.partition(b";")
        match = _HEADER.fullmatch(header)
        told = parse_line(text.decode("utf-8", "replace")) if match else None
        if match is None or told is None:
            return None
        at_ms = self._moment(boot_ms + int(match[2]) // 1000, now_ms)
        if self._since_ms is not None and at_ms < self._since_ms:
            return None
        place, number, detail = told
        if number == FELL_OFF and self._told_already(place, at_ms, numbered=b"Xid (" in text):
            return None
        uuid, pci_bus = (place, "") if place.startswith("GPU-") else ("", place)
        return Xid(at_ms, uuid, number, "kernel", detail, pci_bus)

    def _moment(self, at_ms: int, now_ms: int) -> int:
        """Keep a time between the last call and this one: what is read now was written then."""
        if self._read_ms is not None:
            at_ms = max(at_ms, self._read_ms)
        return min(at_ms, now_ms)

    def _count_gap(self, line: bytes) -> None:
        """Make `skipped` exact by the numbers of the records before and behind the gap."""
        numbers = [_HEADER.match(header) for header in (self._latest, line)]
        if numbers[0] and numbers[1]:
            gap = int(numbers[1][1]) - int(numbers[0][1]) - 1
            self.skipped += max(0, gap - self._presumed)
        self._presumed = 0

    def _told_already(self, place: str, at_ms: int, *, numbered: bool) -> bool:
        """Say whether this is the second of the two lines by which the driver tells one fall off the bus."""
        before_ms, was_numbered = self._falls.pop(place, (None, False))
        again = before_ms is not None and abs(at_ms - before_ms) <= SAME_FALL_MS
        self._falls[place] = at_ms, numbered or (again and was_numbered)
        if len(self._falls) > _MOST_GPUS:
            del self._falls[next(iter(self._falls))]
        return again and not (numbered and was_numbered)


def _tidy(text: str) -> str:
    return " ".join(text.replace("\\x0aNVRM:", " ").split())[:_MOST_TEXT]
