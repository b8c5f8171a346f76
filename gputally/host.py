"""What doctor finds of the host: its clock, the disk of the journal, device files, the port of the pages."""

import ctypes
import errno
import getpass
import os
import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from agent.journal import JournalSettings
from exporters.web import WebSettings
from gputally.surroundings import Check

MIB = 2**20
DEVICES = Path("/dev")
ANSWER_SECONDS = 2.0
_TIMEX_BYTES = 256
_MAXERROR, _STATUS = 24, 40
"""Where struct timex of 64-bit Linux has them (adjtimex(2))."""
_UNSYNCHRONISED = 0x40
_Timex = Callable[[], bytes | None]


def adjtimex() -> bytes | None:
    """Ask the kernel how well its clock is kept; None where it does not say. Sets nothing."""
    told = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        found = ctypes.CDLL(None, use_errno=True).adjtimex(told)
    except (OSError, AttributeError):
        return None
    return None if found < 0 else told.raw


def clock(ask: _Timex = adjtimex) -> Check:
    """Tell whether somebody keeps the clock: hours of nodes are put side by side."""
    told = ask()
    if told is None:
        return Check(what="clock", good=None, text="the kernel does not say how well it is kept")
    (status,) = struct.unpack_from("i", told, _STATUS)
    (error_us,) = struct.unpack_from("q", told, _MAXERROR)
    if status & _UNSYNCHRONISED:
        text = (
            "nobody keeps it: enable chrony or systemd-timesyncd, or the hours of nodes do not fit together"
        )
        return Check(what="clock", good=False, text=text)
    return Check(what="clock", good=True, text=f"synchronised, within {error_us / 1000:.0f} ms")


def disk(path: Path, settings: JournalSettings) -> Check:
    """Tell whether this user may write where the journal is, and whether it has room to grow to its bound."""
    folder = next(one for one in (path.parent, *path.parent.parents) if one.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        text = f"{_user()} may not write in {folder}: run doctor as the agent's user, or name another folder"
        return Check(what="disk", good=False, text=text)
    free = shutil.disk_usage(folder).free
    used = sum(_size(path.with_name(path.name + end)) for end in ("", "-wal"))
    wanted = max(0, settings.max_bytes - used)
    text = f"{free // MIB} MiB free in {folder}, the journal may grow by {wanted // MIB} MiB"
    if free < wanted:
        return Check(what="disk", good=False, text=f"{text}: free some, or lower [journal] max_bytes")
    if not os.statvfs(folder).f_favail and os.statvfs(folder).f_files:
        return Check(what="disk", good=False, text=f"no more files can be made in {folder}: remove some")
    return Check(what="disk", good=True, text=text)


def devices(folder: Path = DEVICES) -> Iterator[Check]:
    """Tell of the driver's files that this user may not open; nothing where there is no driver."""
    shut = [
        str(path)
        for path in sorted([*folder.glob("nvidia[0-9]*"), *folder.glob("nvidiactl")])
        if not os.access(path, os.R_OK | os.W_OK)
    ]
    if shut:
        text = (
            f"{_user()} may not open {', '.join(shut)}: add it to the group that owns them (ls -l {folder})"
        )
        yield Check(what="device files", good=False, text=text)
    elif (folder / "nvidiactl").exists():
        yield Check(what="device files", good=True, text=f"{_user()} may open them")


def page(settings: WebSettings) -> Check:
    """Tell who listens where the pages should be."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(settings.listen, settings.listen)  # noqa: S104
    where = f"{host} port {settings.port}"
    if settings.config_file:
        return _listens(host, settings.port, where)
    client = HTTPConnection(host, settings.port, timeout=ANSWER_SECONDS)
    try:
        client.request("GET", "/-/healthy")
        answer = client.getresponse().read(200)
    except ConnectionRefusedError:
        return Check(what="pages", good=None, text=f"nobody listens on {where}: the agent does not run")
    except (OSError, HTTPException) as error:
        text = f"what listens on {where} is no agent ({error}): stop it, or set [web] port"
        return Check(what="pages", good=False, text=text)
    finally:
        client.close()
    if b"gputally" not in answer.lower():
        text = f"what listens on {where} is no agent: stop it, or set [web] port"
        return Check(what="pages", good=False, text=text)
    return Check(what="pages", good=True, text=f"the agent answers on {where}")


def _listens(host: str, port: int, where: str) -> Check:
    try:
        socket.create_connection((host, port), ANSWER_SECONDS).close()
    except OSError as error:
        good = None if error.errno == errno.ECONNREFUSED else False
        return Check(what="pages", good=good, text=f"nobody answers on {where}: {error.strerror or error}")
    return Check(what="pages", good=True, text=f"somebody answers on {where}, by TLS or with a password")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
