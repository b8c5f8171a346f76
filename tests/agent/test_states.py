"""The states: first match wins, and every threshold at its edge."""

from collections.abc import Mapping, Sequence

import pytest

from agent.errors import SettingsError
from agent.quantities import Amount
from agent.states import UNATTRIBUTED, StateSettings, Verdict, activity, judge, judge_parts
from agent.tick import Condition, Hold, Process, Reading, Slice, State, Workload, reading_of, slice_of
from tests.agent.histories import BURN_IN, INTERVAL_MS, MIDNIGHT, SWEEP, TRAINING, gpu_of

GPU = gpu_of(0)
SETTINGS = StateSettings(service_owners=("burnin-*", "health"))
HELD = (Hold(TRAINING),)
SERVICE = (Hold(BURN_IN),)
MIB, GIB = 1024**2, 1024**3
BUSY = {"busy_ratio": 0.87, "memory_used_bytes": 61.5 * GIB, "memory_total_bytes": 141.0 * GIB}
IDLE = {"busy_ratio": 0.0, "memory_used_bytes": 0.0, "memory_total_bytes": 141.0 * GIB}


def seen(values: Mapping[str, Amount], condition: Condition = Condition.OK) -> Reading:
    """Make a reading of ten seconds."""
    return reading_of(GPU.uuid, MIDNIGHT, MIDNIGHT + INTERVAL_MS, values, condition=condition)


def state_of(
    seen_now: Reading,
    holds: Sequence[Hold] = (),
    settings: StateSettings = SETTINGS,
    *,
    drained: bool = False,
) -> State:
    """Judge a reading and give the state alone."""
    return judge(seen_now, holds, settings, drained=drained).state


@pytest.mark.parametrize("condition", list(Condition))
def test_drained_comes_before_all_else(condition: Condition) -> None:
    """A GPU that an operator took out is drained, though it be lost, busy or held."""
    assert state_of(seen(BUSY, condition), SERVICE, drained=True) is State.DRAINED


@pytest.mark.parametrize("condition", [condition for condition in Condition if condition is not Condition.OK])
def test_a_gpu_that_cannot_be_spoken_with_is_down(condition: Condition) -> None:
    """Lost, reset required, hung and missing are down, held or not, whatever was read before."""
    assert state_of(seen({}, condition), HELD) is State.DOWN
    assert state_of(seen(BUSY, condition), SERVICE) is State.DOWN


@pytest.mark.parametrize("holds", [(), HELD, SERVICE])
def test_a_reading_that_says_nothing_is_unknown(holds: Sequence[Hold]) -> None:
    """Without any quantity that could decide, a GPU is unknown: not free, not idle, not in service."""
    assert state_of(seen({}), holds) is State.UNKNOWN
    assert state_of(seen({"power_watts": 118.0, "temperature_celsius": 41.0}), holds) is State.UNKNOWN


def test_undecidable_activity_of_a_held_gpu_is_unknown() -> None:
    """Where the device does not say whether it works, a GPU that somebody holds is unknown."""
    assert state_of(seen({"memory_used_bytes": 2.0 * GIB}), HELD) is State.UNKNOWN
    assert state_of(seen({"memory_used_bytes": 0.0}), HELD) is State.UNKNOWN


def test_undecidable_activity_of_a_gpu_held_by_memory_is_unknown() -> None:
    """Used memory holds a GPU as well as a job does."""
    assert state_of(seen({"memory_used_bytes": 2.0 * GIB})) is State.UNKNOWN


def test_undecidable_activity_of_a_gpu_that_nobody_holds_is_free() -> None:
    """Nobody there and no memory used: free, though the device does not tell its activity."""
    assert state_of(seen({"memory_used_bytes": 3.0 * MIB})) is State.FREE


def test_an_empty_list_of_processes_is_proof_that_nobody_holds() -> None:
    """A driver that lists processes and finds none shows a free GPU, even if it says no more."""
    nobody = reading_of(GPU.uuid, MIDNIGHT, MIDNIGHT + INTERVAL_MS, {}, processes=())
    assert state_of(nobody) is State.FREE


