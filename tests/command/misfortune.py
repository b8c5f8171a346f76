"""A host on which things go wrong while an agent runs: its clock is set, its disk is full, its store is away.

The clock and the disk are made to fail inside of the agent, by a patch that reads a shared word: no test may
set the clock of its host or fill its disk.
"""

import mmap
import os
import random
import signal
import struct
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Self

import psutil

from tests.command.processes import Agent
from tests.stores.victoria import Victoria

WORD = struct.Struct("qq")
PATCH = """
import mmap, os, sqlite3, struct, time

_file = os.open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "misfortune"), os.O_RDONLY)
_word, _real = mmap.mmap(_file, 16, prot=mmap.PROT_READ), time.time_ns
time.time_ns = lambda: _real() + struct.unpack("qq", _word[:16])[0]
time.time = lambda: time.time_ns() / 1e9


class Disk(sqlite3.Connection):
    _was = 0

    def execute(self, sql, *values):
        full = struct.unpack("qq", _word[:16])[1]
        if full != self._was and sql.startswith("BEGIN"):
            self._was = full
            pages = super().execute("PRAGMA page_count").fetchone()[0] if full else 1 << 30
            super().execute(f"PRAGMA max_page_count = {pages}")
        return super().execute(sql, *values)


_connect = sqlite3.connect
sqlite3.connect = lambda *args, **more: _connect(*args, **{"factory": Disk, **more})
"""
STEP_NS = 3_600 * 10**9
STORM, AT_ONCE = 200, 16


class Host:
    """What can go wrong on a host; `met` counts what did."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311
        self.met: Counter[str] = Counter()
        self.forward_seconds = 0.0
        path = folder / "misfortune"
        path.write_bytes(bytes(WORD.size))
        self._file = path.open("r+b")
        self._word = mmap.mmap(self._file.fileno(), WORD.size)

    def __enter__(self) -> Self:
        """Give the host."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the word."""
        self._word.close()
        self._file.close()

    @property
    def ahead_ns(self) -> int:
        """How far the clock is ahead of the true one."""
        return int(WORD.unpack(self._word[:])[0])

    def _set(self, ahead_ns: int, full: int) -> None:
        self._word[:] = WORD.pack(ahead_ns, full)

    def step_clock(self) -> None:
        """Set the clock by an hour; it never goes more than two from the true time."""
        sign = (
            -1 if self.ahead_ns > STEP_NS else 1 if self.ahead_ns < -STEP_NS else self.chance.choice((-1, 1))
        )
        self._set(self.ahead_ns + sign * STEP_NS, WORD.unpack(self._word[:])[1])
        self.forward_seconds += max(0, sign) * STEP_NS / 1e9
        self.met["clock forward" if sign > 0 else "clock back"] += 1

    def fill_disk(self) -> None:
        """Leave no room for the journal."""
        self._set(self.ahead_ns, 1)
        self.met["disk full"] += 1

    def free_disk(self) -> None:
        """Make room."""
        self._set(self.ahead_ns, 0)

    @property
    def is_full(self) -> bool:
        """Tell whether the disk is full now."""
        return bool(WORD.unpack(self._word[:])[1])

    def kill_probe(self, agent: Agent) -> None:
        """Let the probe crash."""
        for probe in agent.probes():
            with suppress(psutil.NoSuchProcess):
                probe.kill()
                self.met["probe"] += 1

    @property
    def store_is_away(self) -> bool:
        """Tell whether the store is stopped now."""
        return self.met["store gone"] > self.met["store back"]

    def turn_store(self, store: Victoria) -> None:
        """Stop the store if it runs, else start it."""
        if self.store_is_away:
            store.start()
            self.met["store back"] += 1
        else:
            store.stop()
            self.met["store gone"] += 1

    def storm(self, agent: Agent) -> None:
        """Scrape the pages, many at once; some hang up in the middle."""

        def scrape(_: int) -> None:
            with suppress(OSError, HTTPException):
                agent.page(self.chance.choice(("/metrics", "/", "/-/healthy", "/nowhere")))

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(scrape, range(STORM)))
        self.met["storm"] += 1

    def reload(self, agent: Agent, settings: Path, write: Callable[[int], str]) -> None:
        """Write other settings, now and then broken ones, and have them read."""
        number = self.met["reload"]
        text = write(number)
        settings.write_text(text + ("\n[agent\n" if number % 5 == 4 else ""), encoding="utf-8")
        os.kill(agent.process.pid, signal.SIGHUP)
        self.met["reload"] += 1


class Footprint:
    """What an agent takes: memory in MB, descriptors, threads; `taken` are looks at it."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.taken: list[tuple[float, int, int]] = []

    def look(self) -> tuple[float, int, int]:
        """Look now."""
        with self._process.oneshot():
            found = (
                self._process.memory_info().rss / 1e6,
                self._process.num_fds(),
                self._process.num_threads(),
            )
        self.taken.append(found)
        return found


class Watcher(threading.Thread):
    """Reads the page time and again, and notes every account that went down."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(daemon=True)
        self._agent = agent
        self._over = threading.Event()
        self.seen: dict[object, float] = {}
        self.lower: list[object] = []
        self.pages = 0

    def run(self) -> None:
        """Watch until told to end."""
        while not self._over.wait(0.7):
            with suppress(OSError, HTTPException, ValueError):
                page = self._agent.samples("gpu_tally_")
                self.pages += 1
                for series, value in page.items():
                    if value < self.seen.get(series, 0.0):
                        self.lower.append((series, self.seen[series], value))
                    self.seen[series] = value

    def end(self) -> None:
        """End it."""
        self._over.set()
        self.join(30)
