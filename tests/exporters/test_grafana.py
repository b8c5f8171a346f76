"""Grafana is told of findings: each is one mark, whatever becomes of answers; what fails says what helps."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.errors import SettingsError
from exporters.annotations import mark
from exporters.destination import ExporterSettings
from exporters.fleet import telling_of, trial
from exporters.grafana import Grafana
from exporters.settle import DELIVERED, Verdict
from exporters.teller import Teller
from tests.agent.histories import INTERVAL_MS, MIDNIGHT
from tests.exporters.findings import HOT, IDLE, LABELS, LOST, NAME, Node, node, settle
from tests.exporters.proxy import proxying
from tests.stores.annotating import TOKEN, Annotating, Asked, annotating

FIRST_MS = MIDNIGHT + 2 * INTERVAL_MS
"""The end of the interval after the first."""


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Node]:
    """Let a node live."""
    with node(tmp_path / "j.db") as one:
        one.tick()
        yield one


@pytest.fixture
def grafana() -> Iterator[Annotating]:
    """Run a stand-in of a Grafana."""
    with annotating() as one:
        yield one


@pytest.fixture
def token(tmp_path: Path) -> str:
    """Write the token that the stand-in takes."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return str(file)


def settings(url: str, token: str = "", **more: object) -> ExporterSettings:
    """Name a Grafana."""
    return ExporterSettings(
        name=NAME,
        kind="grafana",
        url=url,
        token_file=token,
        **{"timeout_seconds": 2.0, **more},  # type: ignore[arg-type]
    )


def teller(living: Node, url: str, token: str) -> Teller:
    """Make what tells a Grafana, as it begins after a start of the agent."""
    return Teller(telling_of(settings(url, token)), living.path, LABELS, living.clock)


def short(grafana: Annotating) -> list[tuple[str, str, int, int]]:
    """Give what marks say: the rule, the GPU, and when they begin and end, in intervals."""
    return [
        (
            mark["tags"][1],
            mark["tags"][4],
            (mark["time"] - MIDNIGHT) // INTERVAL_MS,
            (mark["timeEnd"] - MIDNIGHT) // INTERVAL_MS,
        )
        for mark in grafana.told()
    ]


# Told once


def test_a_finding_is_a_point_and_then_a_range(living: Node, grafana: Annotating, token: str) -> None:
    """The same mark: there are never two of one finding. What is told at rest asks nothing."""
    one = teller(living, f"{grafana.url}/", token)
    living.tick(LOST)
    settle(one)
    point = {
        "time": FIRST_MS,
        "timeEnd": FIRST_MS,
        "tags": [
            "gputally",
            "gpu_down",
            "warning",
            "node:hall2-n017",
            "gpu:1",
            "GPU-5c1b0e4a-0001",
            grafana.marks[1]["tags"][-1],
        ],
        "text": "hall2-n017, GPU 1: close to its limit; held by job 4711 of vision",
    }
    assert grafana.told() == [point]
    asked = len(grafana.asked)
    living.tick(LOST)
    settle(one)
    assert len(grafana.asked) == asked == 2
    living.tick()
    settle(one)
    assert grafana.told() == [{**point, "timeEnd": FIRST_MS + 2 * INTERVAL_MS}]
    assert [line.partition("?")[0] for line in grafana.asked[2:]] == [
        "GET /grafana/api/annotations",
        "PUT /grafana/api/annotations/1",
    ]
    assert (one.standing.delivered_ticks, one.standing.failure) == (2, "")


def test_what_opens_again_soon_stays_one_mark(living: Node, grafana: Annotating, token: str) -> None:
    """It is open again, so it is a point; at last it reaches from the first opening to the last end."""
    one = teller(living, grafana.url, token)
    wanted = [(2, 2), (2, 3), (2, 2), (2, 5)]
    for found, (begin, end) in zip(((HOT,), (), (HOT,), ()), wanted, strict=True):
        living.tick(*found)
        settle(one)
        assert short(grafana) == [("thermal_margin_low", "gpu:0", begin, end)]
    assert grafana.marks[1]["text"].endswith("; opened 2 times")


def test_what_came_and_went_during_an_outage_is_a_range(
    living: Node, grafana: Annotating, token: str
) -> None:
    """Posted once, with both times."""
    grafana.act = lambda _: (503, "starting")
    one = teller(living, grafana.url, token)
    living.tick(HOT)
    assert settle(one) > 0
    assert one.standing.failure == "HTTP 503: starting"
    living.tick(HOT, IDLE)
    living.tick(IDLE)
    grafana.act = lambda _: None
    settle(one)
    assert sorted(short(grafana)) == [
        ("held_idle_long", "gpu:1", 3, 3),
        ("thermal_margin_low", "gpu:0", 2, 4),
    ]


