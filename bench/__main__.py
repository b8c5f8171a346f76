"""`make bench`: prints each figure beside what was promised.

Whole commands are timed as processes; medians of several runs where they are short. Promises: the GenTD26
replay under 10 s, a simulated week of 8 GPUs at 60 s under 10 s, one live tick of 8 GPUs under 20 ms of
processor time, the parent under 45 MB and the probe under 25 MB resident.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from agent.clock import now_ms
from agent.tally import DAY_MS
from bench import boards, delivery, encoding, ledger
from bench.holders import refresh_ms
from bench.latency import build, cost, sampling
from bench.own import own
from bench.rules import judged
from bench.thousand import push
from bench.web import scrapes

ROOT = Path(__file__).resolve().parents[1]
GENTD26 = ROOT.parent / "shared" / "data" / "gentd26.csv.gz"
GPUTALLY = (sys.executable, "-m", "gputally")
MEGABYTE = 1_000_000
TICK_SECONDS = 10
LARGE = ("-search.maxUniqueTimeseries=2000000", "-search.maxSeries=1000000")
"""Lets a VictoriaMetrics look at more series at once than it would."""


def main() -> None:
    """Run all benches, or those that are named."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--live-seconds", type=float, default=45.0)
    parser.add_argument("--recording", type=Path, default=GENTD26)
    parser.add_argument("--fleet-gpus", type=int, default=10_000, help="of the report (default: 10000)")
    parser.add_argument("--latency-ticks", type=int, default=6, help="intervals per latency (default: 6)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        replay(options.recording, here, options.runs)
        week(here, options.runs)
        naming(here)
        sending(here)
        crowd()
        live(here, options.live_seconds)
        pages(here)
        rules()
        fleet(here, options.fleet_gpus)
        dashboards(here, options.fleet_gpus)
        latencies(here, options.latency_ticks)


def say(what: str, figure: str, promise: str) -> None:
    """Print one figure."""
    told = f"   promised: {promise}" if promise else ""
    print(f"{what:<58} {figure:>14}{told}", flush=True)


def timed(arguments: list[str]) -> float:
    """Give the seconds that a gputally command takes, start to end."""
    began = time.perf_counter()
    subprocess.run([*GPUTALLY, *arguments], check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - began


def replay(recording: Path, here: Path, runs: int) -> None:
    """Time the replay of the production recording."""
    if not recording.exists():
        say("replay of GenTD26", "not at hand", "under 10 s")
        return
    seconds = [
        timed(["replay", str(recording), "--journal", str(here / f"replay-{run}.db")]) for run in range(runs)
    ]
    say(f"replay of {recording.name}, median of {runs}", f"{median(seconds):.2f} s", "under 10 s")
    for workload in ("batch", "serving"):
        flagged, gpus = held_idle(recording, here, workload)
        promise = "0" if workload == "serving" else ""
        say(f"GPUs flagged held idle, all held by work of class {workload}", f"{flagged} of {gpus}", promise)


def held_idle(recording: Path, here: Path, workload: str) -> tuple[int, int]:
    """Tell how many GPUs of a recording are flagged held idle where all work is of a class, of how many."""
    settings, journal = here / f"{workload}.toml", here / f"{workload}.db"
    settings.write_text(f'[states]\ndefault_workload = "{workload}"\n', encoding="utf-8")
    timed(["replay", str(recording), "--journal", str(journal), "--settings", str(settings)])
    asked = ["rules", "backtest", "--journal", str(journal), "--findings", "--json"]
    done = subprocess.run([*GPUTALLY, *asked], check=True, capture_output=True, cwd=ROOT)
    told = json.loads(done.stdout)
    return len(flagged_by(told)), told["gpus"]


def flagged_by(told: Mapping[str, Any]) -> set[str]:
    """List the GPUs that a rule about GPUs that are held and idle flagged."""
    return {one["uuid"] for one in told["findings"] if one["rule"].startswith("held_idle")}


def week(here: Path, runs: int) -> None:
    """Time a simulated week of 8 GPUs at 60 s."""
    seconds = [
        timed(["demo", "--journal", str(here / f"week-{run}.db"), "--port", "0", "--for", "0"])
        for run in range(runs)
    ]
    say(f"simulated week of 8 GPUs at 60 s, median of {runs}", f"{median(seconds):.2f} s", "under 10 s")


def sending(here: Path) -> None:
    """Measure encoders, and how long a day takes from the journal into a store."""
    for one in encoding.figures():
        say(*one)
    journal = here / "day.db"
    delivery.write_day(journal)
    with delivery.store() as (url, _):
        for kind in ("influx", "remote_write") if url else ():
            seconds, values = delivery.catch_up(journal, url, kind)
            say(f"a day of 8 GPUs into VictoriaMetrics by {kind}", f"{seconds:.1f} s", "under 30 s")
            say(f"values of that day, by {kind}", f"{values:,}", "")


def crowd() -> None:
    """Measure a store that a thousand nodes push into."""
    with delivery.store() as (url, pid):
        if not url:
            say("a thousand nodes into VictoriaMetrics", "not installed", "")
            return
        load = push(url, pid, 60.0)
    what = "1 000 nodes of 8 GPUs into one VictoriaMetrics"
    say(f"{what}, values a second", f"{load.values_per_second:,.0f}", "")
    say("the same, lag in the median, at most", f"{load.lag_ms:.0f}, {load.worst_lag_ms:.0f} ms", "")
    say("the same, later than an interval", f"{load.late}", "0")
    say("the same, memory of the store", f"{load.store_megabytes:.0f} MB", "")


def naming(here: Path) -> None:
    """Measure what it costs to name the holders of 200 processes on 8 GPUs."""
    folder = here / "proc"
    folder.mkdir()
    first_ms, later_ms = refresh_ms(folder)
    what = "naming the holders of 200 GPU processes, 5 000 on the host"
    say(f"{what}, all new", f"{first_ms:.1f} ms", "under 50 ms")
    say(f"{what}, later", f"{later_ms:.1f} ms", "under 50 ms")


def live(here: Path, seconds: float) -> None:
    """Watch a running agent of 8 GPUs: processor time per tick and resident memory of both processes."""
    probe = own("h200x8")
    arguments = ["run", "--simulate", "h200x8", "--journal", str(here / "live.db"), "--port", "0"]
    with subprocess.Popen([*GPUTALLY, *arguments], cwd=ROOT, stderr=subprocess.DEVNULL) as agent:
        try:
            parent = psutil.Process(agent.pid)
            settle(parent)
            before = cpu_seconds(parent)
            time.sleep(seconds)
            parent_ms = (cpu_seconds(parent) - before) / (seconds / TICK_SECONDS) * 1000
            child = parent.children()[0]
            say("a live tick of 8 GPUs, parent", f"{parent_ms:.1f} ms", "")
            say("a live tick of 8 GPUs, probe without driver calls", f"{probe.milliseconds:.1f} ms", "")
            say("a live tick of 8 GPUs, all told", f"{parent_ms + probe.milliseconds:.1f} ms", "under 20 ms")
            say("parent resident", f"{parent.memory_info().rss / MEGABYTE:.1f} MB", "under 45 MB")
            say(
                "probe resident, simulator and all",
                f"{child.memory_info().rss / MEGABYTE:.1f} MB",
                "under 25 MB",
            )
        finally:
            agent.terminate()


def pages(here: Path) -> None:
    """Measure the page with 50 clients at once."""
    folder = here / "web"
    folder.mkdir()
    try:
        told = scrapes(folder)
    except RuntimeError as error:
        say("/metrics of 8 GPUs to 50 clients, p99", str(error), "under 5 ms")
        return
    say("/metrics of 8 GPUs to 50 clients, p99", f"{told.p99_ms:.1f} ms", "under 5 ms")
    say("the same, all in one instant, p99", f"{told.burst_p99_ms:.1f} ms", "under 5 ms")
    say("the same, from a server in C", f"{told.floor_burst_p99_ms:.1f} ms", "")


def rules() -> None:
    """Measure what judging costs."""
    told = judged()
    say(f"{told.rules} rules, per GPU and interval, of 10 000 GPUs", f"{told.us:.0f} us", "under 100 us")
    say("what is kept of a GPU for them", f"{told.kilobytes:.1f} kB", "under 20 kB")
    say("where every counter grew all day: time", f"{told.full_us:.0f} us", "under 100 us")
    say("the same: what is kept of a GPU", f"{told.full_kilobytes:.1f} kB", "under 20 kB")


def fleet(here: Path, gpus: int) -> None:
    """Time the report on a large fleet out of one store, and on a tenth of it: cost goes with GPUs."""
    first_ms = now_ms() // DAY_MS * DAY_MS - 8 * DAY_MS
    for count in (gpus // 10, gpus):
        with delivery.store(*LARGE) as (url, _):
            if not url:
                say("report out of a store", "not at hand", "under 15 s, 1 GB")
                return
            ledger.fill(url, count, first_ms)
            for name in ("week.json", "week.html"):
                told = [ledger.taken(url, first_ms, here / name) for _ in range(3)]
                seconds, most = median(one.seconds for one in told), max(one.megabytes for one in told)
                fine = "" if all(one.identity_ok for one in told) else " WRONG"
                say(
                    f"report on {count:,} GPUs out of VictoriaMetrics, {name[5:]}{fine}",
                    f"{seconds:.1f} s {most:.0f} MB",
                    "under 15 s, 1 GB" if count == gpus else "",
                )


def dashboards(here: Path, gpus: int) -> None:
    """Time every query of every dashboard at `All`, with recording rules."""
    with delivery.store(*LARGE) as (url, _):
        if not url:
            say("dashboards out of a store", "not at hand", "under 1 s")
            return
        end_ms = boards.fill(url, gpus, here)
        found = boards.slowest(url, end_ms)
        say(f"slowest of {len(found)} queries of dashboards, {gpus:,} GPUs", "", "")
        for one in found[:5]:
            say(f"  {one.board}: {one.panel}", f"{one.seconds:.2f} s", "under 1 s")


def latencies(here: Path, ticks: int) -> None:
    """Compare the agent's own processor time with that in calls, for calls of 0, 20 and 200 µs."""
    library = build(here)
    if library is None:
        say("own time over time in calls", "no C compiler", "at most 1.5")
        return
    for latency_us in (0, 20, 200):
        ours_ms, bare_ms, ratio = sampling(library, latency_us)
        told = f"{ours_ms:.1f} / {bare_ms:.1f} = {ratio:.2f}"
        say(f"sampling over the same calls made barely, of {latency_us} µs, ms", told, "at most 1.5")
    for latency_us in (0, 20, 200):
        measured = cost(library, latency_us, ticks)
        told = f"{measured.own_ms:.1f} / {measured.calls_ms:.1f} = {measured.own_ms / measured.calls_ms:.2f}"
        say(f"own ms over ms in calls of {latency_us} µs, per tick of 8 GPUs", told, "at most 1.5")
    say("driver calls per GPU and second", f"{measured.calls_per_gpu_second:.2f}", "at most 6")


def settle(parent: psutil.Process) -> None:
    """Wait until the agent has a probe and is past its start."""
    while not parent.children():
        time.sleep(0.2)
    time.sleep(TICK_SECONDS + 2)


def cpu_seconds(process: psutil.Process) -> float:
    """Give user and system time of a process."""
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
