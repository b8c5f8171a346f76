"""What sections are made from besides the accounts, as a store tells it; see journal_facts.py."""

from collections import defaultdict
from dataclasses import replace

from agent.tally import HOUR_MS
from reports.facts import Facts, GpuFacts, Stay
from reports.sources.from_ledger import Drawn
from reports.sources.gathered import Gathered
from reports.sources.ledger import Ledger, Seat
from reports.sources.settled_hours import settled
from reports.sums import Stretch
from reports.window import Window

_ONLY_JOURNALS = "only journals of nodes tell {}: give a folder of them with --journal"


def facts_from(ledger: Ledger, drawn: Drawn) -> Facts:
    """Read what a store has of the time that was gathered. Raises StoreError."""
    gathered, window = drawn.gathered, drawn.gathered.covered
    pools = {seat.node: one.pool for seat, one in drawn.known.items() if one.pool}
    return Facts(
        hours=settled(ledger.hours(_hours(window)), gathered, pools),
        free=tuple(ledger.free(_hours(window))),
        gpus=_gpus(ledger, window),
        stays=_stays(gathered),
        lives=drawn.lives,
        pools=pools,
        identities=gathered.identities,
        missing={
            "gpus": "no clocks were lowered and no XIDs came; stores are not asked for temperatures",
            "tenures": _ONLY_JOURNALS.format("what each holder had"),
            "memory_bytes": _ONLY_JOURNALS.format("what each holder had"),
            "spells": _ONLY_JOURNALS.format("single spells"),
        },
    )


def _hours(window: Window) -> Window:
    """Give the whole hours that a window touches."""
    return replace(
        window, from_ms=window.from_ms // HOUR_MS * HOUR_MS, to_ms=-(-window.to_ms // HOUR_MS) * HOUR_MS
    )


def _gpus(ledger: Ledger, window: Window) -> dict[tuple[str, str], GpuFacts]:
    lowered, xids = ledger.throttled(window), ledger.xids(window)
    return {
        (seat.uuid, seat.node): GpuFacts(throttle_ms=lowered.get(seat, {}), xids=xids.get(seat, {}))
        for seat in sorted(lowered.keys() | xids.keys())
    }


def _stays(gathered: Gathered) -> tuple[Stay, ...]:
    """Tell where GPUs were within the window; those that are there at its end stay."""
    by_seat: defaultdict[Seat, list[Stretch]] = defaultdict(list)
    for one in gathered.stretches:
        by_seat[Seat(one.uuid, one.node)].append(one)
    return tuple(
        Stay(
            seat.uuid,
            seat.node,
            stretches[-1].position,
            min(one.start_ms for one in stretches),
            None if (end_ms := max(one.end_ms for one in stretches)) >= gathered.covered.to_ms else end_ms,
        )
        for seat, stretches in sorted(by_seat.items())
    )
