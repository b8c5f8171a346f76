"""A day without the store, as a program of its own whose memory can be told: `outage.py JOURNAL URL BYTES`.

It enters a tick for each ten seconds of a day of eight GPUs and tries to send once a minute. When all are
there it says so and waits for a line; then it sends until nothing is left. What it says are lines of JSON.
"""

import json
import sys
from pathlib import Path

import psutil

from agent.journal import JournalSettings
from exporters.destination import ExporterSettings
from exporters.fleet import shipment_of
from exporters.shipper import IDLE_SECONDS, Shipper
from tests.agent.histories import INTERVAL_MS, MIDNIGHT, books_at, work

TICKS, GPUS, EVERY, A_MINUTE = 8_640, 8, 360, 6
_OWN = psutil.Process()


def main(journal: Path, url: str, most_bytes: int) -> None:
    """Live through a day."""
    keep = JournalSettings(sync="normal", max_bytes=most_bytes)
    settings = ExporterSettings(name="fleet", kind="influx", url=url, bucket="gpu", timeout_seconds=1)
    with books_at(journal, keep=keep) as books:
        shipper = Shipper(shipment_of(settings), journal, {})
        for done in range(0, TICKS, EVERY):
            for tick in range(done, done + EVERY, A_MINUTE):
                work(books, MIDNIGHT + tick * INTERVAL_MS, A_MINUTE, gpus=GPUS)
                shipper.step()
            books.prune(MIDNIGHT + (done + EVERY) * INTERVAL_MS)
            _say(ticks=done + EVERY, used_bytes=books.journal.used_bytes())
        sys.stdin.readline()
        steps = 0
        while shipper.step() < IDLE_SECONDS or shipper.standing.failure:
            steps += 1
            if steps % 20 == 0:
                _say(steps=steps)
        _say(waiting=shipper.standing.waiting_ticks)


def _say(**figures: int) -> None:
    sys.stdout.write(json.dumps({"resident_mb": _OWN.memory_info().rss / 1e6, **figures}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
