"""Writes a journal as fast as it can, in virtual time, until it is killed.

Run as `python -m tests.agent.restless_writer FILE GAP_MS`. It goes on where the journal ends; with a gap it
leaves so much time out and resumes first. After each commit it prints the end of the interval, and the
milliseconds and millijoules of all accounts.
"""

import sys
from pathlib import Path

from agent.books import Books
from agent.journal import Journal, JournalSettings
from agent.states import StateSettings
from agent.tick import Gpu, Hold, Holder, Tick, reading_of

START_MS = 1_767_657_600_000
INTERVAL_MS = 10_000
NODE = "hall2-n017"
GPUS = tuple(Gpu(uuid=f"GPU-77aa-{index}", index=index, model="NVIDIA H200") for index in range(4))
JOBS = tuple(Holder(kind="slurm", name=str(4700 + job), owner=f"group-{job % 3}") for job in range(7))


def tick_from(start_ms: int) -> Tick:
    """Make the tick of an interval; every value follows from its number."""
    number, end_ms = start_ms // INTERVAL_MS, start_ms + INTERVAL_MS
    readings = [
        reading_of(
            gpu.uuid,
            start_ms,
            end_ms,
            {"busy_ratio": (number + gpu.index) % 5 / 4, "power_watts": 100.0 + number % 600},
        )
        for gpu in GPUS
    ]
    return Tick(node=NODE, start_ms=start_ms, end_ms=end_ms, readings=tuple(readings), gpus=GPUS)


def write(path: Path, gap_ms: int) -> None:
    """Write until killed."""
    journal = Journal(path, JournalSettings(max_bytes=64 * 1024**2), START_MS)
    books = Books(journal, StateSettings(patience_batch_seconds=25), boot_id="boot-1")
    lines = books.tally.timelines.values()
    now_ms = max((line.until_ms for line in lines), default=START_MS) + gap_ms
    books.resume(NODE, now_ms, START_MS - 1)
    while True:
        number = now_ms // INTERVAL_MS
        holds = {gpu.uuid: (Hold(JOBS[(number // 9 + gpu.index) % len(JOBS)]),) for gpu in GPUS}
        tick = tick_from(now_ms)
        now_ms = tick.end_ms
        books.post(tick, holds)
        books.commit(now_ms)
        accounts = books.accounts.by_key.values()
        elapsed_ms = sum(account.elapsed_ms for account in accounts)
        sys.stdout.write(f"{now_ms} {elapsed_ms} {sum(account.energy_mj for account in accounts)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