@pytest.mark.parametrize(("values", "state"), [({}, State.UNKNOWN), (IDLE, State.HELD_GAP)])
def test_a_process_with_a_context_holds(values: dict[str, Amount], state: State) -> None:
    """A GPU with a process on it is never free, named holder or not."""
    processes = (Process(pid=31_337, memory_used_bytes=300 * MIB),)
    assert (
        state_of(reading_of(GPU.uuid, MIDNIGHT, MIDNIGHT + INTERVAL_MS, values, processes=processes)) is state
    )


@pytest.mark.parametrize("values", [BUSY, IDLE])
def test_a_gpu_that_only_service_holds_is_in_service(values: dict[str, Amount]) -> None:
    """Burn-in and health checks are service, working or not."""
    assert state_of(seen(values), SERVICE) is State.SERVICE


def test_a_gpu_that_service_shares_with_work_is_not_in_service() -> None:
    """One holder outside the patterns makes it ordinary work."""
    assert state_of(seen(BUSY), (*SERVICE, *HELD)) is State.ACTIVE
    assert state_of(seen(IDLE), (*SERVICE, *HELD)) is State.HELD_GAP


def test_without_patterns_nothing_is_service() -> None:
    """The default settings know no service owners."""
    assert state_of(seen(BUSY), SERVICE, StateSettings()) is State.ACTIVE


def test_service_owners_are_matched_whole_and_with_case() -> None:
    """A pattern matches the whole owner, in its own case."""
    night = BURN_IN
    for owner, state in {
        "burnin-": State.SERVICE,
        "my-burnin-night": State.ACTIVE,
        "Burnin-night": State.ACTIVE,
        "health": State.SERVICE,
        "healthy": State.ACTIVE,
    }.items():
        holder = type(night)(kind=night.kind, name=night.name, owner=owner)
        assert state_of(seen(BUSY), (Hold(holder),)) is state


@pytest.mark.parametrize(
    ("values", "works"),
    [
        ({"busy_ratio": 0.05}, True),
        ({"busy_ratio": 0.0499}, False),
        ({"sm_active_ratio": 0.02}, True),
        ({"sm_active_ratio": 0.0199}, False),
        ({"sm_active_ratio": 0.0199, "busy_ratio": 1.0}, False),
        ({"sm_active_ratio": 0.02, "busy_ratio": 0.0}, True),
        ({"busy_ratio": 0.0, "encoder_ratio": 0.001}, True),
        ({"busy_ratio": 0.0, "decoder_ratio": 0.001}, True),
        ({"busy_ratio": 0.0, "jpeg_ratio": 0.001}, True),
        ({"busy_ratio": 0.0, "ofa_ratio": 0.001}, True),
        ({"sm_active_ratio": 0.0, "busy_ratio": 0.0, "decoder_ratio": 0.3}, True),
        ({"encoder_ratio": 0.001}, True),
        ({"encoder_ratio": 0.0, "decoder_ratio": 0.0, "jpeg_ratio": 0.0, "ofa_ratio": 0.0}, None),
        ({"memory_busy_ratio": 0.9, "power_watts": 640.0}, None),
        ({}, None),
    ],
)
def test_activity_at_its_thresholds(values: dict[str, Amount], works: bool | None) -> None:  # noqa: FBT001
    """SM activity from 2 %, where it is not told busy time from 5 %, or any engine at work is activity."""
    assert activity(seen(values), SETTINGS) is works


def test_thresholds_are_settings() -> None:
    """Other thresholds judge otherwise."""
    strict = StateSettings(active_busy_ratio=0.5, active_sm_ratio=0.25)
    assert activity(seen({"busy_ratio": 0.49}), strict) is False
    assert activity(seen({"sm_active_ratio": 0.24}), strict) is False
    assert activity(seen({"busy_ratio": 0.5}), strict) is True


