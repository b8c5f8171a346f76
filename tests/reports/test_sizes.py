"""Right-sizing: only where all is known and leaves room."""

import pytest

from agent.tally import HOUR_MS
from agent.tick import State
from reports.content.sizes import sizes, slices_of
from reports.facts import Facts, Tenure
from reports.sections import SizeLine
from reports.sums import SpellRow
from tests.reports.made import H200, Did, made, spell, tenure

GIB = 2**30
MEMORY = {H200.model: 140.0 * GIB, "Tesla T4": 16.0 * GIB, "NVIDIA A30": 24.0 * GIB}
ALL = {State.ACTIVE: 60.0, State.HELD_GAP: 40.0}


def advice(
    one: Tenure, model: str = H200.model, spells: tuple[SpellRow, ...] = (), price: float | None = None
) -> SizeLine | None:
    """Advise a holder whose GPUs are all of one model."""
    report = made(
        *(Did(uuid, {State.ACTIVE: 168.0}, owner="alice", model=model) for uuid in "ABCD"),
        spells=spells,
        price=price,
    )
    return next(iter(sizes(report, Facts(tenures=(one,), memory_bytes=MEMORY))), None)


@pytest.mark.parametrize(
    ("activity", "gib", "text", "freed"),
    [
        (0.10, 10, "a MIG slice of 1/7", 6 / 7),
        (0.10, 14, "a MIG slice of 1/7", 6 / 7),
        (0.10, 15, "a MIG slice of 2/7", 5 / 7),
        (0.20, 10, "a MIG slice of 2/7", 5 / 7),
        (0.10, 56, "a MIG slice of 3/7", 1 / 2),
        (0.001, 10, "a MIG slice of 1/7", 6 / 7),
    ],
)
def test_the_smallest_slice_that_leaves_room(activity: float, gib: float, text: str, freed: float) -> None:
    """Of 140 GiB an eighth is 17.5, of which 80 % are 14; of a seventh 80 % are 11.4 % of the activity."""
    found = advice(tenure("7", ALL, activity=activity, memory=gib * GIB), price=2.0)
    assert found is not None
    assert (found.advice, found.saving_ms) == (text, round(100 * HOUR_MS * freed))
    assert (found.holder, found.owner, found.model, found.gpu_ms) == (
        "job 7",
        "alice",
        H200.model,
        100 * HOUR_MS,
    )
    assert found.cost == pytest.approx(200 * freed)


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(tenure("7", ALL, activity=0.21), id="at work for more than a fifth"),
        pytest.param(tenure("7", ALL, activity=0.0), id="did nothing: that is waste"),
        pytest.param(tenure("7", {State.HELD_IDLE: 100.0}, activity=0.01), id="never active"),
        pytest.param(tenure("7", ALL, activity=None), id="activity not known"),
        pytest.param(tenure("7", ALL, memory=0.0), id="memory not known"),
        pytest.param(tenure("7", ALL, memory=57.0 * GIB), id="needs more than half the memory"),
        pytest.param(tenure("7", {State.ACTIVE: 23.9}, end=23.9), id="less than a day"),
        pytest.param(tenure("7", ALL, start=-77, end=23), id="less than a day in the window"),
        pytest.param(tenure("7", {State.ACTIVE: 50.0}), id="held half of its GPU, or a slice"),
        pytest.param(tenure("7", ALL, gpus=("Z",)), id="on a GPU that is not known"),
        pytest.param(tenure("7", ALL, start=200, end=300), id="after the window"),
    ],
)
def test_no_advice_is_better_than_a_bad_one(one: Tenure) -> None:
    """Each lacks one thing."""
    assert advice(one) is None


def test_a_model_of_unknown_memory_gets_no_advice() -> None:
    """What share of it was used cannot be told."""
    assert advice(tenure("7", ALL), model="NVIDIA B200") is None


def test_a_model_that_cannot_be_cut_is_too_large() -> None:
    """6.4 of 16 GiB are 80 % of a half; more is not."""
    found = advice(tenure("7", ALL, memory=6.4 * GIB), model="Tesla T4")
    assert found is not None
    assert (found.advice, found.saving_ms) == ("a smaller model, half as large", 50 * HOUR_MS)
    assert advice(tenure("7", ALL, memory=6.5 * GIB), model="Tesla T4") is None


def test_an_a30_has_quarters() -> None:
    """4.8 GiB are 80 % of 6."""
    found = advice(tenure("7", ALL, activity=0.2, memory=4.8 * GIB), model="NVIDIA A30")
    assert found is not None
    assert (found.advice, found.saving_ms) == ("a MIG slice of 1/4", 75 * HOUR_MS)


@pytest.mark.parametrize(
    ("model", "count"),
    [
        ("NVIDIA A100-SXM4-80GB", 4),
        ("NVIDIA H100 80GB HBM3", 4),
        ("NVIDIA GB200", 4),
        ("NVIDIA A30", 2),
        ("NVIDIA A10", 0),
        ("NVIDIA L40S", 0),
        ("NVIDIA GeForce RTX 3090", 0),
        ("", 0),
    ],
)
def test_slices_are_of_models_that_can_be_cut(model: str, count: int) -> None:
    """By the whole word: an A10 is no A100."""
    assert len(slices_of(model)) == count


def test_a_holder_beyond_the_window_counts_by_its_part_in_it() -> None:
    """Half of 100 hours lie in the window."""
    found = advice(tenure("7", ALL, start=-50, end=50))
    assert found is not None
    assert found.gpu_ms == 50 * HOUR_MS


def test_several_gpus_are_told_to_be_fewer() -> None:
    """Four at 15 % are 0.6 GPUs, which one carries at 80 %; 120 GiB need two, at 80 % of 140 each."""
    held = {State.ACTIVE: 200.0, State.HELD_GAP: 200.0}
    found = advice(tenure("7", held, gpus=tuple("ABCD"), activity=0.15, memory=100.0 * GIB))
    assert found is not None
    assert (found.advice, found.saving_ms) == ("1 of its 4 GPUs", 300 * HOUR_MS)
    found = advice(tenure("7", held, gpus=tuple("ABCD"), activity=0.15, memory=120.0 * GIB))
    assert found is not None
    assert found.advice == "2 of its 4 GPUs"


def test_several_gpus_full_of_memory_are_left_alone() -> None:
    """500 GiB need all four."""
    held = {State.ACTIVE: 400.0}
    assert advice(tenure("7", held, gpus=tuple("ABCD"), activity=0.15, memory=500.0 * GIB)) is None


def test_gpus_that_a_spell_shows_unused_are_named() -> None:
    """However busy the others are: C was without activity for 96 of 100 hours, D for 90."""
    held = {State.ACTIVE: 300.0, State.HELD_IDLE: 100.0}
    spells = (spell("C", "alice", "7", 4, 100), spell("D", "alice", "7", 10, 100))
    found = advice(tenure("7", held, gpus=tuple("ABCD"), activity=0.7), spells=spells)
    assert found is not None
    assert (found.advice, found.saving_ms) == ("3 of its 4 GPUs: the others did nothing", 100 * HOUR_MS)


def test_those_that_free_most_come_first() -> None:
    """200 GPU-hours before 100."""
    report = made(*(Did(uuid, {State.ACTIVE: 168.0}, owner="alice") for uuid in "AB"))
    tenures = (
        tenure("7", {State.ACTIVE: 50.0}, end=50),
        tenure("8", {State.ACTIVE: 100.0}, gpus=("B",)),
    )
    found = sizes(report, Facts(tenures=tenures, memory_bytes=MEMORY))
    assert [line.holder for line in found] == ["job 8", "job 7"]
