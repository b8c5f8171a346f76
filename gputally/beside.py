"""Starts our own command beside a running node: a process of low priority, first to go if memory runs out."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

NICEST = 19
LEAST_IO = 7
FIRST_TO_DIE = 500
"""What is added to the score by which the kernel chooses whom to end when memory runs out."""
Child = subprocess.Popen[bytes]


def started(command: Sequence[str]) -> Child:
    """Start a process that yields to all others; what it complains of goes where we log. Raises OSError."""
    child = subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    with contextlib.suppress(OSError, psutil.Error, ValueError):
        process = psutil.Process(child.pid)
        process.nice(NICEST)
        process.ionice(psutil.IOPRIO_CLASS_BE, LEAST_IO)
        Path(f"/proc/{child.pid}/oom_score_adj").write_text(f"{FIRST_TO_DIE}\n", encoding="ascii")
    return child


def end(child: Child, patience_seconds: float) -> None:
    """Ask a process to end, and after a while make it."""
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience_seconds)
        if child.poll() is None:
            child.kill()
            child.wait()