@pytest.mark.parametrize(
    ("used_bytes", "total_bytes", "state"),
    [
        (512 * MIB, 24 * GIB, State.FREE),
        (512 * MIB + 1, 24 * GIB, State.HELD_GAP),
        (512 * MIB + 1, None, State.HELD_GAP),
        (512 * MIB, None, State.FREE),
        (512 * MIB + 1, 100 * GIB, State.FREE),
        (1 * GIB, 100 * GIB, State.FREE),
        (1 * GIB + 1, 100 * GIB, State.HELD_GAP),
    ],
)
def test_memory_holds_beyond_its_threshold(used_bytes: int, total_bytes: int | None, state: State) -> None:
    """More than 512 MiB and more than 1 % of the memory in use means that somebody is there."""
    values = {"busy_ratio": 0.0, "memory_used_bytes": used_bytes, "memory_total_bytes": total_bytes}
    assert state_of(seen(values)) is state


def test_memory_without_a_holder_is_answered_by_nobody_known() -> None:
    """A GPU held by memory alone is booked under an owner of its own."""
    verdict = judge(seen({**IDLE, "memory_used_bytes": 2.0 * GIB}), (), SETTINGS)
    assert [hold.holder.owner for hold in verdict.holds] == [UNATTRIBUTED]


def test_activity_without_a_holder_is_answered_by_nobody_known() -> None:
    """A GPU that works for nobody known is active all the same."""
    verdict = judge(seen({"busy_ratio": 0.6, "memory_used_bytes": 0.0}), (), SETTINGS)
    assert verdict.state is State.ACTIVE
    assert [hold.holder.owner for hold in verdict.holds] == [UNATTRIBUTED]


def test_a_job_that_runs_nothing_holds_its_gpu() -> None:
    """A GPU that was given to a job is held, though no process and no memory is on it."""
    assert state_of(seen(IDLE), HELD) is State.HELD_GAP


def test_all_holders_answer_for_work() -> None:
    """The verdict names every holder with its share."""
    holds = (Hold(TRAINING, 0.7), Hold(SWEEP, 0.3))
    assert Verdict(State.ACTIVE, holds) == judge(seen(BUSY), holds, SETTINGS)
    assert Verdict(State.HELD_GAP, holds) == judge(seen(IDLE), holds, SETTINGS)


def test_nobody_answers_for_a_gpu_that_is_drained_or_down() -> None:
    """Time that no holder could use is not booked under one."""
    assert Verdict(State.DRAINED) == judge(seen(BUSY), HELD, SETTINGS, drained=True)
    assert Verdict(State.DOWN) == judge(seen({}, Condition.LOST), HELD, SETTINGS)


def test_a_gpu_that_nobody_holds_and_that_rests_is_free() -> None:
    """Busy below the threshold, no holder, no memory: free."""
    assert Verdict(State.FREE) == judge(seen({**IDLE, "busy_ratio": 0.04}), (), SETTINGS)


