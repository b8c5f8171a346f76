"""A fleet of a believable size with a believable week, the same one each time, for whoever shows reports."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from agent.states import UNATTRIBUTED
from agent.tally import HOUR_MS, apportion
from agent.tick import Finding, State
from reports.prices import flat_price
from reports.report import MOST_SPELLS, Report, build
from reports.sources.gathered import Gathered
from reports.sources.identity import Violation
from reports.sums import AccountSum, Amounts, Identity, SpellRow, Stretch
from reports.window import Span, Window
from tests.reports.small import MONDAY_MS

FROM_MS = MONDAY_MS - HOUR_MS
WEEK_MS = 168 * HOUR_MS
WINDOW = Window(from_ms=FROM_MS, to_ms=FROM_MS + WEEK_MS, timezone="Europe/Berlin", label="week 2026-W47")
GPUS_OF_A_NODE = 8
PRICE = 2.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Nodes of one kind: how many per hundred, and what a GPU of them draws at work and at rest."""

    name: str
    model: str
    of_a_hundred: int
    work_watts: int
    rest_watts: int


POOLS = (
    Pool(name="hall1", model="NVIDIA H100 80GB HBM3", of_a_hundred=44, work_watts=560, rest_watts=72),
    Pool(name="hall2", model="NVIDIA H200", of_a_hundred=36, work_watts=590, rest_watts=78),
    Pool(name="hall3", model="NVIDIA A100-SXM4-80GB", of_a_hundred=20, work_watts=310, rest_watts=61),
)
OWNERS = (
    "llm-pretrain",
    "speech",
    "vision",
    "robotics",
    "recsys",
    "biology",
    "search-ranking",
    "climate",
    "safety-evals",
    "teaching",
    "interactive",
    UNATTRIBUTED,
)
_PARTS = {
    "llm-pretrain": (84, 5, 2, 7),
    "speech": (58, 8, 20, 12),
    "vision": (66, 6, 11, 15),
    "robotics": (49, 9, 24, 16),
    "recsys": (71, 6, 5, 16),
    "biology": (62, 7, 14, 15),
    "search-ranking": (74, 8, 4, 12),
    "climate": (69, 6, 7, 16),
    "safety-evals": (55, 10, 12, 20),
    "teaching": (28, 10, 26, 34),
    "interactive": (31, 12, 29, 26),
    UNATTRIBUTED: (24, 6, 31, 37),
}
"""Of a hundred hours of an owner's GPUs: active, in a gap, idle, free between two holders."""
_WEIGHTS = (30, 9, 12, 8, 10, 6, 7, 5, 4, 3, 4, 2)
_BUSY = {"llm-pretrain": 0.93, "teaching": 0.21, "interactive": 0.34}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A GPU of the sample, and where it sits."""

    uuid: str
    node: str
    position: int
    serial: str
    pool: Pool
    owner: str


def seats(nodes: int, owners: Sequence[str] = OWNERS, seed: int = 47) -> list[Seat]:
    """Furnish so many nodes with GPUs; each GPU has an owner that uses it most."""
    dice = Random(seed)  # noqa: S311  no secret
    found = []
    for number in range(nodes):
        pool = _pool(number, nodes)
        owner = dice.choices(owners, _WEIGHTS[: len(owners)])[0]
        for position in range(GPUS_OF_A_NODE):
            if position == GPUS_OF_A_NODE // 2:
                owner = dice.choices(owners, _WEIGHTS[: len(owners)])[0]
            found.append(
                Seat(
                    uuid=f"GPU-{dice.getrandbits(32):08x}-{dice.getrandbits(16):04x}-4{dice.getrandbits(12):03x}"
                    f"-a{dice.getrandbits(12):03x}-{dice.getrandbits(48):012x}",
                    node=f"{pool.name}-n{number + 1:03}",
                    position=position,
                    serial=f"16{dice.randrange(10**11):011}",
                    pool=pool,
                    owner=owner,
                )
            )
    return found


def _pool(number: int, nodes: int) -> Pool:
    upto = 0
    for pool in POOLS:
        upto += pool.of_a_hundred
        if number * 100 < upto * nodes:
            return pool
    return POOLS[-1]


def _week(seat: Seat, dice: Random, number: int) -> Iterator[tuple[State, str, int]]:
    """Spend the week of one GPU; the parts sum to it exactly."""
    spared = 0
    if number % 97 == 13:
        spared = dice.randrange(20, 120) * HOUR_MS
        yield State.DOWN, "", spared
    elif number // GPUS_OF_A_NODE == 7:
        spared = 31 * HOUR_MS + 12_345
        yield State.UNKNOWN, "", spared
    elif number // GPUS_OF_A_NODE == 21:
        spared = 52 * HOUR_MS
        yield State.DRAINED, "", spared
    service = dice.randrange(2, 5) * HOUR_MS // 2
    yield State.SERVICE, "gputally-burn-in", service
    active, gap, idle, free = _PARTS.get(seat.owner, (60, 8, 14, 18))
    weights = [max(1, part * dice.randrange(60, 141)) for part in (active, gap, idle, free)]
    shares = apportion(WEEK_MS - spared - service, weights)
    states = (State.ACTIVE, State.HELD_GAP, State.HELD_IDLE, State.FREE)
    for state, elapsed_ms in zip(states, shares, strict=True):
        yield state, "" if state is State.FREE else seat.owner, elapsed_ms


def _amounts(seat: Seat, state: State, owner: str, elapsed_ms: int, dice: Random) -> Amounts:
    unseen = state in (State.UNKNOWN, State.DOWN)
    works = state in (State.ACTIVE, State.SERVICE)
    busy = _BUSY.get(owner, 0.78) * dice.randrange(88, 108) / 100 if works else 0.0
    watts = seat.pool.work_watts if works else seat.pool.rest_watts
    return Amounts(
        elapsed_ms=elapsed_ms,
        busy_us=int(elapsed_ms * busy) * 1000,
        busy_seen_ms=0 if unseen else elapsed_ms,
        energy_mj=0 if unseen else elapsed_ms * watts,
        energy_seen_ms=0 if unseen else elapsed_ms,
    )


def gathered(placed: Sequence[Seat], violations: Sequence[Violation] = (), seed: int = 11) -> Gathered:
    """Let a week pass over GPUs that were placed."""
    dice = Random(seed)  # noqa: S311  no secret
    rows = []
    for number, seat in enumerate(placed):
        for state, owner, elapsed_ms in _week(seat, dice, number):
            amounts = _amounts(seat, state, owner, elapsed_ms, dice)
            rows.append(AccountSum(seat.uuid, seat.node, state, owner, amounts))
    idle = sorted(
        (row for row in rows if row.state is State.HELD_IDLE), key=lambda row: -row.amounts.elapsed_ms
    )
    return Gathered(
        covered=WINDOW,
        span=Span(first_ms=FROM_MS - 5 * WEEK_MS, last_ms=WINDOW.to_ms, enrolled_ms=FROM_MS - 5 * WEEK_MS),
        rows=rows,
        stretches=[
            Stretch(seat.uuid, seat.node, seat.position, WINDOW.from_ms, WINDOW.to_ms) for seat in placed
        ],
        violations=violations,
        identities={seat.uuid: Identity(seat.pool.model, seat.serial) for seat in placed},
        longest_spells={(row.uuid, row.node): row.amounts.elapsed_ms // 2 for row in idle},
        spells=[_spell(row, number) for number, row in enumerate(idle[:MOST_SPELLS])],
        findings=list(_findings(placed)),
        staying=frozenset(seat.uuid for seat in placed),
        unseen=lambda _: {},
    )


def _spell(row: AccountSum, number: int) -> SpellRow:
    length_ms = row.amounts.elapsed_ms
    start_ms = FROM_MS + (number + 1) * 7 * HOUR_MS
    return SpellRow(
        uuid=row.uuid,
        kind="pod" if number % 3 == 0 else "slurm",
        holder=f"lab/notebook-{number}" if number % 3 == 0 else f"{471_100 + 37 * number}",
        owner=row.owner,
        user=f"user{number}",
        start_ms=start_ms,
        end_ms=start_ms + length_ms,
        seen_ms=length_ms,
        beyond_ms=length_ms - HOUR_MS // 2,
        ended=number % 4 != 0,
    )


def _findings(placed: Sequence[Seat]) -> Iterator[Finding]:
    told = (
        ("gpu_down", "critical", "the GPU does not answer", "reset or reboot; replace if it goes again"),
        ("row_remap_failure", "critical", "a row of memory could not be remapped", "have the card replaced"),
        (
            "thermal_margin_low",
            "warning",
            "less than 5 °C from the limit",
            "look at fans, filters and inlet air",
        ),
        ("idle_held", "info", "held without activity for more than 8 h", "ask the owner to let go of it"),
    )
    for number, seat in enumerate(placed[13::97]):
        rule, severity, summary, action = told[number % len(told)]
        opened_ms = FROM_MS + (9 + 13 * number) * HOUR_MS
        yield Finding(
            rule=rule,
            severity=severity,
            node=seat.node,
            uuid=seat.uuid,
            opened_ms=opened_ms,
            closed_ms=None if number % 2 else opened_ms + 6 * HOUR_MS,
            summary=summary,
            action=action,
        )


def sample_report(nodes: int = 50, price: float | None = PRICE, owners: Sequence[str] = OWNERS) -> Report:
    """Build the report of the sample: eight GPUs in each node."""
    return report_of_seats(seats(nodes, owners), price)


def report_of_seats(
    placed: Sequence[Seat], price: float | None = PRICE, violations: Sequence[Violation] = ()
) -> Report:
    """Build the report of GPUs that were placed."""
    return build(
        gathered(placed, violations),
        WINDOW,
        prices=flat_price(price),
        now_ms=WINDOW.to_ms + 6 * HOUR_MS,
    )
