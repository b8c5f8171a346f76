"""The books: what a tick adds, what a restart owes, and what is published."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.books import PENDING_WHOLE, Books
from agent.errors import JournalError
from agent.states import StateSettings
from agent.tally import HOUR_MS
from agent.tick import Condition, Event, Gpu, Hold, State
from tests.agent.histories import (
    INTERVAL_MS,
    MIDNIGHT,
    NODE,
    OTHER_NODE,
    TRAINING,
    books_at,
    check_hours,
    check_sums,
    gpu_of,
    published,
    reading,
    rows,
    single,
    steady_tick,
    tick_of,
    work,
)

GPU = gpu_of(0)
HELD = {GPU.uuid: (Hold(TRAINING),)}
PAIR = (GPU, gpu_of(1))
DEFAULTS = StateSettings()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name the journal's file."""
    return tmp_path / "journal.db"


def states_ms(books: Books, gpu: Gpu = GPU, node: str = NODE) -> dict[State, int]:
    """Give the time of a GPU by state, without empty ones."""
    found: dict[State, int] = {}
    for key, account in books.accounts.by_key.items():
        if (key.uuid, key.node) == (gpu.uuid, node) and account.elapsed_ms:
            found[key.state] = found.get(key.state, 0) + account.elapsed_ms
    return found


def pause(books: Books, start_ms: int, length_ms: int) -> int:
    """Let the holder of the GPU pause, and commit; give the end."""
    end_ms = start_ms + length_ms
    seen = reading(GPU, start_ms, end_ms, busy_ratio=0.0)
    books.post(tick_of(start_ms, end_ms, seen, gpus=[GPU]), HELD)
    books.commit(end_ms)
    return end_ms


def metered(joules: float, watts: float = 300.0) -> dict[str, float]:
    """Give what a GPU says that draws power and counts energy."""
    return {
        "busy_ratio": 0.8,
        "power_watts": watts,
        "power_limit_watts": 700.0,
        "energy_joules_total": joules,
    }


def energy_mj(path: Path, *states: State) -> int:
    """Give the energy of the lifetime accounts, in some states or in all."""
    return sum(
        single(path, "SELECT sum(energy_mj) FROM account WHERE state = ?", state.value)
        for state in states or tuple(State)
    )


# Ticks


def test_a_gpu_that_the_tick_does_not_show_is_unknown(path: Path) -> None:
    """A GPU of the inventory without a reading was not seen."""
    with books_at(path) as books:
        books.post(tick_of(MIDNIGHT, MIDNIGHT + INTERVAL_MS, gpus=[GPU]), HELD)
        assert states_ms(books) == {State.UNKNOWN: INTERVAL_MS}


def test_a_gpu_that_is_no_longer_listed_is_down(path: Path) -> None:
    """What the driver enumerated before and does not now is missing."""
    with books_at(path) as books:
        now_ms = work(books, MIDNIGHT, 1)
        books.post(tick_of(now_ms, now_ms + INTERVAL_MS, gpus=[gpu_of(1)]), {})
        assert states_ms(books) == {State.ACTIVE: INTERVAL_MS, State.DOWN: INTERVAL_MS}


def test_without_the_probe_all_is_unknown(path: Path) -> None:
    """A tick that nothing enumerated says nothing of any GPU, not that it is missing."""
    with books_at(path) as books:
        now_ms = work(books, MIDNIGHT, 1)
        tick = tick_of(now_ms, now_ms + INTERVAL_MS, gpus=())
        books.post(type(tick)(node=NODE, start_ms=now_ms, end_ms=tick.end_ms, gpus=None), {})
        assert states_ms(books) == {State.ACTIVE: INTERVAL_MS, State.UNKNOWN: INTERVAL_MS}


