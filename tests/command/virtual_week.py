"""A week of a node in virtual time, as a program of its own: `virtual_week.py FOLDER DAYS SEED`.

Sampler, node, rules, journal and page are the real ones, over the simulated driver. Probes crash, GPUs hang
and are lost, the host stands still, its clock is set, its disk is full, settings are read again. After each
day it says what it takes, and in the end what happened, as lines of JSON.
"""

import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil

from agent.books import Books
from agent.frames import Frame
from agent.holders.claims import Holders
from agent.holders.owners import Owners
from agent.holders.processes import Seen
from agent.journal import Journal, JournalSettings
from agent.node import Node
from agent.prober import Ended, Hung
from agent.scene import Scene
from agent.states import StateSettings
from agent.tick import Finding, Workload
from agent.view import View
from exporters.page import Pages
from gputally.own_figures import own_figures
from rules.load import load
from rules.node import NodeJudge
from tests.agent.driven import START_MS, Happening, Rig

GPUS, NAME, DAY_SECONDS, HOUR_SECONDS = 2, "hall2-n017", 86_400, 3_600
FAULTS = "!hang=1@+{0}..+{1}!lost=0@+{2}..+{3}!xid=0:31@+{4}"
MOST_AHEAD_SECONDS = 7_200


class Nobody:
    """A host that tells nothing of processes."""

    def resolve(self, pids: object) -> dict[int, Seen | None]:
        """Tell of none."""
        del pids
        return {}

    def close(self) -> None:
        """End nothing."""


class Probes:
    """Probes that crash at random: frames of a rig, and time in which there is none."""

    stuck = 0

    def __init__(self, rig: Rig, chance: random.Random, met: Counter[str]) -> None:
        self.rig, self.chance, self.met = rig, chance, met
        self._away_until_ns = 0

    def next(self, timeout_seconds: float) -> Frame | Ended | Hung | None:
        """Give the next tick, the end of a probe, or None where there is none for so long."""
        clock = self.rig.clock
        away_seconds = (self._away_until_ns - clock.monotonic_ns()) / 1e9
        if away_seconds > 0:
            clock.wait(min(timeout_seconds, away_seconds))
            return None
        if self.chance.random() < 0.002:
            self.met["crash"] += 1
            self._away_until_ns = clock.monotonic_ns() + self.chance.randint(1, 90) * 10**9
            self.rig.begin()
            return Ended("it ended with exit code -9", 1.0)
        return self.rig.tick()


def happenings(chance: random.Random, days: int) -> Iterator[Happening]:
    """Set the clock by an hour, or let the host stand still, some times a day."""
    ahead = 0.0
    at = 600.0
    while (at := at + chance.uniform(1_200, 12_000)) < days * DAY_SECONDS:
        if chance.random() < 0.4:
            yield at, "stall", chance.uniform(1, 200)
        else:
            signs = [sign for sign in (-1, 1) if sign * ahead < MOST_AHEAD_SECONDS]
            sign = chance.choice(signs)
            ahead += sign * HOUR_SECONDS
            yield at, "step", float(sign * HOUR_SECONDS)


