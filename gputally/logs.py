"""Where log lines go: standard error, one line each, with their level as the reader there understands it."""

import logging
import os
import sys
from typing import Literal

_LEVELS = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
"""Levels as syslog counts them: a line that begins with <4> is a warning to systemd's journal."""


def to_standard_error(level: Literal["INFO", "WARNING"]) -> None:
    """Write lines from a level on; to systemd's journal with its own mark of the level."""
    handler = logging.StreamHandler()
    form = "%(levelname)s %(message)s"
    handler.setFormatter(_ForJournal() if _is_journal() else logging.Formatter(form))
    logging.basicConfig(level=level, handlers=[handler])


class _ForJournal(logging.Formatter):
    """Marks each line; a line break in a message is a space, so that it stays one entry."""

    def format(self, record: logging.LogRecord) -> str:
        text = " ".join(super().format(record).splitlines())
        return f"<{_LEVELS.get(record.levelname, 6)}>{text}"


def _is_journal() -> bool:
    """Tell whether standard error goes to systemd's journal: JOURNAL_STREAM names its device and inode."""
    told = os.environ.get("JOURNAL_STREAM", "")
    try:
        about = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return told == f"{about.st_dev}:{about.st_ino}"
