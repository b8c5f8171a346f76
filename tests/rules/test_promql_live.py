"""One truth on real servers: Prometheus, and VictoriaMetrics with vmalert, judge a node as it is scraped."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.scene import Scene
from agent.tick import State
from rules.definition import Condition, Rule, Runbook
from rules.groups import Ruler, text_of
from tests.command.waiting import until
from tests.rules.live import Player, firing, playing, prometheus, victoria_with_vmalert
from tests.rules.scenes import GPUS, Stage
from tests.rules.test_engine import BRAKE, HOT
from tests.rules.unit_tests import Open, judged

SECONDS = 5
"""An interval of the servers; rules, histories and engine go by one of ten seconds."""
WARM_TURNS = 3
BOOK = Runbook(action="look")
RULES = {
    "down": Rule(
        name="down", summary="down", when={"d": Condition(quantity="state", is_state="down")}, runbook=BOOK
    ),
    "hot": replace(HOT, for_seconds=40.0, clear_seconds=30.0, inhibited_by=("down",)),
    "braked": replace(BRAKE, name="braked", summary="braked"),
    "batch": replace(HOT, name="batch", for_seconds=20.0, clear_seconds=20.0, workloads=("batch",)),
}
Values = dict[str, float]


def play() -> list[Scene | None]:
    """Let a GPU heat up, hover, be away, come back and cool; another falls off the bus for a while."""
    stage = Stage(RULES)
    scenes: list[Scene | None] = []
    counted = 0.0

    def see(celsius: float, turns: int, braked: float = 0.0, state: State = State.ACTIVE) -> None:
        nonlocal counted
        for _ in range(turns):
            counted += braked
            first: Values = {"temperature_margin_celsius": celsius}
            first |= {"throttle_power_brake_seconds_total": counted}
            scene = stage.scene([first, {"temperature_margin_celsius": 20.0}], workload="batch")
            scenes.append(replace(scene, states={GPUS[0]: State.ACTIVE, GPUS[1]: state}))

    see(20, 3)
    see(4, 6, braked=0.5)
    see(7, 2, state=State.DOWN)
    scenes.extend([None] * 4)
    stage.skip(4)
    see(7, 3, state=State.DOWN)
    see(9, 6)
    return scenes


def story(found: Sequence[Open]) -> dict[tuple[str, str], list[int]]:
    """Tell when each finding opened and closed, in turn."""
    told: dict[tuple[str, str], list[int]] = {}
    before: Open = frozenset()
    for at, now in enumerate(found):
        for key in sorted(now ^ before):
            told.setdefault(key, []).append(at)
        before = now
    return told


def halved(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """Make rules for intervals that are half as long."""
    return {
        name: replace(
            rule,
            for_seconds=rule.for_seconds / 2,
            clear_seconds=rule.clear_seconds / 2,
            when={key: replace(one, over_seconds=one.over_seconds / 2) for key, one in rule.when.items()},
        )
        for name, rule in rules.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(("ruler", "steps"), [("prometheus", 2), ("vmalert", 2)])
def test_a_real_server_opens_and_closes_as_the_node_does(tmp_path: Path, ruler: Ruler, steps: int) -> None:
    """All opens and closes in the same order, late by no more than the store's own steps."""
    scenes = play()
    expected = story(judged(RULES, scenes))
    assert {rule for rule, _ in expected} == RULES.keys()
    path = tmp_path / "rules.yaml"
    path.write_text(text_of(halved(RULES), (), SECONDS * 1000, ruler=ruler), encoding="utf-8")
    run = prometheus if ruler == "prometheus" else victoria_with_vmalert
    with (
        playing(Player([*scenes[:1] * WARM_TURNS, *scenes], SECONDS)) as player,
        run(path, player.port, SECONDS) as server,
    ):
        began = player.begin() + WARM_TURNS * SECONDS
        length = (len(scenes) + steps) * SECONDS
        until(player.is_over, "the play to end", seconds=length + 60)
        seen = story(firing(server, began, length))
    assert seen.keys() == expected.keys(), (expected, seen)
    for key, turns in expected.items():
        late = [at / SECONDS - turn for at, turn in zip(seen[key], turns, strict=True)]
        assert all(-0.5 <= one <= steps + 0.5 for one in late), (key, late)
