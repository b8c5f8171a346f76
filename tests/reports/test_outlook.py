"""Decisions by the sections of a report: what is urgent goes first, what saves goes by its hours."""

from dataclasses import replace

from agent.tally import DAY_MS, HOUR_MS
from agent.tick import State
from reports.content.decisions import decide
from reports.content.outlook import urgent, worthwhile
from reports.outline import Decision, Report
from reports.sections import (
    CapacityLine,
    ForecastLine,
    Group,
    GroupLine,
    Reliability,
    Sections,
    SickLine,
    SizeLine,
)
from tests.reports.made import H200, WEEK, Did, made

TEN = made(*(Did(f"GPU-{number}", {State.ACTIVE: 100.0, State.FREE: 68.0}) for number in range(10)))
WEEK_MS = 7 * DAY_MS
FORECAST = ForecastLine(
    group=Group("train", "NVIDIA H200"),
    weeks=8,
    demand=(),
    slope_per_week=1.0,
    limit=8.5,
    crossing_ms=WEEK.to_ms + 5 * WEEK_MS,
    crossing_early_ms=None,
    crossing_late_ms=None,
    reclaimed_ms=WEEK.to_ms + 12 * WEEK_MS,
)
CAPACITY = CapacityLine(
    group=H200,
    gpus=10.0,
    usable=10.0,
    held_mean=5.0,
    held_p95=6.0,
    held_p99=6.0,
    peak=6.5,
    peak_ms=0,
    headroom=4.0,
    returnable=3,
)
COSTLY = GroupLine(
    group=H200, gpus=10, inventory_ms=1680 * HOUR_MS, elapsed_ms={}, busy_ratio_mean=None, cost=3360.0
)
SIZE = SizeLine(
    owner="nlp",
    holder="slurm 7",
    model=H200.model,
    gpu_ms=168 * HOUR_MS,
    activity_mean=0.1,
    memory_max_bytes=1.0,
    advice="a MIG slice of 3/7",
    saving_ms=96 * HOUR_MS,
    cost=192.0,
)


def sick(uuid: str, *, replace: bool) -> SickLine:
    """Make a GPU that failed."""
    return SickLine(
        uuid=uuid,
        serial=f"S-{uuid}",
        node="n1",
        model="",
        down_ms=2 * HOUR_MS,
        incidents=1,
        rules=(),
        xids={},
        replace=replace,
    )


def reliability(*lines: SickLine) -> Reliability:
    """Put failed GPUs into a section."""
    return Reliability(
        incidents=len(lines),
        down_ms=0,
        between_failures_hours=None,
        to_repair_hours=None,
        xids={},
        lines=lines,
    )


def urgent_of(sections: Sections) -> list[Decision]:
    """Give what is urgent."""
    return list(urgent(TEN, sections))


def with_sections(sections: Sections) -> Report:
    """Give the report of ten GPUs with sections."""
    return replace(TEN, sections=sections)


def test_a_group_that_will_be_full_is_told_with_what_puts_it_off() -> None:
    """Five weeks, twelve without idle time: seven more."""
    (one,) = urgent_of(Sections(forecast=(FORECAST,)))
    assert (one.kind, one.gpu_ms, one.cost) == ("buy", 0, None)
    assert one.text == (
        "NVIDIA H200 in pool train will be full in 5 weeks (85 % of 10.0 usable): "
        "win back idle time, which puts that off by 7 weeks, and plan for more"
    )


def test_a_group_that_is_full_now_and_one_that_idle_time_alone_fills() -> None:
    """Other words for both."""
    full = replace(FORECAST, crossing_ms=WEEK.to_ms, reclaimed_ms=WEEK.to_ms)
    (one,) = urgent_of(Sections(forecast=(full,)))
    assert one.text.endswith("are full already (85 % of 10.0 usable): plan for more")
    (one,) = urgent_of(Sections(forecast=(replace(FORECAST, reclaimed_ms=None),)))
    assert one.text.endswith("win back idle time first: without it they are not full within three years")


def test_what_is_full_in_more_than_half_a_year_is_not_urgent() -> None:
    """26 weeks are, a day more is not; nor is what never will be."""
    edge = WEEK.to_ms + 26 * WEEK_MS
    assert urgent_of(Sections(forecast=(replace(FORECAST, crossing_ms=edge),)))
    assert not urgent_of(Sections(forecast=(replace(FORECAST, crossing_ms=edge + DAY_MS),)))
    assert not urgent_of(Sections(forecast=(replace(FORECAST, crossing_ms=None),)))


def test_boards_to_be_replaced_are_named_by_serial() -> None:
    """The first, and how many more; those that are merely sick are not."""
    lines = sick("A", replace=True), sick("B", replace=False), sick("C", replace=True)
    (one,) = urgent_of(Sections(reliability=reliability(*lines)))
    assert (one.kind, one.gpu_ms) == ("replace", 4 * HOUR_MS)
    assert one.text == "have S-A on node n1 and 1 more replaced: what was found on them means a new board"
    assert not urgent_of(Sections(reliability=reliability(sick("B", replace=False))))


def test_spare_gpus_are_given_back_and_not_told_as_free() -> None:
    """Three of ten for a week, at what the group costs: 2 an hour."""
    told = decide(with_sections(Sections(capacity=(CAPACITY,), groups=(COSTLY,))))
    assert [one.kind for one in told] == ["return"]
    assert (told[0].gpu_ms, told[0].cost) == (3 * WEEK_MS, 3 * 168 * 2.0)
    assert told[0].text == (
        "give back or lend 3 of 10 GPUs of NVIDIA H200: they were not needed in 99.5 % of the hours"
    )
    assert [one.kind for one in decide(TEN)] == ["free"]


def test_gpus_of_a_group_that_grows_are_kept() -> None:
    """A trend that will fill it, or too few of them."""
    grows = Sections(capacity=(CAPACITY,), forecast=(replace(FORECAST, group=H200),))
    assert not list(worthwhile(TEN, grows))
    few = replace(CAPACITY, gpus=100.0)
    assert not list(worthwhile(TEN, Sections(capacity=(few,))))


def test_holders_that_could_do_with_less_are_one_sentence() -> None:
    """The one that saves most, and the sum of all."""
    less = replace(SIZE, saving_ms=24 * HOUR_MS, cost=48.0)
    little = replace(SIZE, saving_ms=23 * HOUR_MS)
    (one,) = worthwhile(TEN, Sections(sizes=(less, SIZE, little)))
    assert (one.kind, one.gpu_ms, one.cost) == ("resize", 120 * HOUR_MS, 240.0)
    assert one.text == (
        "move slurm 7 of nlp to a MIG slice of 3/7 (saves 96.0 GPU-h), and 1 more that could do with less"
    )


def test_what_is_urgent_goes_first() -> None:
    """Before what has more hours."""
    told = decide(with_sections(Sections(forecast=(FORECAST,), sizes=(SIZE,))))
    assert [one.kind for one in told] == ["buy", "free", "resize"]