def test_a_reading_of_a_gpu_that_just_left_the_list_is_kept(path: Path) -> None:
    """A GPU that was read and then vanished from the list is not missing in that interval."""
    with books_at(path) as books:
        now_ms = work(books, MIDNIGHT, 1, gpus=1)
        seen = reading(GPU, now_ms, now_ms + INTERVAL_MS, busy_ratio=0.9)
        books.post(tick_of(now_ms, now_ms + INTERVAL_MS, seen, gpus=[]), HELD)
        books.commit(now_ms + INTERVAL_MS)
        assert states_ms(books) == {State.ACTIVE: 2 * INTERVAL_MS}
    assert rows(path, "SELECT condition, busy_ratio FROM reading ORDER BY end_ms")[-1] == ("ok", 0.9)


def test_an_incomplete_tick_leaves_the_rest_open(path: Path) -> None:
    """Readings that come in parts do not make the GPUs they lack unknown."""
    with books_at(path) as books:
        seen = reading(GPU, MIDNIGHT, MIDNIGHT + INTERVAL_MS, busy_ratio=0.9)
        books.post(tick_of(MIDNIGHT, MIDNIGHT + INTERVAL_MS, seen, gpus=PAIR), HELD, complete=False)
        assert states_ms(books, gpu_of(1)) == {}
        assert books.tally.timelines[gpu_of(1).uuid].until_ms == MIDNIGHT


def test_a_drained_gpu_is_drained(path: Path) -> None:
    """What the drain callback names is drained, its neighbour is not."""
    with books_at(path) as books:
        books.post(steady_tick(MIDNIGHT), HELD, drained=lambda uuid: uuid == GPU.uuid)
        assert states_ms(books) == {State.DRAINED: INTERVAL_MS}
        assert states_ms(books, gpu_of(1)) == {State.ACTIVE: INTERVAL_MS}


def test_one_lost_gpu_hides_nothing_of_its_neighbour(path: Path) -> None:
    """A lost GPU is down from its interval on, the other goes on."""
    with books_at(path) as books:
        now_ms = work(books, MIDNIGHT, 1)
        lost = reading(GPU, now_ms, now_ms + INTERVAL_MS, Condition.LOST)
        books.post(
            tick_of(now_ms, now_ms + INTERVAL_MS, lost, *steady_tick(now_ms).readings[1:], gpus=PAIR), {}
        )
        assert states_ms(books) == {State.ACTIVE: INTERVAL_MS, State.DOWN: INTERVAL_MS}
        assert states_ms(books, gpu_of(1)) == {State.ACTIVE: 2 * INTERVAL_MS}


def test_a_gpu_that_joins_is_owed_from_then_on(path: Path) -> None:
    """Time before a GPU was first enumerated is nobody's."""
    with books_at(path) as books:
        now_ms = work(books, MIDNIGHT + 1_234, 2, gpus=1)
        end_ms = work(books, now_ms, 2, gpus=2)
    check_hours(path, {GPU.uuid: (MIDNIGHT + 1_234, end_ms), gpu_of(1).uuid: (now_ms, end_ms)})


def test_a_moved_gpu_is_unknown_where_it_sat_until_it_is_seen_elsewhere(path: Path) -> None:
    """The time between two nodes is booked at the first, and no millisecond twice."""
    with books_at(path) as books:
        now_ms = work(books, MIDNIGHT, 1, gpus=1)
        seen_ms = now_ms + HOUR_MS
        seen = reading(GPU, seen_ms, seen_ms + INTERVAL_MS, busy_ratio=0.9)
        books.post(tick_of(seen_ms, seen_ms + INTERVAL_MS, seen, gpus=[GPU], node=OTHER_NODE), HELD)
        books.commit(seen_ms + INTERVAL_MS)
        assert states_ms(books) == {State.ACTIVE: INTERVAL_MS, State.UNKNOWN: HOUR_MS}
        assert states_ms(books, node=OTHER_NODE) == {State.ACTIVE: INTERVAL_MS}
    check_hours(path, {GPU.uuid: (MIDNIGHT, seen_ms + INTERVAL_MS)})


