"""`gputally demo`: a simulated node with a week of history, then live; nothing else needed."""

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from agent.clock import now_ms
from agent.errors import SettingsError
from agent.simulated.scenario import Simulation
from agent.tally import DAY_MS
from agent.tick import Tick
from gputally.batch import bulk_books
from gputally.beside import end, started
from gputally.live import Live
from gputally.progress import Progress
from gputally.run import holders_in, live_arguments, settings_of, simulated
from gputally.settings import Settings, state_folder

PRESENT_MS = 1_000
"""History ends when it is so near to now: what is left is shorter than writing it takes."""
STEP_MS = 60_000
COMMIT_TICKS = 1_000
LONGEST_DAYS = 400

WHERE_TO_LOOK = """
The week is in {journal}. Look at it, here or from another terminal:

  {url:<44} what every GPU does now
  curl {url}metrics
  gputally status --journal {journal}
  gputally report --journal {journal} --last 7d --out week.html
{page}
Live now, one tick every {interval:g} s. Stop with Ctrl-C.
"""
PATIENCE_SECONDS = 5.0
PAGE = """
The weekly report as planners get it will be in a moment at {url}
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--simulate",
        metavar="MODELxN[:SCENARIO][!FAULT]",
        default="h200x8:demo",
        help="what to simulate (default: h200x8:demo)",
    )
    parser.add_argument("--days", type=float, default=7.0, help="of history to make (default: 7)")
    live_arguments(parser)


def execute(options: argparse.Namespace) -> int:
    """Make the history, then run live. Raises SettingsError, JournalError."""
    if not 0 < options.days <= LONGEST_DAYS:
        raise SettingsError(f"--days must lie between 0 and {LONGEST_DAYS}")
    options.simulate, simulation = simulated(options.simulate)
    if options.journal is None:
        options.journal = _own_journal(options.simulate)
    settings = settings_of(options)
    path, length_ms = Path(settings.journal.path), round(options.days * DAY_MS)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    history = partial(back_fill, simulation, settings, path, length_ms)
    with Live(settings, options.simulate, partial(holders_in, simulation), prepare=history) as live:
        interval = settings.agent.interval_seconds
        with _page(path) as page:
            print(WHERE_TO_LOOK.format(journal=path, url=live.url, interval=interval, page=page), flush=True)
            live.run(options.seconds)
    return 0


@contextlib.contextmanager
def _page(journal: Path) -> Iterator[str]:
    """Have the planner's page of the week made, where what it needs is installed; say where it will be."""
    if find_spec("altair") is None or find_spec("vl_convert") is None:
        yield ""
        return
    out = journal.with_suffix(".html")
    asked = ["report", "--journal", str(journal), "--last", "7d", "--out", str(out)]
    maker = started([sys.executable, "-m", "gputally", *asked])
    try:
        yield PAGE.format(url=out.absolute().as_uri())
    finally:
        end(maker, PATIENCE_SECONDS)


def _own_journal(simulation: str) -> Path:
    """Give the path of a demo's journal: one per simulation, which the next demo continues."""
    name = simulation.partition("!")[0].replace(":", "-")
    return state_folder() / "demo" / f"{name}.db"


def back_fill(simulation: Simulation, settings: Settings, path: Path, length_ms: int) -> None:
    """Write history up to now, one tick a minute, from the integrals of the scenario itself.

    What was there already is continued. The driver's interface is not in this path; all that follows it is.
    """
    node = settings.node.resolved()
    end_ms = 0
    holders = holders_in(simulation, settings, lambda: end_ms - 1)
    gpus = tuple(simulation.gpu(index) for index in range(simulation.count))
    known_gpus = {gpu.uuid: gpu for gpu in gpus}
    began_ms = now_ms()
    with bulk_books(path, settings, node=node) as books:
        known = [line.until_ms for line in books.tally.timelines.values() if line.node == node]
        start_ms = max((began_ms - length_ms) // STEP_MS * STEP_MS, *known, 0)
        progress = Progress("history in virtual time", (began_ms - start_ms) // STEP_MS, "ticks")
        ticks = 0
        while (until_ms := now_ms()) - start_ms >= PRESENT_MS:
            end_ms = min((start_ms // STEP_MS + 1) * STEP_MS, until_ms)
            readings = tuple(simulation.reading(index, start_ms, end_ms) for index in range(simulation.count))
            tick = Tick(node=node, start_ms=start_ms, end_ms=end_ms, readings=readings, gpus=gpus)
            books.post(tick, holders.holds(readings, known_gpus))
            start_ms, ticks = end_ms, ticks + 1
            if ticks % COMMIT_TICKS == 0 or until_ms - end_ms < STEP_MS:
                books.commit(end_ms)
                progress(ticks)
