"""A journal of two GPUs with findings, made without an agent."""

from collections.abc import Sequence
from pathlib import Path

from agent.clock import now_ms
from agent.tick import Condition, Finding, Hold
from tests.agent.histories import INTERVAL_MS, NODE, TRAINING, books_at, gpu_of, reading, tick_of

GPUS = (gpu_of(0), gpu_of(1))


def finding(severity: str, index: int | None) -> Finding:
    """Make a finding on a GPU, or on the node."""
    uuid = "" if index is None else GPUS[index].uuid
    return Finding(
        rule=f"of_{severity}", severity=severity, node=NODE, uuid=uuid, opened_ms=0, summary="s", action="a"
    )


def journal(
    path: Path, findings: Sequence[Finding] = (), *, end_ms: int = 0, condition: Condition = Condition.OK
) -> Path:
    """Write a journal of two GPUs whose last interval ended now, or then; the second may be out of order."""
    end_ms = end_ms or now_ms()
    start_ms = end_ms - INTERVAL_MS
    with books_at(path / "j.db", now_ms=start_ms) as books:
        readings = (
            reading(GPUS[0], start_ms, end_ms, busy_ratio=0.5),
            reading(GPUS[1], start_ms, end_ms, condition),
        )
        holds = {GPUS[0].uuid: (Hold(TRAINING),)}
        books.post(tick_of(start_ms, end_ms, *readings, gpus=GPUS), holds, judge=lambda _: findings)
        books.commit(end_ms)
    return path / "j.db"