@pytest.mark.parametrize("losses", [1, 3])
def test_an_answer_that_is_lost_makes_no_second_mark(
    living: Node, grafana: Annotating, token: str, losses: int
) -> None:
    """Neither of a point nor of its end, and also when the agent is another by then."""
    for found, end in (((HOT,), 2), ((), 3)):
        grafana.loses = losses
        living.tick(*found)
        one = teller(living, grafana.url, token)
        for _ in range(losses):
            assert settle(one) > 0
            assert one.standing.failure
        settle(teller(living, grafana.url, token))
        assert short(grafana) == [("thermal_margin_low", "gpu:0", 2, end)]


def test_two_that_tell_of_one_node_make_one_mark(living: Node, grafana: Annotating, token: str) -> None:
    """A resend, too, finds what is there."""
    living.tick(HOT, IDLE)
    for name in ("first", "second"):
        telling = telling_of(ExporterSettings(name=name, kind="grafana", url=grafana.url, token_file=token))
        settle(Teller(telling, living.path, LABELS, living.clock))
    assert len(grafana.marks) == 2


def test_a_mark_that_somebody_deleted_is_there_again_as_a_range(
    living: Node, grafana: Annotating, token: str
) -> None:
    """Its end is told like any other."""
    one = teller(living, grafana.url, token)
    living.tick(HOT)
    settle(one)
    grafana.marks.clear()
    living.tick()
    settle(one)
    assert short(grafana) == [("thermal_margin_low", "gpu:0", 2, 3)]


def test_thirty_at_once_are_thirty_short_marks(living: Node, grafana: Annotating, token: str) -> None:
    """However much is said of each."""
    living.text = "a <b>long</b> story " * 500
    living.tick(*((f"rule_{number}", number % 2) for number in range(30)))
    settle(teller(living, grafana.url, token))
    assert sorted(mark["tags"][1] for mark in grafana.told()) == sorted(f"rule_{n}" for n in range(30))
    assert max(len(mark["text"]) for mark in grafana.told()) < 450
    assert all("<" not in mark["text"] for mark in grafana.told())


# What fails


@pytest.mark.parametrize(
    ("act", "wanted"),
    [
        (
            lambda _: (401, "Invalid API key"),
            "HTTP 401: Invalid API key; the token must be of a service account with the role Editor",
        ),
        (
            lambda _: (404, "Not found"),
            "HTTP 404: Not found; the address must be what stands before /api/annotations",
        ),
        (lambda _: (302, "to the login"), "HTTP 302: to the login; the address must be what stands before"),
        (lambda _: (500, "Failed to get annotations\x1b[31m"), "HTTP 500: Failed to get annotations [31m"),
        (lambda asked: (500, "Failed") if asked.command == "POST" else None, "HTTP 500: Failed"),
        (lambda asked: (403, f"not {asked.headers['Authorization']}"), "HTTP 403: not Bearer …; the token"),
    ],
)
def test_what_was_not_taken_is_told_again(
    living: Node,
    grafana: Annotating,
    token: str,
    act: Callable[[Asked], tuple[int, str] | None],
    wanted: str,
) -> None:
    """The sentence says what helps, and nothing of the token; then there is one mark."""
    grafana.act = act
    one = teller(living, grafana.url, token)
    living.tick(HOT)
    assert settle(one) > 0
    assert one.standing.failure.startswith(wanted)
    assert one.standing.failure.isprintable()
    assert TOKEN not in one.standing.failure
    assert grafana.told() == []
    grafana.act = lambda _: None
    settle(one)
    assert short(grafana) == [("thermal_margin_low", "gpu:0", 2, 2)]
    assert one.standing.failure == ""


def test_a_token_that_may_only_look_is_named(living: Node, grafana: Annotating, token: str) -> None:
    """It must be an Editor's; so must there be one."""
    grafana.role = "Viewer"
    one = teller(living, grafana.url, token)
    living.tick(HOT)
    assert settle(one) > 0
    assert one.standing.failure.startswith("HTTP 403: You'll need additional permissions")
    assert one.standing.failure.endswith("the token must be of a service account with the role Editor")
    nobody = Grafana(settings(grafana.url))
    assert nobody.put(mark("t", (), ("k",), FIRST_MS)).reason.startswith("HTTP 401: Invalid API key; ")


def test_what_is_refused_is_asked_once(living: Node, grafana: Annotating, token: str) -> None:
    """It is counted, and holds up nothing else."""
    grafana.act = lambda asked: (400, "bad request data") if asked.command == "POST" else None
    one = teller(living, grafana.url, token)
    living.tick(HOT)
    settle(one)
    settle(one)
    assert sum(line.startswith("POST") for line in grafana.asked) == 1
    assert (one.standing.refused_rows, one.standing.failure) == (1, "")