def test_a_gpu_that_is_missing_for_a_week_leaves_the_inventory(path: Path) -> None:
    """After seven days a missing GPU is owed no more time; its accounts stay, and it may come back."""
    with books_at(path) as books:
        day_ms = 24 * HOUR_MS
        seen_ms = now_ms = work(books, MIDNIGHT, 1)
        for _ in range(9):
            books.post(tick_of(now_ms, now_ms + day_ms, gpus=[gpu_of(1)]), {})
            now_ms += day_ms
            books.commit(now_ms)
        assert states_ms(books) == {State.ACTIVE: INTERVAL_MS, State.DOWN: 8 * day_ms}
        assert GPU.uuid not in books.gpus
    left_ms = seen_ms + 8 * day_ms
    assert rows(path, "SELECT to_ms FROM place WHERE position = 0") == [(left_ms,)]
    with books_at(path) as again:
        assert again.gpus.keys() == {gpu_of(1).uuid}
        assert states_ms(again) == {State.ACTIVE: INTERVAL_MS, State.DOWN: 8 * day_ms}
        end_ms = work(again, now_ms, 2)
        assert states_ms(again) == {State.ACTIVE: 3 * INTERVAL_MS, State.DOWN: 8 * day_ms}
        assert again.gpus.keys() == {gpu.uuid for gpu in PAIR}
    assert single(path, "SELECT max(until_ms) FROM timeline") == end_ms
    check_sums(path)


def test_a_gpu_that_is_listed_never_leaves(path: Path) -> None:
    """A clock that was wrong by a month for a moment takes no GPU from the inventory, and no hour doubles."""
    with books_at(path) as books:
        work(books, MIDNIGHT, 1)
        wrong_ms = work(books, MIDNIGHT + 30 * 24 * HOUR_MS, 1)
        work(books, MIDNIGHT + INTERVAL_MS, 3)
        assert books.gpus.keys() == {gpu.uuid for gpu in PAIR}
    check_hours(path, {gpu.uuid: (MIDNIGHT, wrong_ms) for gpu in PAIR})


# The clock


def test_a_clock_set_back_is_told_once_and_counts_nothing_twice(path: Path) -> None:
    """Intervals of a time that is accounted for add nothing; one event tells why."""
    with books_at(path) as books:
        end_ms = work(books, MIDNIGHT, 6, gpus=1)
        again_ms = work(books, end_ms - 35_000, 3, gpus=1)
        assert states_ms(books) == {State.ACTIVE: 60_000}
        work(books, again_ms, 2, gpus=1)
        assert states_ms(books) == {State.ACTIVE: 75_000}
    events = rows(path, "SELECT at_ms, text FROM event")
    assert [at_ms for at_ms, _ in events] == [end_ms - 25_000]
    assert events[0][1].startswith("35.000 s ")
    check_hours(path, {GPU.uuid: (MIDNIGHT, end_ms + 15_000)})


def test_a_clock_set_forward_leaves_unknown_time(path: Path) -> None:
    """What the clock jumped over is unknown."""
    with books_at(path) as books:
        now_ms = work(books, MIDNIGHT, 1, gpus=1)
        work(books, now_ms + 7_777, 1, gpus=1)
        assert states_ms(books) == {State.ACTIVE: 2 * INTERVAL_MS, State.UNKNOWN: 7_777}


def test_published_counters_survive_a_clock_set_back(path: Path) -> None:
    """A clock that is set back by an hour lowers nothing on the page."""
    with books_at(path) as books:
        now_ms = work(books, MIDNIGHT, 5)
        before = published(books, now_ms)
        now_ms = work(books, now_ms - HOUR_MS, 1)
        after = published(books, now_ms)
    assert before == after


# Restarts


def test_time_when_the_agent_was_dead_is_unknown(path: Path) -> None:
    """With the same boot of the host, nobody knows what the GPUs did meanwhile."""
    with books_at(path) as books:
        now_ms = work(books, MIDNIGHT, 3, gpus=1)
    with books_at(path) as again:
        again.resume(NODE, now_ms + 123_456, MIDNIGHT - HOUR_MS)
        assert states_ms(again) == {State.ACTIVE: 30_000, State.UNKNOWN: 123_456}
        again.commit(now_ms + 123_456)
    check_hours(path, {GPU.uuid: (MIDNIGHT, now_ms + 123_456)})
    check_sums(path)


