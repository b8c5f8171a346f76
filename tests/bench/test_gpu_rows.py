"""Lines of the check: what agrees, what differs, and how it is printed."""

import pytest

from bench.gpu_rows import Tolerance, Verdict, close, not_checked, rows_table, same, summary, written


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ([100.0], 100.0, Verdict.AGREE),
        ([90.0, 110.0], 100.0, Verdict.AGREE),
        ([94.0], 100.0, Verdict.AGREE),
        ([93.0], 100.0, Verdict.DIFFER),
        ([110.0, 120.0], 100.0, Verdict.DIFFER),
        ([], 100.0, Verdict.ONLY_THEIRS),
        ([100.0], None, Verdict.ONLY_OURS),
    ],
)
def test_theirs_must_lie_in_our_range(ours: list[float], theirs: float | None, verdict: Verdict) -> None:
    """The range of ours around the moment, widened by the tolerance, holds theirs, or the two differ."""
    row = close("gpu 0", "power_watts", ours, theirs, Tolerance(1.0, 0.05))
    assert row is not None
    assert row.verdict is verdict


def test_what_neither_tells_is_no_line() -> None:
    """Silence on both sides is not worth a line."""
    assert close("gpu 0", "power_watts", [], None) is None
    assert same("gpu 0", "serial", "", None) is None


def test_what_may_have_moved_does_not_fail() -> None:
    """A difference in what was read long ago is said and does not count."""
    row = close("gpu 0", "performance_state_code", [8.0], 0.0, may_move=True)
    assert row is not None
    assert (row.verdict, row.fails) == (Verdict.MOVED, False)


def test_identities_are_equal_but_for_capitals() -> None:
    """A bus id may be written in capitals; any other difference counts."""
    verdicts = [
        row.verdict
        for row in (
            same("gpu 0", "pci_bus", "00000000:1B:00.0", other) for other in ("00000000:1b:00.0", "x", "")
        )
        if row
    ]
    assert verdicts == [Verdict.AGREE, Verdict.DIFFER, Verdict.ONLY_OURS]


def test_a_table_names_unit_and_tolerance() -> None:
    """Lines are in columns; what was not checked fails and says why."""
    row = close("gpu 0", "memory_used_bytes", [1 << 20, 3 << 20], 2.0 * (1 << 20), Tolerance(1 << 20))
    assert row is not None
    skipped = not_checked("gpu 0", "load", "it is in use")
    text = rows_table([row, skipped])
    assert "gpu 0  memory_used_bytes  1 MiB … 3 MiB  2 MiB         ±1 MiB     agree" in text
    assert "it is in use" in text
    assert skipped.fails
    assert summary([row, skipped]) == "1 agree, 1 NOT CHECKED"


def test_large_counts_keep_their_digits() -> None:
    """A counter without a unit is printed whole."""
    assert written("pcie_replays_total", 12_345_678) == "12345678"
