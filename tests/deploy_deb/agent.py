"""The agent as its installed unit starts it, in a root of its own."""

import configparser
import subprocess
from pathlib import Path

from tests.command.processes import Agent
from tests.deploy_deb.root import Root

UNIT = Path("usr/lib/systemd/system/gputally.service")
SIMULATED = ("--simulate", "h200x2:mixed", "--interval", "1", "--port", "0")


def told(root: Path, path: Path = UNIT, section: str = "Service") -> dict[str, str]:
    """Give the last value of each key of a unit."""
    parser = configparser.RawConfigParser(strict=False, comment_prefixes="#")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(root / path, encoding="utf-8")
    return dict(parser[section])


class InstalledAgent(Agent):
    """The unit's command, by the unit's user, with simulated GPUs. Variables are the unit's, and `more`."""

    def __init__(self, root: Root, log: Path, *more: str) -> None:
        unit = told(root.folder)
        start = [*unit["ExecStart"].split(), *SIMULATED]
        state = f"STATE_DIRECTORY=/var/lib/{unit['StateDirectory']}"
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                root.inside("env", "-i", "PATH=/usr/bin:/bin", state, *more, *start, user=unit["User"]),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self._port = 0
        self.left = []
