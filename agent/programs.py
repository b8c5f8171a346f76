"""Runs other programs: with a deadline, bounded in what they print, and nothing of them is left running."""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.errors import GputallyError

TIMEOUT_SECONDS = 5.0
END_SECONDS = 1.0
MOST_BYTES = 4 * 1024 * 1024
MOST_WORDS_BYTES = 4096
READ_BYTES = 1 << 16


class ProgramError(GputallyError):
    """A program did not do what it was run for."""


class ProgramMissing(ProgramError):  # noqa: N818  names the state
    """It is not there, or no program, or may not be run."""


class ProgramHangs(ProgramError):  # noqa: N818  names the state
    """It did not come to an end in time."""


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
    """Run a command without a shell or input. Raises ProgramError if it cannot, hangs or prints too much."""
    program = Path(command[0]).name
    try:
        process = subprocess.Popen(  # noqa: S603  a command of ours or of the settings
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd="/",
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise ProgramMissing(f"{command[0]} cannot be run ({error})") from error
    deadline = time.monotonic() + timeout_seconds
    try:
        text, words = _read(process, deadline, most_bytes)
        code = process.wait(max(0.0, deadline - time.monotonic()))
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        raise ProgramHangs(f"{program} did not answer within {timeout_seconds:g} s") from error
    except OverflowError as error:
        raise ProgramError(
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