class Week:
    """The node, and what befalls it."""

    def __init__(self, folder: Path, days: int, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311
        self.met: Counter[str] = Counter()
        self.steps = list(happenings(self.chance, days))
        moments = sorted(self.chance.randint(600, days * DAY_SECONDS - 9_000) for _ in range(3))
        faults = FAULTS.format(moments[0], moments[0] + 2_000, moments[1], moments[1] + 1_500, moments[2])
        self.rig = Rig(f"h200x{GPUS}:training{faults}", happenings=self.steps, poll_seconds=5, guarded=True)
        self.journal = Journal(folder / "j.db", JournalSettings(sync="normal"), START_MS)
        self.states = StateSettings()
        self.books = Books(self.journal, self.states, boot_id="boot-1", node=NAME, follow_holders=True)
        self.holders = Holders(Nobody(), (), Owners((), Workload.BATCH, 100))
        self.judge = NodeJudge(load(None), 10_000)
        self.pages = Pages({}, "0", lambda: self.rig.clock.monotonic_ns() / 1e9)
        self.page: dict[str, float] = {}
        self.lower: list[str] = []
        self.frontier_ms, self.looked_us = START_MS, START_MS * 1000
        self.again_us: list[tuple[int, int]] = []
        self.node = Node(
            name=NAME,
            frames=Probes(self.rig, self.chance, self.met),
            books=self.books,
            holders=self.holders,
            clock=self.rig.clock,
            cadence=self.rig.settings,
            publish=self._publish,
            judge=self._judge,
        )
        self.node.begin(START_MS - 10**8)

    def _judge(self, scene: Scene) -> list[Finding]:
        figures = own_figures(
            scene, self.node.health(), (), stores=frozenset(), interval_seconds=10.0, gpus=GPUS
        )
        return self.judge.judge(replace(scene, figures=figures))

    def _publish(self, view: View) -> None:
        self.pages.publish(view)
        now_us = self.rig.clock.true_us()
        if view.tick.end_ms <= self.frontier_ms:
            self.again_us.append((self.looked_us, now_us))
        self.frontier_ms = max(self.frontier_ms, view.tick.end_ms)
        self.looked_us = now_us
        if self.chance.random() < 0.02:
            self._scrape()

    def _scrape(self) -> None:
        text = self.pages.metrics("")[0].decode()
        now = {
            name: float(value)
            for name, _, value in (line.rpartition(" ") for line in text.splitlines())
            if name.startswith("gpu_tally_") and "_total" in name
        }
        self.lower += [name for name, value in now.items() if value < self.page.get(name, 0.0)]
        self.page |= now
        self.met["scrape"] += 1

    def live(self, seconds: float) -> None:
        """Live on; at random the disk is full for a while, or settings are read again."""
        until_ns = self.rig.clock.monotonic_ns() + round(seconds * 1e9)
        while self.rig.clock.monotonic_ns() < until_ns:
            self.node.step(3_600)
            if self.chance.random() < 0.001:
                self._set_full(full=True)
            elif self.chance.random() < 0.003:
                self._set_full(full=False)
            if self.chance.random() < 0.003:
                self._adopt()

    def _set_full(self, *, full: bool) -> None:
        self.met["disk full"] += full
        self.journal._db.execute(f"PRAGMA query_only = {int(full)}")

    def _adopt(self) -> None:
        self.met["reload"] += 1
        patience = self.chance.choice((300, 900, 1_800))
        self.states = replace(self.states, patience_batch_seconds=patience)
        self.books.adopt(self.states)
        self.node.adopt(self.rig.settings, holders=self.holders, most_holders=512, drain_file="")

    def finish(self) -> None:
        """Write all that waits."""
        self._set_full(full=False)
        self.node.end([])
        self.live(60)
        self._scrape()

    def truth(self) -> dict[str, float]:
        """Tell what the simulation did, GPU by GPU summed up, and how much of it in hours that came again.

        A clock that is set back lets an hour come again; the accounts have it once.
        """
        whole = [(START_MS * 1000, self.rig.clock.true_us())]
        return {**self._of(whole, "true"), **self._of(self.again_us, "again")}

    def _of(self, spans: Sequence[tuple[int, int]], name: str) -> dict[str, float]:
        simulation, gpus = self.rig.simulation, range(GPUS)
        return {
            f"{name}_seconds": sum(end_us - start_us for start_us, end_us in spans) / 1e6,
            f"{name}_busy_seconds": sum(
                simulation.busy_seconds(gpu, *span) for gpu in gpus for span in spans
            ),
            f"{name}_joules": sum(simulation.energy_joules(gpu, *span) for gpu in gpus for span in spans),
        }


def main(folder: Path, days: int, seed: int) -> None:
    """Live through the days."""
    own = psutil.Process()
    week = Week(folder, days, seed)
    with closing(week.journal):
        for day in range(days):
            week.live(DAY_SECONDS)
            _say(
                day=day + 1,
                resident_mb=own.memory_info().rss / 1e6,
                descriptors=own.num_fds(),
                threads=own.num_threads(),
                pending=week.journal.pending,
            )
        week.finish()
        health = week.node.health()
        forward = sum(length for _, kind, length in week.steps if kind == "step" and length > 0)
        _say(
            **week.truth(),
            forward_seconds=forward,
            steps=len(week.rig.clock.steps),
            lower=week.lower,
            met=dict(week.met),
            ticks=health.ticks,
            pending=week.journal.pending,
            failures=health.journal_failures,
            readings_dropped=health.readings_dropped,
        )


def _say(**figures: object) -> None:
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
