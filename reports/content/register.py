"""The asset register: every GPU that was ever seen, where it is, where it was, and how much it did.

A GPU is `gone` when it left its node and came to no other; else its state is the rule of the gravest failure
that is open, `down` or `unknown` if that is its state at the end of the window, and `ok` if all is well.
Where no state at the end is known, the one counts in which it was for most of the window.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from agent.tick import Finding, State
from reports.content.reliability import FAILURES, REPLACE
from reports.facts import Facts, Life, Stay
from reports.outline import GpuLine, Report
from reports.sections import AssetLine
from reports.sums import Identity

_TOLD = (State.DOWN, State.UNKNOWN)


def assets(report: Report, facts: Facts) -> tuple[AssetLine, ...]:
    """Give a line for each GPU, by node and place; those that are gone last."""
    stays: defaultdict[str, list[Stay]] = defaultdict(list)
    for stay in facts.stays:
        stays[stay.uuid].append(stay)
    seats: defaultdict[str, list[GpuLine]] = defaultdict(list)
    for seat in report.gpus:
        seats[seat.uuid].append(seat)
    failed = _open_failures(report.findings)
    lines = [
        _line(
            facts,
            _merged(sorted(found, key=lambda stay: stay.from_ms)),
            seats[uuid],
            failed.get(uuid, ""),
        )
        for uuid, found in stays.items()
    ]
    return tuple(
        sorted(lines, key=lambda line: (line.state == "gone", line.node, line.index or 0, line.uuid))
    )


def _merged(stays: Iterable[Stay]) -> list[Stay]:
    """Put stays together in which a GPU only changed its place within a node."""
    found: list[Stay] = []
    for stay in stays:
        last = found[-1] if found else None
        if last and last.node == stay.node and last.to_ms in (None, stay.from_ms):
            found[-1] = stay._replace(from_ms=last.from_ms)
        else:
            found.append(stay)
    return found


def _line(facts: Facts, stays: Sequence[Stay], seats: Sequence[GpuLine], failed: str) -> AssetLine:
    latest, uuid = stays[-1], stays[-1].uuid
    identity = facts.identities.get(uuid) or _identity(seats)
    life = facts.lives.get(uuid) or Life(until_ms=latest.from_ms, seen_ms=0, active_ms=0)
    moves = [
        (stay.node, stay.from_ms, after.from_ms if stay.to_ms is None else stay.to_ms)
        for stay, after in pairwise(stays)
    ]
    return AssetLine(
        uuid=uuid,
        serial=identity.serial,
        model=identity.model,
        node=latest.node,
        index=latest.position,
        since_ms=latest.from_ms,
        first_seen_ms=stays[0].from_ms,
        last_seen_ms=life.until_ms if latest.to_ms is None else latest.to_ms,
        seen_ms=life.seen_ms,
        active_ms=life.active_ms,
        state="gone" if latest.to_ms is not None else failed or _state(facts.latest, seats, uuid),
        moves=tuple(moves),
    )


def _identity(seats: Sequence[GpuLine]) -> Identity:
    return Identity(seats[0].model, seats[0].serial) if seats else Identity("", "")


def _state(latest: Mapping[str, State], seats: Sequence[GpuLine], uuid: str) -> str:
    """Tell what a GPU is without a finding; one of which the window has nothing is unknown."""
    if uuid in latest:
        return latest[uuid].value if latest[uuid] in _TOLD else "ok"
    owed_ms = sum(seat.inventory_ms for seat in seats)
    for state in _TOLD:
        if 2 * sum(seat.sums.elapsed_ms(state) for seat in seats) > owed_ms:
            return state.value
    return "ok" if owed_ms else State.UNKNOWN.value


def _open_failures(findings: Iterable[Finding]) -> dict[str, str]:
    """Give the rule of the gravest failure that is open, by GPU: what replaces a board, then the latest."""
    found: dict[str, str] = {}
    for one in sorted(findings, key=lambda finding: (finding.rule in REPLACE, finding.opened_ms)):
        if one.uuid and one.closed_ms is None and one.rule in FAILURES:
            found[one.uuid] = one.rule
    return found
