"""A real server of its own for a test: a process with a folder, on a free port of loopback.

The port is the server's choice (it binds 0) and is read from its process, so that no two tests race for one.
It is stopped by its process id, also when it never answers.
"""

import http.client
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.command.waiting import until

ANSWER_SECONDS = 60.0
STOP_SECONDS = 20.0
OK, BAD = 200, 300


class Reply(NamedTuple):
    """What a server answered."""

    status: int
    body: bytes

    def good(self) -> bytes:
        """Give the body of an answer that says yes; fail with what it says else."""
        assert OK <= self.status < BAD, (self.status, self.body[:1000])
        return self.body


class Server:
    """A program that speaks HTTP. What it stored outlives `stop`, and `start` brings it back on its port."""

    def __init__(self, command: Callable[[str], Sequence[str]], folder: Path, ready: str) -> None:
        """`command` makes the command line that listens at an address; `ready` is a path that says when."""
        self._command, self._ready = command, ready
        self.folder, self.log = folder, folder / "log"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(f"127.0.0.1:{self.port}"),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            until(self._answers, f"{type(self).__name__} to answer")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Let it write what it holds and end."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
            self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Make one request."""
        return _ask(self.port, method, path, body, headers or {})

    def ports(self) -> list[int]:
        """Give the ports where it listens."""
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.pid).net_connections(kind="tcp4")
            return [one.laddr.port for one in found if one.status == psutil.CONN_LISTEN]
        return []

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            told = self.log.read_text(errors="replace")[-2000:]
            raise AssertionError(f"it ended with {self._process.returncode}: {told}")
        for port in [self.port] if self.port else self.ports():
            with suppress(OSError, http.client.HTTPException):
                if OK <= _ask(port, "GET", self._ready, b"", {}).status < BAD:
                    self.port = port
                    return True
        return False


def _ask(port: int, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return Reply(answer.status, answer.read())
    finally:
        connection.close()


def program(name: str, package: str) -> str:
    """Find a program; without it the test is skipped, under CI=true it fails."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
    if found is None:
        missing = f"{name} is not installed: apt-get install -y --no-install-recommends {package} (Debian)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@contextmanager
def folder_of(name: str) -> Iterator[Path]:
    """Give a folder that goes with the server."""
    with tempfile.TemporaryDirectory(prefix=f"gputally-{name}-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