def test_time_when_the_host_was_off_is_down(path: Path) -> None:
    """Up to the boot the host was off, from the boot to the agent's start nobody looked."""
    with books_at(path, boot_id="boot-1") as books:
        now_ms = work(books, MIDNIGHT, 3, gpus=1)
    boot_ms, start_ms = now_ms + HOUR_MS, now_ms + HOUR_MS + 45_001
    with books_at(path, boot_id="boot-2") as again:
        again.resume(NODE, start_ms, boot_ms)
        assert states_ms(again) == {State.ACTIVE: 30_000, State.DOWN: HOUR_MS, State.UNKNOWN: 45_001}
        again.commit(start_ms)
    check_hours(path, {GPU.uuid: (MIDNIGHT, start_ms)})


def test_a_reboot_is_booked_once(path: Path) -> None:
    """An agent that restarts twice after one reboot books the off time once."""
    with books_at(path, boot_id="boot-1") as books:
        now_ms = work(books, MIDNIGHT, 3, gpus=1)
    for start_ms in (now_ms + 70_000, now_ms + 90_000):
        with books_at(path, boot_id="boot-2") as again:
            again.resume(NODE, start_ms, now_ms + 60_000)
            again.commit(start_ms)
            assert states_ms(again)[State.DOWN] == 60_000
    check_hours(path, {GPU.uuid: (MIDNIGHT, now_ms + 90_000)})


def test_a_boot_later_than_now_is_not_believed(path: Path) -> None:
    """A boot time in the future books no time that has not passed."""
    with books_at(path, boot_id="boot-1") as books:
        now_ms = work(books, MIDNIGHT, 3, gpus=1)
    with books_at(path, boot_id="boot-2") as again:
        again.resume(NODE, now_ms + 5_000, now_ms + HOUR_MS)
        assert states_ms(again) == {State.ACTIVE: 30_000, State.DOWN: 5_000}


def test_a_restart_at_an_earlier_time_owes_nothing(path: Path) -> None:
    """When the clock was set back during the restart, nothing is booked twice."""
    with books_at(path) as books:
        now_ms = work(books, MIDNIGHT, 3, gpus=1)
    with books_at(path) as again:
        again.resume(NODE, now_ms - 15_000, MIDNIGHT - HOUR_MS)
        assert again.journal.pending == 0
        assert states_ms(again) == {State.ACTIVE: 30_000}


def test_a_restart_continues_a_spell(path: Path) -> None:
    """A short restart does not give a pausing holder new patience."""
    with books_at(path, DEFAULTS) as books:
        now_ms = pause(books, MIDNIGHT, 29 * 60_000)
    with books_at(path, DEFAULTS) as again:
        again.resume(NODE, now_ms + 9 * 60_000, MIDNIGHT - HOUR_MS)
        pause(again, now_ms + 9 * 60_000, 2 * 60_000)
        assert states_ms(again)[State.HELD_IDLE] == 60_000


def test_a_long_restart_ends_a_spell(path: Path) -> None:
    """More than ten minutes without the agent, and patience begins anew; the spell is kept as ended."""
    with books_at(path, DEFAULTS) as books:
        now_ms = pause(books, MIDNIGHT, 31 * 60_000)
    with books_at(path, DEFAULTS) as again:
        later_ms = now_ms + 10 * 60_000 + 1
        again.resume(NODE, later_ms, MIDNIGHT - HOUR_MS)
        pause(again, later_ms, 29 * 60_000)
        assert states_ms(again)[State.HELD_IDLE] == 60_000
    spells = rows(path, "SELECT seen_ms, beyond_ms, ended FROM spell ORDER BY start_ms")
    assert spells == [(31 * 60_000, 60_000, 1), (29 * 60_000, 0, 0)]


