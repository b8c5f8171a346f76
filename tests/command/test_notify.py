"""What systemd is told: ready once, a sign of life for each interval, what the GPUs do, settings, the end."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gputally.notify import Systemd
from tests.command.processes import Agent, environment, running
from tests.command.waiting import DEADLINE_SECONDS, until


class Manager:
    """A socket as systemd has it."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(DEADLINE_SECONDS)
        self.heard: list[list[str]] = []
        self.told_by: list[Systemd] = []

    def next(self) -> list[str]:
        """Wait for what is told next."""
        told = self._socket.recv(4096).decode().splitlines()
        self.heard.append(told)
        return told

    def waits(self) -> bool:
        """Tell whether something was told that nobody heard yet."""
        self._socket.setblocking(False)
        try:
            return bool(self._socket.recv(4096, socket.MSG_PEEK))
        except BlockingIOError:
            return False
        finally:
            self._socket.settimeout(DEADLINE_SECONDS)

    def close(self) -> None:
        """End."""
        self._socket.close()
        for one in self.told_by:
            one.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """Listen."""
    made = Manager(tmp_path)
    yield made
    made.close()


def started(manager: Manager, **more: str) -> Systemd:
    """Start with what systemd tells."""
    told = {"NOTIFY_SOCKET": manager.address, "OTHER": "1", **more}
    systemd = Systemd.of(told)
    manager.told_by.append(systemd)
    assert told == {"OTHER": "1"}, "no process of ours may speak in our name"
    return systemd


def test_ready_and_a_longer_patience_for_long_intervals(manager: Manager) -> None:
    """The watchdog of the unit is for short intervals: longer ones ask for more, shorter ones for no less."""
    systemd = started(manager, WATCHDOG_USEC="180000000", WATCHDOG_PID=str(os.getpid()))
    systemd.ready("8 GPUs", 18.0)
    assert manager.next() == ["READY=1", "STATUS=8 GPUs"]
    systemd.ready("8 GPUs", 3608.0)
    assert manager.next() == ["READY=1", "WATCHDOG_USEC=10824000000"]


def test_only_progress_feeds_the_watchdog(manager: Manager) -> None:
    """An interval that was entered does, once; the same count again does not."""
    systemd = started(manager, WATCHDOG_USEC="1000000")
    systemd.got_on(1, "a")
    assert manager.next() == ["WATCHDOG=1", "STATUS=a"]
    systemd.got_on(1, "b")
    assert not manager.waits()
    systemd.got_on(2, "a")
    assert manager.next() == ["WATCHDOG=1"]


def test_a_watchdog_of_somebody_else_is_not_fed(manager: Manager) -> None:
    """WATCHDOG_PID names whom it is for."""
    systemd = started(manager, WATCHDOG_USEC="1000000", WATCHDOG_PID=str(os.getpid() + 1))
    systemd.got_on(1, "a\nREADY=0")
    assert manager.next() == ["STATUS=a READY=0"], "no line of its own"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/socket"])
def test_nobody_to_tell_is_no_error(address: str) -> None:
    """Started by hand, or systemd is gone."""
    systemd = Systemd.of({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "many"})
    systemd.ready("a", 1)
    systemd.got_on(1, "a")
    systemd.stopping()
    systemd.close()


def test_an_abstract_socket_is_told(tmp_path: Path) -> None:
    """Its name begins with @."""
    name = f"gputally-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(f"\0{name}")
        there.settimeout(DEADLINE_SECONDS)
        systemd = Systemd.of({"NOTIFY_SOCKET": f"@{name}"})
        systemd.stopping()
        assert there.recv(100) == b"STOPPING=1"
        systemd.close()


def test_a_running_agent_tells_how_it_gets_on(
    tmp_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ready when its page is there, fed by each interval, reloading and ready again, stopping at last."""
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    assert {"NOTIFY_SOCKET", "WATCHDOG_USEC"} <= environment(tmp_path).keys()
    simulated = ("--simulate", "h200x2:training", "--interval", "1", "--port", "0", "--journal", "j.db")
    with running(tmp_path, *simulated) as agent:
        assert manager.next()[0] == "READY=1"
        agent.page()
        fed = until(lambda: [one for one in (manager.next(),) if "WATCHDOG=1" in one], "an interval")[0]
        assert any(line.startswith("STATUS=2 GPUs: ") and line.endswith("no findings open") for line in fed)
        check_probe_is_not_told(agent)
        agent.process.send_signal(signal.SIGHUP)
        until(lambda: manager.next()[0] == "RELOADING=1", "new settings")
        assert manager.next()[0] == "READY=1"
        assert agent.end() == 0
    while manager.waits():
        manager.next()
    assert manager.heard[-1] == ["STOPPING=1"]


def check_probe_is_not_told(agent: Agent) -> None:
    """Its environment has no way to systemd."""
    assert "NOTIFY_SOCKET" not in agent.probe().environ()