@pytest.mark.parametrize(
    ("workload", "minutes"),
    [(Workload.BATCH, 30), (Workload.INTERACTIVE, 60), (Workload.SERVING, 24 * 60)],
)
def test_patience_by_class(workload: Workload, minutes: int) -> None:
    """Batch may pause 30 min, interactive 60 min, serving 24 h."""
    assert minutes * 60_000 == StateSettings().patience_ms(workload)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("active_busy_ratio", 5.0),
        ("active_sm_ratio", -0.01),
        ("held_memory_ratio", float("nan")),
        ("held_memory_bytes", -1),
        ("patience_batch_seconds", -1.0),
        ("patience_serving_seconds", float("inf")),
        ("spell_unknown_seconds", float("nan")),
        ("default_workload", "training"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(name: str, value: object) -> None:
    """A refused value is named with its section."""
    with pytest.raises(SettingsError, match=rf"^\[states\] {name} "):
        StateSettings(**{name: value})  # type: ignore[arg-type]


def test_a_gpu_with_only_a_display_server_is_free() -> None:
    """What only draws does not hold; what computes does, though nobody could name it."""
    idle = {"busy_ratio": 0.0, "memory_used_bytes": 4.0 * 2**20}
    draws = reading_of("GPU-1", 0, 10_000, idle, processes=(Process(pid=100, kind="graphics"),))
    works = reading_of("GPU-1", 0, 10_000, idle, processes=(Process(pid=100),))
    assert judge(draws, (), StateSettings()).state is State.FREE
    assert judge(works, (), StateSettings()).state is State.HELD_GAP


# Parts of a partitioned GPU


def _slice(uuid: str, weight: float = 3 / 7, **values: float) -> Slice:
    return slice_of(uuid, "3g.71gb", weight, values)


def _partitioned(*slices: Slice, processes: tuple[Process, ...] = ()) -> Reading:
    return reading_of("GPU-1", 0, 10_000, {"power_watts": 300.0}, processes=processes, slices=slices)


def test_each_slice_has_a_state_of_its_own_and_the_rest_is_free() -> None:
    """Weights sum to 1."""
    seen = _partitioned(_slice("MIG-a", sm_active_ratio=0.5), _slice("MIG-b", 1 / 7, sm_active_ratio=0.0))
    holds = (Hold(TRAINING, None, "MIG-a"), Hold(SWEEP, None, "MIG-b"))
    parts = judge_parts(seen, holds, StateSettings())
    assert [(one.state, one.slice, [hold.holder for hold in one.holds]) for one in parts] == [
        (State.ACTIVE, "MIG-a", [TRAINING]),
        (State.HELD_GAP, "MIG-b", [SWEEP]),
        (State.FREE, "", []),
    ]
    assert [one.weight for one in parts] == pytest.approx([3 / 7, 1 / 7, 3 / 7])


def test_who_holds_the_gpu_as_a_whole_holds_the_slices_that_nobody_else_does() -> None:
    """A job that was given all of a partitioned GPU answers for each slice without a holder."""
    seen = _partitioned(_slice("MIG-a", sm_active_ratio=0.5), _slice("MIG-b", sm_active_ratio=0.0))
    parts = judge_parts(seen, (Hold(TRAINING), Hold(SWEEP, None, "MIG-b")), StateSettings())
    assert [[hold.holder for hold in one.holds] for one in parts] == [[TRAINING], [SWEEP], []]


def test_a_slice_is_held_by_what_is_on_it() -> None:
    """A process or memory on a slice holds that slice and no other."""
    slices = (
        _slice("MIG-a", 1 / 7, sm_active_ratio=0.0),
        _slice("MIG-b", 1 / 7, sm_active_ratio=0.0, memory_used_bytes=2.0**31),
        _slice("MIG-c", 1 / 7, sm_active_ratio=0.0, memory_used_bytes=0.0),
    )
    parts = judge_parts(
        _partitioned(*slices, processes=(Process(pid=1, slice="MIG-a"),)), (), StateSettings()
    )
    assert [one.state for one in parts] == [State.HELD_GAP, State.HELD_GAP, State.FREE, State.FREE]


def test_what_is_in_no_slice_of_a_known_size_is_unknown() -> None:
    """Where the driver does not tell the size of a slice, the rest cannot be called free."""
    parts = judge_parts(_partitioned(_slice("MIG-a", 0.0, sm_active_ratio=0.5)), (), StateSettings())
    assert [(one.state, one.weight) for one in parts] == [(State.ACTIVE, 0.0), (State.UNKNOWN, 1.0)]


def test_a_partitioned_gpu_that_is_down_or_drained_is_so_as_a_whole() -> None:
    """There is nothing to say of slices then."""
    seen = _partitioned(_slice("MIG-a", sm_active_ratio=0.5))
    assert judge_parts(seen, (), StateSettings(), drained=True) == (Verdict(State.DRAINED),)
    gone = reading_of("GPU-1", 0, 10_000, {}, condition=Condition.LOST, slices=seen.slices)
    assert judge_parts(gone, (), StateSettings()) == (Verdict(State.DOWN),)


def test_slices_that_seem_more_than_the_gpu_are_cut() -> None:
    """Weights never sum to more than 1, whatever a driver says."""
    slices = tuple(_slice(f"MIG-{name}", 4 / 7, sm_active_ratio=0.5) for name in "abc")
    parts = judge_parts(_partitioned(*slices), (), StateSettings())
    assert sum(one.weight for one in parts) == pytest.approx(1)
