"""The command as users run it: real processes with an environment of their own, stopped by pid."""

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.command.waiting import DEADLINE_SECONDS, until

COMMAND = Path(sys.executable).with_name("gputally")
WITHOUT_RIGHTS = (
    ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs")
    if os.geteuid() == 0 and shutil.which("setpriv")
    else ()
)
"""Before a command: where tests run as root, the command has none of root's rights and no way to get one."""
Series = tuple[str, frozenset[tuple[str, str]]]
MIXED = ("--simulate", "h200x2:mixed", "--interval", "1", "--port", "0")


class Done(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    errors: str


def environment(folder: Path) -> dict[str, str]:
    """Give an environment without settings of this host; state is kept in the folder."""
    settings = folder / "none.toml"
    settings.touch()
    kept = {name: text for name, text in os.environ.items() if not name.startswith("GPUTALLY_")}
    kept.pop("STATE_DIRECTORY", None)
    return {
        **kept,
        "GPUTALLY_SETTINGS": str(settings),
        "XDG_STATE_HOME": str(folder / "state"),
        "PYTHONIOENCODING": "utf-8:strict",
        "PYTHONWARNINGS": "always",
    }


def gputally(folder: Path, *arguments: str | Path) -> Done:
    """Run a command to its end."""
    done = subprocess.run(
        [*WITHOUT_RIGHTS, COMMAND, *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def is_one_sentence(errors: str) -> bool:
    """Tell whether an error is one line of the command, as every error must be."""
    return errors.startswith("gputally: ") and errors.count("\n") == 1 and errors.endswith("\n")


class Agent:
    """A running `gputally run`; what it says goes into a file beside its journal."""

    def __init__(self, folder: Path, *arguments: str | Path, patch: str = "") -> None:
        """Start it. `patch` is run first in it and in its probes, to shorten what takes long."""
        number = len(list(folder.glob("agent-*.log")))
        (folder / "sitecustomize.py").write_text(patch, encoding="utf-8")
        self.log = folder / f"agent-{number}.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [*WITHOUT_RIGHTS, COMMAND, "run", *arguments],
                cwd=folder,
                env={**environment(folder), "PYTHONPATH": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self._port = 0
        self.left: list[psutil.Process] = []

    def __enter__(self) -> Self:
        """Give the agent."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_SECONDS)

    @property
    def said(self) -> str:
        """All that it said so far."""
        return self.log.read_text(encoding="utf-8")

    @property
    def port(self) -> int:
        """The port of its pages, once it has said it."""
        if not self._port:
            said = until(self._address, "the address of the pages")
            self._port = int(said[1])
        return self._port

    def _address(self) -> re.Match[str] | None:
        found = re.search(r"pages at http://127\.0\.0\.1:(\d+)/", self.said)
        assert found or self.process.poll() is None, self.said
        return found

    def page(self, path: str = "/metrics") -> bytes:
        """Give a page. Raises OSError, HTTPException when the agent does not answer."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)) as client:
            client.request("GET", path)
            return client.getresponse().read()

    def samples(self, prefix: str = "gpu") -> dict[Series, float]:
        """Give the series of the metrics page whose names begin so."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.page().decode())
            for sample in family.samples
            if sample.name.startswith(prefix)
        }

    def value(self, name: str) -> float | None:
        """Give the value of one of the agent's own series, if it is there."""
        return self.samples(name).get((name, frozenset()))

    def shows_gpus(self, ups: int = 2) -> bytes:
        """Wait until that many GPUs answer, and give the metrics page that says so."""

        def shown() -> bytes | None:
            page = self.page()
            return page if len(re.findall(rb"^gpu_up\{.*\} 1\.0$", page, re.MULTILINE)) == ups else None

        return until(shown, f"a page on which {ups} GPUs are up")

    def probes(self) -> list[psutil.Process]:
        """Give its probes: there is one at most, but while one is replaced."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def probe(self) -> psutil.Process:
        """Wait for its probe."""
        return until(self.probes, "a probe")[0]

    def kill(self) -> None:
        """End it as a power cut would."""
        self.left += self.probes()
        self.process.kill()
        self.process.wait(DEADLINE_SECONDS)

    def end(self) -> int:
        """Ask it to end and give its exit code; `left` are the probes that it had."""
        self.left += self.probes()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_SECONDS)


def is_stuck(process: psutil.Process) -> bool:
    """Tell whether a process hangs in the simulated driver, where no signal but SIGKILL reaches it."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    except OSError:
        return False
    blocked = re.search(r"^SigBlk:\s*([0-9a-f]+)", status, re.MULTILINE)
    return blocked is not None and bool(int(blocked[1], 16) & 1 << (signal.SIGTERM - 1))


def is_gone(process: psutil.Process) -> bool:
    """Tell whether a process has ended, even if nobody has asked for its exit code."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def running(folder: Path, *arguments: str | Path, patch: str = "") -> Iterator[Agent]:
    """Run an agent and see to it that it says nothing untoward, and that nothing of it remains.

    Only what hangs in the driver may remain: it is killed here, by its id.
    """
    probes: Sequence[psutil.Process] = ()
    with Agent(folder, *arguments, patch=patch) as agent:
        try:
            yield agent
        finally:
            probes = [*agent.left, *agent.probes()]
            for probe in probes:
                if is_stuck(probe):
                    probe.kill()
    for probe in probes:
        until(lambda probe=probe: is_gone(probe), "the end of the probe")  # type: ignore[misc]
    assert "Traceback" not in agent.said
    assert "Warning:" not in agent.said
