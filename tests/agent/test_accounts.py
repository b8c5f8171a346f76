"""The lifetime accounts: they begin at 0, only grow, and leave the page when an owner is silent."""

from agent.accounts import SILENT_MS, Accounts, Key
from agent.tally import Entry
from agent.tick import Holder, State
from tests.agent.histories import INTERVAL_MS, MIDNIGHT, NODE, SWEEP, TRAINING, gpu_of

UUID = gpu_of(0).uuid
VISION = Key(UUID, NODE, State.ACTIVE, "vision")
NOW = MIDNIGHT + 9_000_000
DAY_MS = 86_400_000


def entry(elapsed_ms: int, state: State = State.ACTIVE, holder: Holder | None = TRAINING) -> Entry:
    """Make a line of the ledger with all amounts in proportion to its time."""
    return Entry(
        UUID, NODE, state, holder, NOW, elapsed_ms, elapsed_ms * 800, elapsed_ms, elapsed_ms * 420, elapsed_ms
    )


def page(accounts: Accounts, at_ms: int) -> dict[Key, int]:
    """Give the time that the page of an interval shows."""
    return {key: account.elapsed_ms for key, account in accounts.published(at_ms)}


def test_a_new_account_is_first_published_as_0() -> None:
    """An account shows 0 in the interval in which it appears, and all it gained in the next."""
    accounts = Accounts()
    accounts.add([entry(INTERVAL_MS)], NOW)
    assert page(accounts, NOW) == {VISION: 0}
    accounts.add([entry(INTERVAL_MS)], NOW + INTERVAL_MS)
    assert page(accounts, NOW + INTERVAL_MS) == {VISION: 2 * INTERVAL_MS}


def test_all_states_that_nobody_owns_are_opened_at_once() -> None:
    """A new GPU begins with an account at 0 for each state, so that a rare state is never new."""
    accounts = Accounts()
    keys = accounts.open(UUID, NODE, NOW)
    assert page(accounts, NOW) == {Key(UUID, NODE, state, ""): 0 for state in State} == dict.fromkeys(keys, 0)


def test_opening_again_opens_nothing() -> None:
    """What is open keeps its totals."""
    accounts = Accounts()
    accounts.open(UUID, NODE, NOW - INTERVAL_MS)
    accounts.add([], NOW)
    accounts.add([entry(INTERVAL_MS, State.FREE, None)], NOW + INTERVAL_MS)
    assert accounts.open(UUID, NODE, NOW + 2 * INTERVAL_MS) == []
    assert page(accounts, NOW + 2 * INTERVAL_MS)[Key(UUID, NODE, State.FREE, "")] == INTERVAL_MS


def test_two_holders_of_one_owner_share_an_account() -> None:
    """Accounts are by owner, not by job."""
    accounts = Accounts()
    grown = accounts.add([entry(6_000), entry(4_000, holder=SWEEP)], NOW)
    assert grown == {VISION}
    assert accounts.by_key[VISION].elapsed_ms == 10_000


def test_every_amount_grows() -> None:
    """Time, busy time, energy and what was seen of both are added up."""
    accounts = Accounts()
    accounts.add([entry(6_000), entry(4_000)], NOW)
    account = accounts.by_key[VISION]
    assert (account.elapsed_ms, account.busy_us, account.energy_mj) == (10_000, 8_000_000, 4_200_000)
    assert (account.busy_seen_ms, account.energy_seen_ms) == (10_000, 10_000)


def test_a_silent_owner_leaves_the_page_after_35_days() -> None:
    """An account that has not grown for more than 35 days is no longer shown, but kept."""
    accounts = Accounts()
    accounts.add([entry(INTERVAL_MS)], NOW)
    assert SILENT_MS == 35 * DAY_MS
    assert VISION in page(accounts, NOW + SILENT_MS)
    assert VISION not in page(accounts, NOW + SILENT_MS + 1)
    assert accounts.by_key[VISION].elapsed_ms == INTERVAL_MS


def test_a_silent_owner_that_returns_continues() -> None:
    """Back on the page, an account is as it left, and grows from there: its whole life is no growth."""
    accounts = Accounts()
    accounts.add([entry(INTERVAL_MS)], NOW)
    later_ms = NOW + SILENT_MS + DAY_MS
    accounts.add([entry(INTERVAL_MS), entry(INTERVAL_MS)], later_ms)
    assert page(accounts, later_ms) == {VISION: INTERVAL_MS}
    accounts.add([entry(INTERVAL_MS)], later_ms + INTERVAL_MS)
    assert page(accounts, later_ms + INTERVAL_MS) == {VISION: 4 * INTERVAL_MS}


def test_all_accounts_of_an_owner_leave_and_return_together() -> None:
    """Idle time of long ago stays as long as the owner works: what is summed over states never falls."""
    idle = VISION._replace(state=State.HELD_IDLE)
    accounts = Accounts()
    accounts.add([entry(INTERVAL_MS), entry(INTERVAL_MS, State.HELD_IDLE)], NOW)
    later_ms = NOW + SILENT_MS
    accounts.add([entry(INTERVAL_MS)], later_ms)
    assert page(accounts, later_ms + DAY_MS) == {VISION: 2 * INTERVAL_MS, idle: INTERVAL_MS}
    assert page(accounts, later_ms + SILENT_MS + 1) == {}
    back_ms = later_ms + SILENT_MS + DAY_MS
    accounts.add([entry(INTERVAL_MS, State.HELD_IDLE)], back_ms)
    assert page(accounts, back_ms) == {VISION: 2 * INTERVAL_MS, idle: INTERVAL_MS}
    accounts.add([entry(INTERVAL_MS)], back_ms + INTERVAL_MS)
    assert page(accounts, back_ms + INTERVAL_MS) == {VISION: 3 * INTERVAL_MS, idle: 2 * INTERVAL_MS}


def test_an_account_that_was_silent_beside_another_is_told_as_it_grows() -> None:
    """It never left the page."""
    idle = VISION._replace(state=State.HELD_IDLE)
    accounts = Accounts()
    accounts.add([entry(INTERVAL_MS, State.HELD_IDLE)], NOW)
    accounts.add([entry(INTERVAL_MS)], NOW + SILENT_MS)
    later_ms = NOW + SILENT_MS + DAY_MS
    accounts.add([entry(INTERVAL_MS, State.HELD_IDLE)], later_ms)
    assert page(accounts, later_ms) == {VISION: INTERVAL_MS, idle: 2 * INTERVAL_MS}


def test_accounts_that_nobody_owns_never_leave() -> None:
    """A GPU that was never down goes on to say so."""
    accounts = Accounts()
    accounts.open(UUID, NODE, NOW)
    assert page(accounts, NOW + 400 * DAY_MS) == {Key(UUID, NODE, state, ""): 0 for state in State}


def test_a_clock_set_back_lowers_no_counter() -> None:
    """A counter that was published is not published lower when the clock tells an earlier time."""
    accounts = Accounts()
    accounts.add([entry(INTERVAL_MS)], NOW)
    accounts.add([entry(INTERVAL_MS)], NOW + INTERVAL_MS)
    before = page(accounts, NOW + INTERVAL_MS)
    assert page(accounts, NOW - 3_600_000) == before


def test_an_account_born_after_a_clock_was_set_back_begins_at_0() -> None:
    """The promise of the first 0 holds whatever the clock did before."""
    accounts = Accounts()
    accounts.add([entry(INTERVAL_MS, State.FREE, None)], NOW)
    accounts.add([entry(INTERVAL_MS)], NOW - 3_600_000)
    assert page(accounts, NOW - 3_600_000)[VISION] == 0
