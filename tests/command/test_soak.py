"""Half an hour in which all goes wrong at random: nothing grows, no interval is lost, no total is wrong."""

import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from exporters.web_server import THREADS
from tests.command.journals import check_identity, rows, seconds
from tests.command.misfortune import PATCH, Footprint, Host, Watcher
from tests.command.processes import Agent, running
from tests.command.waiting import until
from tests.stores.victoria import Victoria, victoria

GPUS = 4
SETTINGS = """
[agent]
interval_seconds = 1
poll_seconds = {poll}
[node]
name = "n1"
labels = {{ pool = "p{number}" }}
[web]
port = 0
[journal]
sync = "normal"
[states]
patience_batch_seconds = {patience}
[[exporters.to]]
name = "fleet"
kind = "influx"
url = "{url}/influx"
bucket = "gpu"
timeout_seconds = 2
"""
IMPOSSIBLE = """
    SELECT * FROM account WHERE min(elapsed_ms, busy_us, busy_seen_ms, energy_mj, energy_seen_ms) < 0
    OR busy_us > 1000 * busy_seen_ms OR busy_seen_ms > elapsed_ms OR energy_mj > 1500000 * energy_seen_ms
"""
WARM_UP_SHARE = 0.2
GROWTH_MB, MORE_DESCRIPTORS = 8.0, 3
MOST_BLIND_SECONDS = 6.0
"""So long may a probe be away that crashed or was replaced, on a slow machine, with pauses after several."""


def _text(number: int, url: str) -> str:
    poll, patience = (1, 1, 0.5)[number % 3], 300 + number % 2
    return SETTINGS.format(url=url, number=number % 3, poll=poll, patience=patience)


def _live(minutes: float, host: Host, agent: Agent, store: Victoria, settings: Path) -> Footprint:
    """Let things go wrong at random, then put them right, and wait until all is written and sent."""
    footprint = Footprint(agent.process.pid)
    began = time.monotonic()
    until_s, reload_at, free_at = began + minutes * 60, began + 5.0, 0.0
    chaos: list[Callable[[], None]] = [
        lambda: host.kill_probe(agent),
        host.step_clock,
        lambda: host.turn_store(store),
        host.fill_disk,
        lambda: host.storm(agent),
    ]
    while (now := time.monotonic()) < until_s:
        assert agent.process.poll() is None, agent.said
        if now >= reload_at:
            host.reload(agent, settings, lambda number: _text(number, store.url))
            reload_at = now + min(60.0, minutes * 60 / 10)
        if host.is_full and now >= free_at:
            host.free_disk()
        elif host.chance.random() < 0.25:
            host.chance.choice(chaos)()
            free_at = time.monotonic() + host.chance.uniform(3, 25)
        footprint.look()
        time.sleep(host.chance.uniform(0.5, 3.0))
    host.free_disk()
    if host.store_is_away:
        host.turn_store(store)
    until(lambda: agent.value("gputally_journal_pending_ticks") == 0, "all to be written")
    until(lambda: 0 <= _waiting(agent) <= 2, "the store to have all")
    footprint.look()
    return footprint


def _waiting(agent: Agent) -> float:
    found = agent.samples("gputally_exporter_waiting_ticks")
    return next(iter(found.values()), -1.0)


def figures(minutes: float, folder: Path) -> None:
    """Live through so much time; raise when anything is not as it must be."""
    journal, settings = folder / "j.db", folder / "s.toml"
    with victoria() as store, Host(folder, seed=int(minutes * 60)) as host:
        settings.write_text(_text(0, store.url), encoding="utf-8")
        arguments = ("--simulate", f"h200x{GPUS}:mixed", "--settings", settings, "--journal", journal)
        with running(folder, *arguments, patch=PATCH) as agent:
            agent.shows_gpus(GPUS)
            watcher = Watcher(agent)
            watcher.start()
            began = time.monotonic()
            footprint = _live(minutes, host, agent, store, settings)
            lived_seconds = time.monotonic() - began
            final = sum(agent.samples("gpu_tally_seconds_total").values())
            watcher.end()
            assert agent.end() == 0
            said = agent.said
    _report(host, footprint, watcher, lived_seconds, journal)
    for kind in ("probe", "clock forward", "clock back", "store back", "disk full", "storm", "reload"):
        assert host.met[kind], kind
    _nothing_grew(footprint)
    assert watcher.pages > lived_seconds / 10
    assert watcher.lower == []
    check_identity(journal)
    _nothing_is_lost(journal, host, lived_seconds)
    states = [state for (state,) in rows(journal, "SELECT DISTINCT state FROM account")]
    booked = sum(seconds(journal, state) for state in states)
    assert booked - 10 * GPUS <= final <= booked + 1e-6
    assert "intervals are kept in memory meanwhile" in said
    assert "nothing was lost" in said
    assert "new settings are refused" in said


def _nothing_grew(footprint: Footprint) -> None:
    warm = footprint.taken[int(len(footprint.taken) * WARM_UP_SHARE) :]
    tenth = max(3, len(warm) // 8)
    first, last = warm[:tenth], warm[-tenth:]
    assert statistics.median(last_mb for last_mb, _, _ in last) < GROWTH_MB + max(mb for mb, _, _ in first)
    assert footprint.taken[-1][1] <= statistics.median(fds for _, fds, _ in first) + MORE_DESCRIPTORS
    assert footprint.taken[-1][2] <= footprint.taken[0][2] + THREADS


def _nothing_is_lost(journal: Path, host: Host, lived_seconds: float) -> None:
    """Ticks follow one another but where a probe was away or the clock was set; all they say is possible."""
    ids = [number for (number,) in rows(journal, "SELECT id FROM tick ORDER BY id")]
    assert ids == list(range(1, len(ids) + 1))
    ticks = rows(journal, "SELECT start_ms, end_ms FROM tick ORDER BY id")
    assert all(start_ms < end_ms for start_ms, end_ms in ticks)
    breaks = sum(before[1] != after[0] for before, after in pairwise(ticks))
    probes = host.met["probe"] + host.met["reload"] + 2
    steps = host.met["clock forward"] + host.met["clock back"]
    assert breaks <= 2 * (probes + steps), (breaks, probes, steps)
    covered = sum(end_ms - start_ms for start_ms, end_ms in ticks) / 1000
    assert covered <= lived_seconds + host.forward_seconds + 60
    assert covered >= lived_seconds - MOST_BLIND_SECONDS * (probes + steps)
    unknown = seconds(journal, "unknown") / GPUS
    assert unknown <= host.forward_seconds + MOST_BLIND_SECONDS * (probes + steps), unknown
    assert rows(journal, IMPOSSIBLE) == []


def _report(host: Host, footprint: Footprint, watcher: Watcher, lived_seconds: float, journal: Path) -> None:
    ticks = rows(journal, "SELECT count(*) FROM tick")[0][0]
    looks = footprint.taken[:: max(1, len(footprint.taken) // 12)]
    sys.stdout.write(
        f"{lived_seconds:.0f} s, {ticks} ticks, {watcher.pages} pages read, {dict(host.met)}\n"
        f"MB, descriptors, threads: {[(round(mb, 1), fds, threads) for mb, fds, threads in looks]}\n"
    )


@pytest.mark.slow
def test_half_an_hour_of_misfortune(tmp_path: Path) -> None:
    """Thirty minutes, in which settings are read again every minute."""
    figures(30, tmp_path)
