"""The report as JSON: the promised keys, exact sums, and nothing that a parser would refuse."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent.tally import HOUR_MS
from agent.tick import Condition, Gpu, State
from reports.forms.data import to_json
from reports.prices import PriceBook, default_prices
from tests.reports.small import ALICE, BOB, Deed, Small, day, gpu, report_of, tamper


def loaded(path: Path, price: float | None = None, prices: PriceBook | None = None) -> Any:  # noqa: ANN401  JSON has no types
    """Write a report as JSON and read it with exact numbers."""

    def refuse(word: str) -> None:
        pytest.fail(f"{word} is not JSON")

    return json.loads(
        to_json(report_of(path, price=price, prices=prices)), parse_float=Decimal, parse_constant=refuse
    )


def test_the_promised_keys_are_there(tmp_path: Path) -> None:
    """Programs rely on the names of the design."""
    data = loaded(day(tmp_path / "journal.db"), price=2.0)
    assert data["schema_version"] == 1
    assert data["window"] == {
        "from": "2026-11-16T00:00:00Z",
        "to": "2026-11-16T04:00:00Z",
        "timezone": "UTC",
        "seconds": 14_400,
    }
    assert (data["inventory"]["gpus"], data["inventory"]["gpu_seconds"]) == (4, 57_600)
    assert set(data["states"]) == set(State)
    assert {"gpu_seconds", "joules", "cost"} <= data["states"]["active"].keys()
    assert data["identity_ok"] is True
    assert float(data["busy_ratio_mean"]) == pytest.approx(2.8 / 11)
    assert set(data["effective_ratio"]) == {"low", "high"}
    assert [owner["owner"] for owner in data["owners"]] == ["alice", "bob", "unattributed"]
    assert data["gpus"][1]["longest_spell_seconds"] == 12_600
    assert data["spells"][0]["beyond_patience_seconds"] == 10_800
    assert data["findings"] == []
    assert data["decisions"][1]["kind"] == "down"
    assert float(data["coverage_ratio"]) == pytest.approx(11 / 13)


def test_states_sum_exactly_as_printed(tmp_path: Path) -> None:
    """Odd milliseconds of many intervals add up to the inventory, digit by digit."""
    small = Small(tmp_path / "journal.db")
    for number in range(40):
        length_ms = 100_003 + 77 * number
        does: dict[Gpu, Deed] = {gpu(0): (ALICE, {"busy_ratio": 0.0}), gpu(1): (BOB, {"busy_ratio": 0.4})}
        small.pass_by(length_ms, does if number % 7 else {gpu(0): (None, None), gpu(1): (None, None)})
    small.save()
    data = loaded(small.path)
    total = sum(Decimal(state["gpu_seconds"]) for state in data["states"].values())
    assert total == data["inventory"]["gpu_seconds"] == Decimal(2 * (40 * 100_003 + 77 * 780)) / 1000


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    """All down, no price: no coverage, no busy share, no energy, no cost, and no NaN."""
    small = Small(tmp_path / "journal.db")
    small.pass_by(HOUR_MS, {gpu(0): (None, Condition.LOST)})
    small.save()
    data = loaded(small.path)
    assert data["coverage_ratio"] is None
    assert data["busy_ratio_mean"] is None
    assert data["states"]["down"]["joules"] is None
    assert data["states"]["down"]["cost"] is None


def test_violations_are_counted_and_listed(tmp_path: Path) -> None:
    """A program can tell which hour is wrong, and by how much."""
    path = day(tmp_path / "journal.db")
    tamper(path, "UPDATE account_hour SET elapsed_ms = elapsed_ms + 1 WHERE state = 'free' AND gpu_id = 3")
    data = loaded(path)
    assert data["identity_ok"] is False
    assert data["identity_violations"]["count"] == 4
    assert data["identity_violations"]["first"][0] == {
        "uuid": "GPU-00000002-aaaa",
        "hour": "2026-11-16T00:00:00Z",
        "inventory_seconds": 3600,
        "states_seconds": Decimal("3600.001"),
    }


def test_prices_are_told_with_their_time(tmp_path: Path) -> None:
    """Which price each group had, and that it is nobody's contract; one price of all is told as before."""
    path = day(tmp_path / "journal.db")
    told = loaded(path, prices=default_prices())
    assert told["price_per_gpu_hour"] is None
    assert told["prices"]["default"] is True
    assert (told["prices"]["currency"], told["prices"]["note"][:13]) == ("USD", "default price")
    assert told["prices"]["rates"] == [
        {
            "pool": "",
            "model": "NVIDIA H200",
            "from": "2026-11-16T00:00:00Z",
            "to": "2026-11-16T04:00:00Z",
            "gpu_seconds": Decimal(57_600),
            "per_gpu_hour": Decimal("3.75"),
        }
    ]
    flat = loaded(path, price=2.0)
    assert (flat["price_per_gpu_hour"], flat["prices"]["default"]) == (2, False)
    none = loaded(path)
    assert (none["prices"]["currency"], none["prices"]["note"]) == (None, "")
