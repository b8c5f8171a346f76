"""Runs Slurm's commands: one at a time, with a deadline, bounded, and none is left running.

They get an environment of their own, so that nobody's settings change what they print. A text that a user may
have chosen is asked for between marks that nobody can guess; they pass in the environment, which other users
cannot read, unlike arguments.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from agent.holders.contract import WorldError
from agent.holders.names import printable
from agent.holders.slurm_jobs import FIELDS, LONGEST_NAME, Job, jobs_of
from agent.programs import Done, ProgramError, ProgramHangs, ProgramMissing, Run, run_command

MARK_BYTES = 16
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "SLURM_CONF", "SLURM_JWT", "TZ")
UNKNOWN_JOB = "Invalid job id"


class SlurmCommands:
    """Asks Slurm by its commands in the folder `commands`, or on PATH where that is empty."""

    def __init__(self, commands: str = "", run: Run = run_command) -> None:
        self._folder = commands
        self._run = run

    def available(self) -> bool:
        """Say whether Slurm's commands seem to be here."""
        return shutil.which(self._program("scontrol")) is not None

    def node(self, name: str) -> str:
        """Give the text of one node. Raises WorldError."""
        done = self._ask("scontrol", "show", "node", name, "-d", "-o")
        if done.code and "not found" in done.text + done.words:
            raise WorldError(f"Slurm knows no node {name!r}: set its NodeName in the settings")
        return self._checked(done, f"scontrol show node {name}").text

    def job(self, name: str) -> str:
        """Give the text of one job, by number, array task or SLUID; empty if unknown. Raises WorldError."""
        done = self._ask("scontrol", "--all", "show", "job", "-d", name)
        if done.code and UNKNOWN_JOB in done.words:
            return ""
        return self._checked(done, f"scontrol show job {name}").text

    def on_node(self, name: str) -> dict[str, Job]:
        """Tell all jobs that Slurm has on a node, by number. Raises WorldError."""
        return self._listed("-w", name)

    def numbered(self, numbers: Iterable[str]) -> dict[str, Job]:
        """Tell those of the numbered jobs that Slurm knows. Raises WorldError."""
        return self._listed("-j", ",".join(numbers))

    def spool_folder(self) -> str:
        """Give the folder of slurmd's sockets as configured; empty where not told. Raises WorldError."""
        done = self._checked(self._ask("scontrol", "show", "config"), "scontrol show config")
        for line in done.text.split("\n"):
            name, _, value = line.partition("=")
            if name.strip() == "SlurmdSpoolDir":
                return value.strip()
        return ""

    def _listed(self, option: str, value: str) -> dict[str, Job]:
        mark = f"<{os.urandom(MARK_BYTES).hex()}>"
        wanted = mark + "".join(f"%{field}{mark}" for field in FIELDS)
        done = self._ask("squeue", "--all", "-h", "-t", "all", option, value, SQUEUE_FORMAT=wanted)
        if done.code and UNKNOWN_JOB in done.words:
            return {}
        return jobs_of(self._checked(done, f"squeue {option} {value}").text, mark)

    def _ask(self, program: str, *arguments: str, **variables: str) -> Done:
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        environment = {**kept, "LC_ALL": "C", **variables}
        try:
            return self._run([self._program(program), *arguments], environment)
        except ProgramMissing as error:
            raise WorldError(f"{error}: name the folder of Slurm's commands in the settings") from error
        except ProgramHangs as error:
            raise WorldError(f"{error}: see `scontrol ping`") from error
        except ProgramError as error:
            raise WorldError(str(error)) from error

    def _program(self, name: str) -> str:
        return str(Path(self._folder) / name) if self._folder else name

    @staticmethod
    def _checked(done: Done, command: str) -> Done:
        if done.code:
            words = (
                printable(done.words.strip().rpartition("\n")[2], LONGEST_NAME) or f"exit code {done.code}"
            )
            raise WorldError(f"{command} failed ({words}): run it by hand as the agent's user")
        return done
