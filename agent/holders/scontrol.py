"""Runs Slurm's commands: one at a time, with a deadline, bounded, and none is left running.

They get an environment of their own, so that nobody's settings change what they print. A text that a user may
have chosen is asked for between marks that nobody can guess; they pass in the environment, which other users
cannot read, unlike arguments.
"""

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.holders.contract import WorldError
from agent.holders.names import printable
from agent.holders.slurm_jobs import FIELDS, LONGEST_NAME, Job, jobs_of

TIMEOUT_SECONDS = 5.0
END_SECONDS = 1.0
MOST_BYTES = 4 * 1024 * 1024
MOST_WORDS_BYTES = 4096
READ_BYTES = 1 << 16
MARK_BYTES = 16
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "SLURM_CONF", "SLURM_JWT", "TZ")
UNKNOWN_JOB = "Invalid job id"


class Done(NamedTuple):
    """How a command ended: its exit code, what it printed, and what it complained of."""

    code: int
    text: str
    words: str = ""


Run = Callable[[Sequence[str], Mapping[str, str]], Done]


def run_command(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    most_bytes: int = MOST_BYTES,
) -> Done:
    """Run a command without a shell or input. Raises WorldError if it cannot, hangs or prints too much."""
    program = Path(command[0]).name
    try:
        process = subprocess.Popen(  # noqa: S603  a fixed command; names in it are checked
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd="/",
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise WorldError(
            f"{command[0]} cannot be run ({error}): name the folder of Slurm's commands in the settings"
        ) from error
    deadline = time.monotonic() + timeout_seconds
    try:
        text, words = _read(process, deadline, most_bytes)
        code = process.wait(max(0.0, deadline - time.monotonic()))
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        raise WorldError(
            f"{program} did not answer within {timeout_seconds:g} s: see `scontrol ping`"
        ) from error
    except OverflowError as error:
        raise WorldError(
            f"{program} printed more than {most_bytes} bytes: run it by hand to see why"
        ) from error
    finally:
        _end(process)
    return Done(code, text.decode(errors="surrogateescape"), words.decode(errors="replace"))


def _read(process: subprocess.Popen[bytes], deadline: float, most_bytes: int) -> tuple[bytes, bytes]:
    """Read both pipes to their ends. Raises TimeoutError, OverflowError."""
    text, words = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        for pipe, kept in ((process.stdout, text), (process.stderr, words)):
            if pipe:
                selector.register(pipe, selectors.EVENT_READ, kept)
        while selector.get_map():
            left_seconds = deadline - time.monotonic()
            ready = selector.select(left_seconds) if left_seconds > 0 else []
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                data = os.read(key.fd, READ_BYTES)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.data is text:
                    text += data
                elif len(words) < MOST_WORDS_BYTES:
                    words += data
            if len(text) > most_bytes:
                raise OverflowError
    return bytes(text), bytes(words)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing of a command: it led a process group, whose number is its own until it is waited for."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


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
        return self._run([self._program(program), *arguments], {**kept, "LC_ALL": "C", **variables})

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
