"""The register: where each GPU is, since when, where it was before, and what it did in its life."""

from agent.tally import HOUR_MS
from agent.tick import Finding, State
from reports.content.register import assets
from reports.facts import Facts, Life, Stay
from reports.sections import AssetLine
from reports.sums import Identity
from tests.reports.made import H200, Did, found, made, stay
from tests.reports.small import MONDAY_MS

WORK = Did("A", {State.ACTIVE: 168.0}, owner="a")


def line(*stays: Stay, did: Did = WORK, findings: tuple[Finding, ...] = (), **facts: object) -> AssetLine:
    """Give the line of the only GPU."""
    told = Facts(stays=stays, **facts)  # type: ignore[arg-type]
    (one,) = assets(made(did, findings=findings), told)
    return one


def at_hour(number: float) -> int:
    """Give an hour of the window in ms."""
    return MONDAY_MS + round(number * HOUR_MS)


def test_a_gpu_that_never_moved() -> None:
    """All of it, for once."""
    life = Life(until_ms=at_hour(168), seen_ms=900 * HOUR_MS, active_ms=300 * HOUR_MS)
    assert line(stay("A", "n1", -1000, position=3), lives={"A": life}) == AssetLine(
        uuid="A",
        serial="S-A",
        model=H200.model,
        node="n1",
        index=3,
        since_ms=at_hour(-1000),
        first_seen_ms=at_hour(-1000),
        last_seen_ms=at_hour(168),
        seen_ms=900 * HOUR_MS,
        active_ms=300 * HOUR_MS,
        state="ok",
        moves=(),
    )


def test_a_gpu_that_was_carried() -> None:
    """From n1 to n2 and on to n3; the order in which a source tells it does not matter."""
    one = line(stay("A", "n3", 60), stay("A", "n1", -50, 10), stay("A", "n2", 20, 50))
    assert (one.node, one.since_ms, one.first_seen_ms) == ("n3", at_hour(60), at_hour(-50))
    assert one.moves == (("n1", at_hour(-50), at_hour(10)), ("n2", at_hour(20), at_hour(50)))


def test_another_index_in_the_same_node_is_no_move() -> None:
    """A boot may number GPUs anew; a GPU that left the node and came back did move."""
    one = line(stay("A", "n1", 0, 10, position=1), stay("A", "n1", 10, position=2))
    assert (one.index, one.since_ms, one.moves) == (2, at_hour(0), ())
    one = line(stay("A", "n1", 0, 10), stay("A", "n1", 20))
    assert (one.since_ms, one.moves) == (at_hour(20), (("n1", at_hour(0), at_hour(10)),))


def test_a_gpu_that_left_is_gone() -> None:
    """Whatever was found of it before; its name is known although the window has nothing of it."""
    stays = (stay("Z", "n9", -500, -400), stay("A", "n1", 0))
    told = Facts(stays=stays, identities={"Z": Identity("Tesla T4", "123")})
    first, last = assets(made(WORK, findings=[found("gpu_down", "Z", -450)]), told)
    assert (first.uuid, last.uuid, last.state) == ("A", "Z", "gone")
    assert (last.model, last.serial, last.last_seen_ms) == ("Tesla T4", "123", at_hour(-400))


def test_an_open_failure_is_the_state() -> None:
    """What replaces a board stands above the latest; what is closed or no failure is not the state."""
    place = stay("A", "n1", 0)
    assert line(place, findings=(found("gpu_down", "A", 1),)).state == "gpu_down"
    both = (found("row_remap_failed", "A", 1), found("gpu_down", "A", 2))
    assert line(place, findings=both).state == "row_remap_failed"
    harmless = (found("gpu_down", "A", 1, 2), found("held_idle_long", "A", 3), found("gpu_down", "B", 1))
    assert line(place, findings=harmless).state == "ok"


def test_without_a_finding_most_of_the_time_is_the_state() -> None:
    """Unless the source tells the state at the end."""
    place = stay("A", "n1", 0)
    down = Did("A", {State.DOWN: 100.0, State.FREE: 68.0})
    unseen = Did("A", {State.UNKNOWN: 100.0, State.FREE: 68.0})
    up = Did("A", {State.DOWN: 50.0, State.FREE: 118.0})
    assert [line(place, did=did).state for did in (down, unseen, up)] == ["down", "unknown", "ok"]
    assert line(place, did=down, latest={"A": State.HELD_IDLE}).state == "ok"
    assert line(place, did=up, latest={"A": State.DOWN}).state == "down"


def test_a_gpu_of_which_nothing_is_known_is_unknown() -> None:
    """It never left, and the window has nothing of it."""
    told = Facts(stays=(stay("Z", "n9", -500),))
    (one,) = assets(made(WORK), told)
    assert (one.state, one.model, one.serial, one.seen_ms) == ("unknown", "", "", 0)
    assert one.last_seen_ms == at_hour(-500)


def test_the_register_is_in_the_order_of_nodes() -> None:
    """Then of places; those that are gone come last."""
    stays = (stay("D", "n0", 0, 9), stay("C", "n2", 0), stay("B", "n1", 0, position=2), stay("A", "n1", 0))
    assert [one.uuid for one in assets(made(WORK), Facts(stays=stays))] == ["A", "B", "C", "D"]
