"""Spells: what ages them, what ends them, and from when on their time is idle."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from agent.spells import Spell
from agent.states import StateSettings
from agent.tally import Entry, Posting, Tally
from agent.tick import Condition, Hold, Holder, State, Workload
from tests.agent.histories import CHAT, MIDNIGHT, NOTEBOOK, SWEEP, TRAINING, gpu_of, reading

GPU = gpu_of(0)
MINUTE = 60_000
SETTINGS = StateSettings()
NOBODY: tuple[Hold, ...] = ()


class Desk:
    """One GPU whose time passes in stretches of what was seen; collects what is entered."""

    def __init__(self, *holders: Holder, settings: StateSettings = SETTINGS) -> None:
        self.holds: Sequence[Hold] = [Hold(holder) for holder in holders]
        self.now_ms = MIDNIGHT + 7 * MINUTE
        self.tally = Tally(settings)
        self.tally.enroll(GPU.uuid, "hall2-n017", self.now_ms)
        self.entries: list[Entry] = []
        self.spells: list[Spell] = []

    def _take(self, posting: Posting) -> None:
        self.entries += posting.entries
        self.spells += posting.spells

    def pause(self, length_ms: int, condition: Condition = Condition.OK, *, drained: bool = False) -> "Desk":
        """Let time pass without activity; the GPU holds memory only if someone does."""
        return self._see(length_ms, condition, 0.0, drained=drained)

    def work(self, length_ms: int) -> "Desk":
        """Let time pass with activity."""
        return self._see(length_ms, Condition.OK, 0.9)

    def blink(self, length_ms: int) -> "Desk":
        """Let time pass in which the device would not say whether it worked."""
        return self._see(length_ms, Condition.OK, None)

    def _see(
        self, length_ms: int, condition: Condition, busy_ratio: float | None, *, drained: bool = False
    ) -> "Desk":
        seen = reading(
            GPU, self.now_ms, self.now_ms + length_ms, condition, busy_ratio=busy_ratio, memory_used_bytes=0
        )
        self._take(self.tally.post([seen], {GPU.uuid: self.holds}, lambda _: drained))
        self.now_ms += length_ms
        return self

    def look_away(self, length_ms: int, state: State = State.UNKNOWN) -> "Desk":
        """Let time pass that nothing covers."""
        self.now_ms += length_ms
        self._take(self.tally.close(self.now_ms, state=state))
        return self

    def idle_ms(self, holder: Holder | None = None) -> int:
        """Give the idle time entered, of one holder or of all."""
        return sum(
            entry.elapsed_ms
            for entry in self.entries
            if entry.state is State.HELD_IDLE and holder in (None, entry.holder)
        )

    def open(self) -> dict[str, int]:
        """Give the ages of the open spells by holder."""
        return {seat[0].name: spell.seen_ms for seat, spell in self.tally.timelines[GPU.uuid].spells.items()}

    def ended(self) -> list[tuple[str, int, int]]:
        """Give the spells that ended: holder, time seen, time beyond patience."""
        return [(spell.holder.name, spell.seen_ms, spell.beyond_ms) for spell in self.spells if spell.ended]


@pytest.mark.parametrize(
    ("holder", "patience_ms"),
    [(TRAINING, 30 * MINUTE), (NOTEBOOK, 60 * MINUTE), (CHAT, 24 * 60 * MINUTE)],
)
def test_only_time_beyond_patience_is_idle(holder: Holder, patience_ms: int) -> None:
    """Up to the patience of its class a pause is a gap; every millisecond more is idle."""
    desk = Desk(holder).pause(patience_ms)
    assert desk.idle_ms() == 0
    assert desk.pause(1).idle_ms() == 1
    assert desk.pause(10_000).idle_ms() == 10_001


def test_the_gap_before_stays_a_gap() -> None:
    """Once a spell is idle, what it paused before is not booked again."""
    desk = Desk(TRAINING).pause(30 * MINUTE).pause(5 * MINUTE)
    gap_ms = sum(entry.elapsed_ms for entry in desk.entries if entry.state is State.HELD_GAP)
    assert (gap_ms, desk.idle_ms()) == (30 * MINUTE, 5 * MINUTE)


def test_patience_that_ends_inside_an_interval_splits_it_there() -> None:
    """The interval in which patience ends is a gap before that moment and idle after."""
    desk = Desk(TRAINING, settings=StateSettings(patience_batch_seconds=12.345)).pause(10_000).pause(10_000)
    start_ms = MIDNIGHT + 7 * MINUTE
    assert [
        (State.HELD_GAP, start_ms, 10_000),
        (State.HELD_GAP, start_ms + 10_000, 2_345),
        (State.HELD_IDLE, start_ms + 12_345, 7_655),
    ] == [(entry.state, entry.start_ms, entry.elapsed_ms) for entry in desk.entries]


def test_no_patience_makes_every_pause_idle() -> None:
    """With a patience of 0 a pause is idle from its first millisecond."""
    desk = Desk(TRAINING, settings=StateSettings(patience_batch_seconds=0)).pause(10_000)
    assert desk.idle_ms() == 10_000


def test_activity_ends_a_spell() -> None:
    """After work the patience begins anew."""
    desk = Desk(TRAINING).pause(31 * MINUTE).work(1).pause(30 * MINUTE)
    assert desk.ended() == [("4711", 31 * MINUTE, MINUTE)]
    assert desk.idle_ms() == MINUTE


def test_a_change_of_holder_ends_a_spell() -> None:
    """The next job does not inherit the pause of the one before, even of the same owner."""
    desk = Desk(TRAINING).pause(29 * MINUTE)
    desk.holds = [Hold(SWEEP)]
    desk.pause(29 * MINUTE)
    assert desk.ended() == [("4711", 29 * MINUTE, 0)]
    assert desk.open() == {"4712": 29 * MINUTE}
    assert desk.idle_ms() == 0


def test_a_gpu_given_back_ends_the_spell() -> None:
    """A free moment between two pauses of the same holder makes two spells of them."""
    desk = Desk(TRAINING).pause(20 * MINUTE)
    desk.holds = NOBODY
    desk.pause(10_000)
    desk.holds = [Hold(TRAINING)]
    desk.pause(20 * MINUTE)
    assert desk.ended() == [("4711", 20 * MINUTE, 0)]
    assert desk.idle_ms() == 0


@pytest.mark.parametrize("condition", [Condition.LOST, Condition.HUNG, Condition.MISSING])
def test_a_gpu_that_goes_down_ends_the_spell(condition: Condition) -> None:
    """Nobody idles on a GPU that is down."""
    desk = Desk(TRAINING).pause(20 * MINUTE).pause(10_000, condition).pause(20 * MINUTE)
    assert desk.idle_ms() == 0


def test_draining_ends_the_spell() -> None:
    """Nobody idles on a GPU that an operator took out."""
    desk = Desk(TRAINING).pause(20 * MINUTE).pause(10_000, drained=True).pause(20 * MINUTE)
    assert desk.idle_ms() == 0


def test_time_when_the_host_was_off_ends_the_spell() -> None:
    """After a host was off even shortly, patience begins anew."""
    desk = Desk(TRAINING).pause(20 * MINUTE).look_away(10_000, State.DOWN).pause(20 * MINUTE)
    assert desk.idle_ms() == 0


def test_unknown_time_up_to_ten_minutes_neither_ends_nor_ages_a_spell() -> None:
    """A spell goes on behind ten unknown minutes as old as it was before them."""
    desk = Desk(TRAINING).pause(29 * MINUTE).look_away(10 * MINUTE)
    assert desk.open() == {"4711": 29 * MINUTE}
    desk.pause(2 * MINUTE)
    assert desk.idle_ms() == MINUTE
    assert desk.ended() == []


def test_unknown_time_beyond_ten_minutes_ends_a_spell() -> None:
    """One millisecond more than ten minutes of unknown time, and patience begins anew."""
    desk = Desk(TRAINING).pause(29 * MINUTE).look_away(10 * MINUTE + 1).pause(29 * MINUTE)
    assert desk.ended() == [("4711", 29 * MINUTE, 0)]
    assert desk.idle_ms() == 0


def test_unknown_stretches_in_a_row_add_up() -> None:
    """Silent intervals and gaps of time are counted together until something was seen."""
    desk = Desk(TRAINING).pause(29 * MINUTE).blink(5 * MINUTE).look_away(5 * MINUTE)
    assert desk.open() == {"4711": 29 * MINUTE}
    assert desk.blink(1).open() == {}


def test_a_look_in_between_makes_unknown_time_count_anew() -> None:
    """Nine unknown minutes, a look and nine more do not end a spell."""
    desk = Desk(TRAINING).pause(MINUTE).look_away(9 * MINUTE).pause(1).blink(9 * MINUTE)
    assert desk.open() == {"4711": MINUTE + 1}


def test_unknown_time_is_never_idle() -> None:
    """What was not seen inside an idle spell is unknown, not idle."""
    desk = Desk(TRAINING).pause(40 * MINUTE).blink(MINUTE).look_away(MINUTE).pause(MINUTE)
    assert desk.idle_ms() == 11 * MINUTE
    unknown = [entry for entry in desk.entries if entry.state is State.UNKNOWN]
    assert sum(entry.elapsed_ms for entry in unknown) == 2 * MINUTE
    assert {entry.holder for entry in unknown} == {None}


def test_two_holders_have_a_spell_each() -> None:
    """Who joined later becomes idle later, each by the patience of its class."""
    desk = Desk(TRAINING).pause(20 * MINUTE)
    desk.holds = [Hold(TRAINING, 0.5), Hold(NOTEBOOK, 0.5)]
    desk.pause(20 * MINUTE).pause(50 * MINUTE)
    assert desk.idle_ms(TRAINING) == (10 + 50) * MINUTE // 2
    assert desk.idle_ms(NOTEBOOK) == 10 * MINUTE // 2
    assert desk.open() == {"4711": 90 * MINUTE, "lab/notebook-0": 70 * MINUTE}


def test_a_holder_that_leaves_ends_its_own_spell_only() -> None:
    """The one that stays keeps its age."""
    desk = Desk(TRAINING, SWEEP).pause(20 * MINUTE)
    desk.holds = [Hold(SWEEP)]
    desk.pause(MINUTE)
    assert desk.ended() == [("4711", 20 * MINUTE, 0)]
    assert desk.open() == {"4712": 21 * MINUTE}


def test_beyond_counts_what_lies_past_patience() -> None:
    """A spell tells how long it lasted and how much of that a reclaiming policy could have won."""
    spell = Spell(uuid=GPU.uuid, holder=TRAINING, start_ms=MIDNIGHT, end_ms=MIDNIGHT)
    for start_ms in range(MIDNIGHT, MIDNIGHT + 50_000, 10_000):
        spell = spell.lengthened(start_ms, start_ms + 10_000, patience_ms=27_000)
    assert (spell.seen_ms, spell.beyond_ms) == (50_000, 23_000)
    assert spell.until_idle_ms(27_000) == 0
    assert spell.until_idle_ms(60_000) == 10_000


def test_unseen_time_moves_neither_end_nor_age() -> None:
    """Unknown time is noted beside the spell and forgotten when it is seen again."""
    spell = Spell(uuid=GPU.uuid, holder=TRAINING, start_ms=MIDNIGHT, end_ms=MIDNIGHT + 5, seen_ms=5)
    blind = spell.unseen(7).unseen(8)
    assert replace(spell, unknown_ms=15) == blind
    assert blind.lengthened(MIDNIGHT + 20, MIDNIGHT + 21, 100).unknown_ms == 0


def test_the_same_job_in_another_class_is_another_holder() -> None:
    """A holder whose class was changed begins a new spell with the new patience."""
    desk = Desk(TRAINING).pause(29 * MINUTE)
    desk.holds = [Hold(replace(TRAINING, workload=Workload.INTERACTIVE))]
    desk.pause(59 * MINUTE)
    assert desk.idle_ms() == 0
