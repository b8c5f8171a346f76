"""A journal of some hours of a simulated node: two GPUs with holders that come and go, one tick a minute."""

from dataclasses import replace
from pathlib import Path

from agent.journal import JournalSettings
from agent.simulated.scenario import parse_simulation
from gputally.demo import back_fill
from gputally.settings import NodeSettings, Settings

SETTINGS = replace(Settings(), node=NodeSettings(name="hall2-n017"), journal=JournalSettings(sync="normal"))
HOUR_MS = 3_600_000


def written(path: Path, hours: int) -> Path:
    """Write it; give its path."""
    back_fill(parse_simulation("h200x2:mixed"), SETTINGS, path, hours * HOUR_MS)
    return path
