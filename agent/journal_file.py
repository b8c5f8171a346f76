"""The journal as a file: opened, locked, moved aside, and its errors said in words."""

import fcntl
import os
import sqlite3
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import IO
from urllib.parse import quote

from agent.errors import JournalBroken, JournalError
from agent.schema import MIGRATIONS

_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def connect(path: Path, *, writable: bool = False) -> sqlite3.Connection:
    """Open a journal's file; one opened for reading is never created or changed.

    Raises JournalError with what to do, JournalBroken for a file that is no journal.
    """
    if not writable and not path.exists():
        raise JournalError(
            f"there is no journal at {path}: start `gputally run` or name another with --journal"
        )
    mode = "rwc" if writable else "ro"
    try:
        db = sqlite3.connect(
            f"file:{quote(os.fsencode(path))}?mode={mode}", uri=True, isolation_level=None, timeout=10
        )
        try:
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
            number = db.execute("PRAGMA user_version").fetchone()[0]
        except BaseException:
            db.close()
            raise
    except UnicodeDecodeError as error:
        raise JournalBroken(f"{path} is not a sound journal ({error})") from error
    except sqlite3.Error as error:
        raise translated(error, path) from error
    if "timeline" not in tables and (tables or not writable):
        db.close()
        raise JournalError(f"{path} is an SQLite file, but no gputally journal: name another with --journal")
    if not writable and number != len(MIGRATIONS):
        db.close()
        raise JournalError(
            f"{path} has schema {number} and this gputally reads {len(MIGRATIONS)}: "
            "use the gputally that writes it, or let this one run on it once"
        )
    return db


def translated(error: sqlite3.Error, path: Path) -> JournalError:
    """Say an SQLite error in terms of the journal and of what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _BROKEN:
        return JournalBroken(f"{path} is not a sound journal ({error})")
    if code == sqlite3.SQLITE_FULL:
        return JournalError(f"no space left for the journal {path}: free some, or lower [journal] max_bytes")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return JournalError(
            f"cannot write the journal {path}: make its folder writable or name another ({error})"
        )
    return JournalError(f"the journal {path} fails: {error}")


def translated_writing(error: sqlite3.Error, path: Path) -> JournalError:
    """Say an error of one of our own statements: if SQLite does not understand it, the file is not ours."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_ERROR:
        return JournalBroken(f"{path} is not a sound journal ({error})")
    return translated(error, path)


def lock(path: Path) -> IO[str]:
    """Become the one writer until the file that is given back is closed. Raises JournalError."""
    try:
        beside = path.with_name(path.name + ".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        held = beside.open("a+", encoding="ascii")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise JournalError(
            f"cannot write in {path.parent} ({reason}): make it writable, or name another --journal"
        ) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held.seek(0)
        pid = held.read().strip() or "unknown"
        held.close()
        raise JournalError(
            f"another gputally (pid {pid}) writes the journal {path}: stop it or name another with --journal"
        ) from error
    with suppress(OSError):
        held.truncate(0)
        held.write(f"{os.getpid()}\n")
        held.flush()
    return held


def move_aside(path: Path, now_ms: int) -> Path:
    """Rename a broken journal and what belongs to it; give the new name. Raises OSError."""
    names = (path.with_name(f"{path.name}.broken-{now_ms + number}") for number in count())
    aside = next(name for name in names if not name.exists())
    for ending in ("", "-wal", "-shm"):
        part = path.with_name(path.name + ending)
        if part.exists():
            part.rename(aside.with_name(aside.name + ending))
    return aside
