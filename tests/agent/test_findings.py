"""Findings open once, stay while they are true, and close when the GPU is seen without them."""

from dataclasses import replace
from pathlib import Path

from agent.findings import FLAP_MS, Findings
from agent.states import StateSettings
from agent.tick import Condition, Finding, Gpu, Hold, Tick, reading_of
from tests.agent.histories import TRAINING, books_at, rows

FINDING = Finding(rule="cold", severity="warning", node="n", uuid="GPU-1", opened_ms=1_000, summary="s")


def test_a_finding_opens_once() -> None:
    """Found again, it is the same finding, and keeps its beginning."""
    findings = Findings()
    assert findings.update([FINDING], {"GPU-1"}, 1_000) == (FINDING,)
    assert findings.update([replace(FINDING, opened_ms=2_000)], {"GPU-1"}, 2_000) == ()
    assert findings.open == (FINDING,)


def test_a_finding_closes_when_its_gpu_is_seen_without_it() -> None:
    """It tells when it closed, and a long while later another one may open."""
    findings = Findings([FINDING])
    assert findings.update([], {"GPU-1"}, 3_000) == (replace(FINDING, closed_ms=3_000),)
    assert findings.open == ()
    late_ms = 3_001 + FLAP_MS
    another = replace(FINDING, opened_ms=late_ms)
    assert findings.update([another], {"GPU-1"}, late_ms) == (another,)


def test_a_finding_that_comes_and_goes_is_one_with_a_count() -> None:
    """Open again soon after it closed, it is the same, once more."""
    findings = Findings()
    findings.update([FINDING], {"GPU-1"}, 1_000)
    for place in range(1, 6):
        at_ms = 1_000 + place * 600_000
        findings.update([], {"GPU-1"}, at_ms)
        again = replace(FINDING, opened_ms=at_ms + 300_000)
        assert findings.update([again], {"GPU-1"}, at_ms + 300_000) == (replace(FINDING, times=place + 1),)
    assert findings.open == (replace(FINDING, times=6),)


def test_not_seeing_is_no_recovery() -> None:
    """While the GPU is not seen its finding stays open."""
    findings = Findings([FINDING])
    assert findings.update([], {"GPU-2"}, 3_000) == ()
    assert findings.open == (FINDING,)


def test_findings_survive_a_restart(tmp_path: Path) -> None:
    """What is open in the journal is open for the next agent, and closes in the same row."""
    gpu = Gpu(uuid="GPU-1", index=0, model="NVIDIA H200")
    path = tmp_path / "journal.db"
    with books_at(path, StateSettings(), now_ms=0) as books:
        well = reading_of("GPU-1", 0, 1_000, {"busy_ratio": 0.0})
        books.post(
            Tick(node="n", start_ms=0, end_ms=1_000, readings=(well,), gpus=(gpu,)),
            {},
            judge=lambda _: [FINDING],
        )
        books.commit(1_000)
    with books_at(path, StateSettings(), now_ms=1_000) as books:
        assert books.findings.open == (FINDING,)
        lost = reading_of("GPU-1", 1_000, 2_000, {}, condition=Condition.LOST)
        books.post(Tick(node="n", start_ms=1_000, end_ms=2_000, readings=(lost,), gpus=(gpu,)), {})
        assert books.findings.open == (FINDING,)
        well = reading_of("GPU-1", 2_000, 3_000, {"busy_ratio": 0.0})
        books.post(Tick(node="n", start_ms=2_000, end_ms=3_000, readings=(well,), gpus=(gpu,)), {})
        books.commit(3_000)
    assert rows(path, "SELECT rule, opened_ms, closed_ms FROM finding") == [("cold", 1_000, 3_000)]


def test_a_finding_that_comes_and_goes_is_one_row_over_restarts(tmp_path: Path) -> None:
    """Whoever held the GPU last when it opened is named."""
    gpu = Gpu(uuid="GPU-1", index=0, model="NVIDIA H200")
    path = tmp_path / "journal.db"
    for place in range(4):
        with books_at(path, StateSettings(), now_ms=place * 1_000) as books:
            span = place * 1_000, (place + 1) * 1_000
            well = reading_of("GPU-1", *span, {"busy_ratio": 0.5})
            books.post(
                Tick(node="n", start_ms=span[0], end_ms=span[1], readings=(well,), gpus=(gpu,)),
                {"GPU-1": (Hold(TRAINING),)},
                judge=lambda _, place=place: [FINDING] if place % 2 == 0 else [],  # type: ignore[misc]
            )
            books.commit(span[1])
    found = rows(path, "SELECT rule, opened_ms, closed_ms, times, held_by FROM finding")
    assert found == [("cold", 1_000, 4_000, 2, "job 4711 of vision")]