@pytest.mark.parametrize(
    "said",
    [
        "<html>log in</html>",
        "{}",
        '[{"id": 1}]',
        "[" * 100_000,
        '[{"id": "1/../../x", "tags": ["@"]}]',
        '[{"id": true, "tags": ["@"]}]',
    ],
)
def test_what_is_no_grafana_is_told_nothing(grafana: Annotating, token: str, said: str) -> None:
    """A page to log in says 200 to everything, and no text of an answer becomes an address."""
    body = mark("t", (), ("k",), FIRST_MS)
    grafana.finds = said.replace("@", json.loads(body)["tags"][-1])
    outcome = Grafana(settings(grafana.url, token)).put(body)
    assert outcome.verdict is Verdict.UNREACHABLE
    assert outcome.reason == (
        "what answers is no Grafana; the address must be what stands before /api/annotations"
    )
    assert len(grafana.asked) == 1


def test_marks_of_others_are_left_alone(grafana: Annotating, token: str) -> None:
    """Also where a server gives what was not asked for."""
    one = Grafana(settings(grafana.url, token))
    one.put(mark("theirs", (), ("theirs",), FIRST_MS))
    grafana.finds = json.dumps([{"id": 1, **grafana.marks[1]}])
    assert one.put(mark("ours", (), ("ours",), FIRST_MS)) == DELIVERED
    assert [mark["text"] for mark in grafana.told()] == ["theirs", "ours"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://grafana.example.org/?orgId=2", "without \\?, # or user"),
        ("https://grafana.example.org/#a", "without \\?, # or user"),
        ("https://ada:pw@grafana.example.org/", "without \\?, # or user"),
        ("grafana.example.org", "url must be an address"),
    ],
)
def test_the_address_is_that_of_grafana_itself(url: str, said: str) -> None:
    """What stands behind it would be lost."""
    with pytest.raises(SettingsError, match=said):
        settings(url)


def test_all_requests_go_through_the_proxy(grafana: Annotating, token: str) -> None:
    """Which may refuse them; over it a mark is as it would be."""
    with proxying(wants="ada:pw") as proxy:
        body = mark("t", (), ("k",), FIRST_MS)
        for user, verdict in (("ada:other", Verdict.UNREACHABLE), ("ada:pw", Verdict.DELIVERED)):
            one = Grafana(settings(grafana.url, token, proxy=proxy.with_user(user)))
            outcome = one.put(body)
            one.close()
            assert outcome.verdict is verdict
            assert "other" not in outcome.reason
    assert [method for method, _ in proxy.asked][-2:] == ["GET", "POST"]
    assert grafana.told() == [json.loads(body)]


def test_an_answer_that_is_too_long_is_no_grafanas(grafana: Annotating, token: str) -> None:
    """A megabyte of it is not read."""
    grafana.finds = "[" + " " * 10**6 + "]"
    outcome = Grafana(settings(grafana.url, token)).put(mark("t", (), ("k",), FIRST_MS))
    assert outcome.reason.startswith("what answers is no Grafana; ")


# Trials


def test_a_trial_leaves_no_mark(grafana: Annotating, token: str) -> None:
    """It asks for ours, and for what Grafana refuses only after it has looked at who asks."""
    assert trial(settings(grafana.url, token), {}, 0) == (DELIVERED, "a message about nothing")
    assert grafana.marks == {}
    assert grafana.asked == [
        "GET /grafana/api/annotations?tags=gputally&type=annotation&limit=1",
        "POST /grafana/api/annotations",
    ]


@pytest.mark.parametrize("role", ["Viewer", "nobody"])
def test_a_trial_finds_out_that_marks_would_not_be_taken(grafana: Annotating, token: str, role: str) -> None:
    """Before the first finding does."""
    grafana.role = role
    outcome, _ = trial(settings(grafana.url, token if role == "Viewer" else ""), {}, 0)
    assert outcome.verdict is Verdict.UNREACHABLE
    assert outcome.reason.endswith("; the token must be of a service account with the role Editor")
    outcome, _ = trial(settings("http://127.0.0.1:9"), {}, 0)
    assert outcome.verdict is Verdict.UNREACHABLE
    assert "Connection refused" in outcome.reason


# Marks of which the time changes


def test_a_mark_can_be_left_as_it_is(grafana: Annotating, token: str) -> None:
    """It is looked for from a time on."""
    one = Grafana(settings(grafana.url, token))
    for at_ms, since_ms, renews, count in (
        (FIRST_MS, MIDNIGHT, False, 1),
        (FIRST_MS + 5, MIDNIGHT, False, 1),
        (FIRST_MS + 9, FIRST_MS + 8, False, 2),
    ):
        body = mark(f"at {at_ms}", ("report",), ("week",), at_ms)
        assert one.put(body, since_ms=since_ms, renews=renews) == DELIVERED
        assert len(grafana.marks) == count
    assert [mark["text"] for mark in grafana.told()] == [f"at {FIRST_MS}", f"at {FIRST_MS + 9}"]
    assert one.put(mark("new", ("report",), ("week",), FIRST_MS + 20), since_ms=FIRST_MS + 8) == DELIVERED
    assert [mark["text"] for mark in grafana.told()] == [f"at {FIRST_MS}", "new"]
    one.close()