def test_a_spell_too_short_to_matter_is_not_kept(path: Path) -> None:
    """A pause of less than a minute leaves the file when it ends."""
    with books_at(path, DEFAULTS) as books:
        now_ms = pause(books, MIDNIGHT, 59_999)
        assert single(path, "SELECT count(*) FROM spell") == 1
        now_ms = work(books, now_ms, 1, gpus=1)
        assert single(path, "SELECT count(*) FROM spell") == 0
        now_ms = pause(books, now_ms, 60_000)
        work(books, now_ms, 1, gpus=1)
    assert rows(path, "SELECT seen_ms, ended FROM spell") == [(60_000, 1)]


def test_a_restart_remembers_the_inventory(path: Path) -> None:
    """Who sits where is known before the driver was asked."""
    with books_at(path) as books:
        work(books, MIDNIGHT, 1)
    with books_at(path) as again:
        assert again.gpus == {gpu.uuid: gpu for gpu in PAIR}


def test_a_restart_changes_no_published_counter(path: Path) -> None:
    """The page after a restart shows what the page before it showed, grown by the dead time at most."""
    with books_at(path) as books:
        now_ms = work(books, MIDNIGHT, 5)
        before = published(books, now_ms)
    with books_at(path) as again:
        assert published(again, now_ms) == before


# Energy


def test_energy_telescopes_through_gaps_and_restarts(path: Path) -> None:
    """With the same boot, the accounts gain exactly what the counter gained, the dead time as unknown."""
    joules, now_ms = 81_000.5, MIDNIGHT
    dead: Sequence[tuple[int, float]] = ((0, 0.0), (25_000, 99.125), (3 * HOUR_MS, 118.75))
    gained = in_dead = 0.0
    for dead_ms, dead_watts in dead:
        joules += dead_watts * dead_ms / 1000
        gained += dead_watts * dead_ms / 1000
        in_dead += dead_watts * dead_ms / 1000
        now_ms += dead_ms
        with books_at(path) as books:
            books.resume(NODE, now_ms, MIDNIGHT - HOUR_MS)
            for watts in (300.0, 412.625, 640.0):
                joules += watts * 10
                gained += watts * 10
                seen = reading(GPU, now_ms, now_ms + INTERVAL_MS, Condition.OK, **metered(joules, watts))
                books.post(tick_of(now_ms, now_ms + INTERVAL_MS, seen, gpus=[GPU]), HELD)
                now_ms += INTERVAL_MS
                books.commit(now_ms)
    assert energy_mj(path) == round(gained * 1000)
    assert energy_mj(path, State.UNKNOWN) == round(in_dead * 1000)
    check_sums(path)


def test_a_reboot_breaks_the_chain_of_energy(path: Path) -> None:
    """The first interval after a reboot takes power for energy, whatever the counter says."""
    with books_at(path, boot_id="boot-1") as books:
        seen = reading(GPU, MIDNIGHT, MIDNIGHT + INTERVAL_MS, Condition.OK, **metered(500.0))
        books.post(tick_of(MIDNIGHT, MIDNIGHT + INTERVAL_MS, seen, gpus=[GPU]), HELD)
        books.commit(MIDNIGHT + INTERVAL_MS)
    now_ms = MIDNIGHT + HOUR_MS
    with books_at(path, boot_id="boot-2") as again:
        again.resume(NODE, now_ms, now_ms - 60_000)
        seen = reading(GPU, now_ms, now_ms + INTERVAL_MS, Condition.OK, **metered(9_500.0))
        again.post(tick_of(now_ms, now_ms + INTERVAL_MS, seen, gpus=[GPU]), HELD)
        again.commit(now_ms + INTERVAL_MS)
    assert energy_mj(path) == 6_000_000
    assert energy_mj(path, State.UNKNOWN, State.DOWN) == 0


# What is published


def test_the_first_page_of_a_gpu_shows_zeros(path: Path) -> None:
    """A GPU's accounts are all 0 in its first interval, so that their differences miss nothing."""
    with books_at(path) as books:
        now_ms = work(books, MIDNIGHT, 1)
        assert set(published(books, now_ms).values()) == {(0, 0, 0)}
        now_ms = work(books, now_ms, 1)
        shown = published(books, now_ms)
        assert sum(elapsed_ms for elapsed_ms, _, _ in shown.values()) == 2 * 2 * INTERVAL_MS


