"""What doctor says of the host: clock, disk, device files, and who listens where the pages should be."""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.journal import JournalSettings
from exporters.web import WebSettings
from gputally import host
from tests.command.processes import MIXED, gputally, running


def timex(status: int, error_us: int) -> bytes:
    """Make what the kernel tells of its clock."""
    told = bytearray(208)
    struct.pack_into("q", told, 24, error_us)
    struct.pack_into("i", told, 40, status)
    return bytes(told)


def test_a_clock_that_is_kept() -> None:
    """It says how well; the kernel of this host is asked as well, whatever it says."""
    found = host.clock(lambda: timex(0x2001, 12_400))
    assert (found.good, found.text) == (True, "synchronised, within 12 ms")
    assert host.clock().what == "clock"


def test_a_clock_that_nobody_keeps() -> None:
    """It is bad, and says what to do; not to know is neither."""
    found = host.clock(lambda: timex(0x40, 16_000_000))
    assert found.good is False
    assert "chrony" in found.text
    assert host.clock(lambda: None).good is None


def test_a_disk_with_room(tmp_path: Path) -> None:
    """Measured by what the journal may still grow to, also where its folder is not there yet."""
    found = host.disk(tmp_path / "not" / "there" / "j.db", JournalSettings(max_bytes=2**20))
    assert found.good is True
    assert f"in {tmp_path}" in found.text
    assert "may grow by 1 MiB" in found.text


def test_a_disk_without_room(tmp_path: Path) -> None:
    """A bound beyond what is free is bad; what the journal has already is counted."""
    found = host.disk(tmp_path / "j.db", JournalSettings(max_bytes=2**60))
    assert found.good is False
    assert "lower [journal] max_bytes" in found.text
    (tmp_path / "j.db").write_bytes(bytes(2**20))
    assert host.disk(tmp_path / "j.db", JournalSettings(max_bytes=2**21)).text.endswith("may grow by 1 MiB")


def test_a_folder_that_is_shut(tmp_path: Path) -> None:
    """It says for whom; the command has none of root's rights in tests."""
    shut = tmp_path / "shut"
    shut.mkdir()
    shut.chmod(0o500)
    done = gputally(tmp_path, "doctor", "--simulate", "t4x1", "--journal", shut / "j.db")
    shut.chmod(0o700)
    assert done.code == 1
    assert "may not write in" in " ".join(done.out.split())


def test_device_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing where there is no driver; those that are shut are named."""
    assert list(host.devices(tmp_path)) == []
    for name in ("nvidiactl", "nvidia0", "nvidia1", "nvidia-uvm"):
        (tmp_path / name).touch()
    (found,) = host.devices(tmp_path)
    assert found.good is True
    monkeypatch.setattr(os, "access", lambda path, _: not str(path).endswith("nvidia1"))
    (found,) = host.devices(tmp_path)
    assert found.good is False
    assert f"may not open {tmp_path / 'nvidia1'}:" in found.text


@contextmanager
def babbling(words: bytes) -> Iterator[int]:
    """Listen, and answer whatever is asked with these words; give the port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1000)
                client.sendall(words)

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        thread.join(30)


@pytest.mark.parametrize(
    "words",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"SSH-2.0-x\r\n", b""],
    ids=["web", "ssh", "end"],
)
def test_a_stranger_on_the_port(words: bytes) -> None:
    """What is no agent is bad."""
    with babbling(words) as port:
        found = host.page(WebSettings(port=port))
    assert found.good is False
    assert "is no agent" in found.text


def test_nobody_on_the_port() -> None:
    """It is neither good nor bad: the agent does not run."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    assert host.page(WebSettings(port=port)).good is None
    assert host.page(WebSettings(port=port, config_file="web.yml")).good is None


def test_an_agent_on_the_port(tmp_path: Path) -> None:
    """Found also where it listens on all addresses."""
    with running(tmp_path, *MIXED) as agent:
        agent.shows_gpus()
        assert host.page(WebSettings(port=agent.port)).good is True
        assert host.page(WebSettings(listen="0.0.0.0", port=agent.port)).good is True  # noqa: S104
        assert host.page(WebSettings(port=agent.port, config_file="web.yml")).good is True
