"""What systemd is told of a running agent: that it is ready, how it fares, and that it gets on.

The protocol is that of sd_notify(3): lines `KEY=value` in a datagram to the socket that NOTIFY_SOCKET names.
Without one nothing is told. The watchdog is fed by what was done, not by a timer: an agent whose loop turns
and enters no interval is as good as dead.
"""

import contextlib
import logging
import os
import socket
import time
from collections.abc import MutableMapping
from dataclasses import dataclass, field

from agent.view import View

ADDRESS, PERIOD, KEEPER = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
PATIENCE_INTERVALS = 3
"""The watchdog waits at least so many intervals, whatever the unit says."""
MOST_STATUS = 200
log = logging.getLogger("gputally")


@dataclass(slots=True)
class Systemd:
    """The service manager that started us; `address` is empty where there is none.

    `period_seconds` is how long it waits for a sign of life, 0 for ever.
    """

    address: str = ""
    period_seconds: float = 0.0
    _progress: int = 0
    _told: str = ""
    _socket: socket.socket | None = field(default=None, repr=False)

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> "Systemd":
        """Read what systemd told; take it out, so that no process of ours speaks in our name."""
        address = environment.pop(ADDRESS, "")
        microseconds = environment.pop(PERIOD, "")
        keeper = environment.pop(KEEPER, "")
        is_ours = keeper in ("", str(os.getpid()))
        period = int(microseconds) / 1e6 if is_ours and microseconds.isdecimal() else 0.0
        return cls(address if address.startswith(("/", "@")) else "", period)

    def ready(self, status: str, silence_seconds: float) -> None:
        """Say that the agent runs; its intervals come at least as often as `silence_seconds`."""
        lines = ["READY=1"]
        wanted = PATIENCE_INTERVALS * silence_seconds
        if 0 < self.period_seconds < wanted:
            self.period_seconds = wanted
            lines.append(f"WATCHDOG_USEC={round(wanted * 1e6)}")
        self._tell(*lines, *self._status(status))

    def reloading(self) -> None:
        """Say that settings are read again; `ready` ends that."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._tell("STOPPING=1")

    def got_on(self, intervals: int, status: str) -> None:
        """Feed the watchdog if an interval was entered since it was fed last; `intervals` counts them all."""
        if intervals != self._progress:
            self._progress = intervals
            self._tell(*(["WATCHDOG=1"] if self.period_seconds else []), *self._status(status))

    def _status(self, status: str) -> list[str]:
        if status == self._told:
            return []
        self._told = status
        return [f"STATUS={' '.join(status.split())[:MOST_STATUS]}"]

    def _tell(self, *lines: str) -> None:
        if not self.address or not lines:
            return
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
            name = self.address.replace("@", "\0", 1) if self.address.startswith("@") else self.address
            self._socket.sendto("\n".join(lines).encode(), name)
        except OSError as error:
            log.debug("systemd was not told: %s", error.strerror)

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None


def status_of(view: View) -> str:
    """Say in a line what the GPUs do, for those who ask systemd."""
    counts: dict[str, int] = {}
    for state in view.states.values():
        counts[state] = counts.get(state, 0) + 1
    told = ", ".join(f"{number} {state}" for state, number in sorted(counts.items(), key=lambda one: -one[1]))
    found = sum(one not in view.silenced for one in view.findings)
    return f"{len(view.gpus)} GPUs: {told or 'none was read'}; {found or 'no'} findings open"