def test_the_first_page_of_a_gpu_that_nobody_holds_shows_zeros(path: Path) -> None:
    """Time that nobody owns begins at 0 like all other."""
    with books_at(path) as books:
        end_ms = MIDNIGHT + INTERVAL_MS
        books.post(tick_of(MIDNIGHT, end_ms, reading(GPU, MIDNIGHT, end_ms, busy_ratio=0.0), gpus=PAIR), {})
        assert set(published(books, end_ms).values()) == {(0, 0, 0)}


def test_the_first_page_of_a_moved_gpu_shows_zeros(path: Path) -> None:
    """In another node a GPU begins new accounts, at 0 too."""
    with books_at(path) as books:
        now_ms = work(books, MIDNIGHT, 3, gpus=1)
        books.post(tick_of(now_ms, now_ms + INTERVAL_MS, gpus=[GPU], node=OTHER_NODE), {})
        shown = published(books, now_ms + INTERVAL_MS)
    assert {amounts for key, amounts in shown.items() if key.node == OTHER_NODE} == {(0, 0, 0)}


def test_a_new_owner_begins_at_0(path: Path) -> None:
    """An owner's account appears with 0 and shows in the next interval all that it gained."""
    with books_at(path) as books:
        now_ms = work(books, MIDNIGHT, 3)
        before = published(books, now_ms)
        seen = reading(GPU, now_ms, now_ms + INTERVAL_MS, busy_ratio=0.9)
        holder = Hold(type(TRAINING)(kind="slurm", name="5000", owner="climate"))
        books.post(tick_of(now_ms, now_ms + INTERVAL_MS, seen, gpus=PAIR), {GPU.uuid: (holder,)})
        (key,) = {key for key in books.accounts.by_key if key.owner == "climate"}
        assert key not in before
        assert published(books, now_ms + INTERVAL_MS)[key] == (0, 0, 0)
        now_ms = work(books, now_ms + INTERVAL_MS, 1)
        assert published(books, now_ms)[key] == (INTERVAL_MS, 9_000_000, 0)


# When nothing can be written


def test_a_long_outage_of_the_disk_costs_readings_but_no_account(path: Path) -> None:
    """Beyond a thousand queued intervals the old become one, without readings; accounts stay exact."""
    with books_at(path) as books:
        now_ms = work(books, MIDNIGHT, 3)
        pages = books.journal._db.execute("PRAGMA page_count").fetchone()[0]
        books.journal._db.execute(f"PRAGMA max_page_count = {pages}")
        now_ms = work(books, now_ms, PENDING_WHOLE + 5, commit=False)
        with pytest.raises(JournalError, match="no space"):
            books.commit(now_ms)
        assert books.readings_dropped == 10
        books.journal._db.execute("PRAGMA max_page_count = 1000000")
        books.commit(now_ms)
    assert single(path, "SELECT count(*) FROM tick") == 3 + 1 + PENDING_WHOLE
    assert single(path, "SELECT count(*) FROM reading") == 2 * (3 + PENDING_WHOLE)
    check_hours(path, {gpu.uuid: (MIDNIGHT, now_ms) for gpu in PAIR})
    check_sums(path)


def test_events_are_counted_one_interval_late(tmp_path: Path) -> None:
    """The first of its kind is 0 until the next interval, so that a rate sees it."""
    lost = Event(at_ms=MIDNIGHT, node=NODE, kind="gpu_condition", text="lost", uuid=gpu_of(0).uuid)
    key = lost.uuid, lost.kind
    counts = []
    with books_at(tmp_path / "j.db") as books:
        for place, events in enumerate([(lost,), (lost, lost), ()]):
            start_ms = MIDNIGHT + place * INTERVAL_MS
            books.post(tick_of(start_ms, start_ms + INTERVAL_MS, gpus=[gpu_of(0)]), {}, events=events)
            counts.append(books.events[key])
    assert counts == [0, 1, 3]
