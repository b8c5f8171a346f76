"""A long bad day: store, network, names and certificates fail, the agent is killed, nothing is missing."""

import random
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from agent.journal_file import connect
from exporters.history import History
from tests.command.processes import Agent
from tests.command.waiting import until
from tests.stores.rude import TRANSIENT, by_chance, rude
from tests.stores.samples import at_times_of, differences, expected
from tests.stores.victoria import TOLERANCE, victoria

ROUNDS, MOST_ROUNDS = 20, 60
NOWHERE = "https://no-such-store.invalid"
SETTINGS = """
[[exporters.to]]
name = "fleet"
kind = "influx"
url = "{url}/influx"
bucket = "gpu"
ca_file = "{authority}"
timeout_seconds = 1
"""


def _waiting(agent: Agent) -> float:
    with suppress(OSError):
        found = agent.samples("gputally_exporter_waiting_ticks")
        return next(iter(found.values()), 1.0)
    return 1.0


@pytest.mark.slow
def test_a_bad_day_loses_nothing(tmp_path: Path) -> None:
    """Every figure of every tick of the journal is in the store, under its own time."""
    chance = random.Random(4711)  # noqa: S311
    journal, settings = tmp_path / "journal.db", tmp_path / "settings.toml"
    with victoria() as store, rude(store, tmp_path) as way:
        way.fate = by_chance(chance, TRANSIENT, 0.4)
        where = ("--settings", str(settings), "--journal", str(journal))
        arguments = ("--simulate", "h200x2:mixed", "--interval", "1", "--port", "0", *where)
        up = True
        for life in range(MOST_ROUNDS):
            if life >= ROUNDS and all(way.met[fate] for fate in TRANSIENT):
                break  # on a slow machine it takes more lives until all has befallen it
            way.expired = life % 7 == 3
            name = NOWHERE if life % 7 == 5 else way.url
            settings.write_text(SETTINGS.format(url=name, authority=way.authority))
            with Agent(tmp_path, *arguments) as agent:
                until(lambda: agent.samples("gpu_up"), "an interval")
                for _ in range(chance.randint(1, 3)):
                    time.sleep(chance.uniform(0.2, 2.5))
                    if chance.random() < 0.5:
                        # killed, it would lose seconds that it has said it took
                        store.stop() if up else store.start()
                        up = not up
                agent.process.kill()
        if not up:
            store.start()
        way.expired = False
        settings.write_text(SETTINGS.format(url=way.url, authority=way.authority))
        with Agent(tmp_path, *arguments) as agent:
            until(lambda: agent.samples("gpu_up"), "an interval")
            until(lambda: _waiting(agent) <= 2, "the store to have all")
            agent.process.terminate()
            agent.process.wait(60)
        with closing(connect(journal)) as db:
            settled = db.execute("SELECT tick_id FROM exporter").fetchone()[0]
            ticks = History(db, 0, {}).ticks(10**6, until=settled)
        want = expected(row for _, rows in ticks for row in rows)
        assert len(ticks) > ROUNDS
        assert differences(at_times_of(store.samples(), want), want, TOLERANCE) == []
        assert [fate for fate in TRANSIENT if not way.met[fate]] == []
