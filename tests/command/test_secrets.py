"""Secrets stay where they are, and nothing is written but where it was said."""

import json
from pathlib import Path

import psutil
import pytest

from gputally.addresses import shown
from tests.command.processes import MIXED, Agent, gputally, running
from tests.command.waiting import until

SECRETS = ("s3cret-in-url", "s3cret-token")
SETTINGS = """
[[exporters.to]]
name = "by-url"
kind = "influx"
url = "http://me:{0}@127.0.0.1:1"
bucket = "b"
org = "o"
[[exporters.to]]
name = "by-file"
kind = "influx"
url = "http://127.0.0.1:1"
bucket = "b"
org = "o"
token_file = "{1}"
"""
WATCH = """
import os, sys
_told = os.open({told!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_OTHERS = {{f"os.{{one}}" for one in ("mkdir", "rename", "remove", "link", "symlink", "chmod", "rmdir")}}

def _hook(event, values):
    if event == "open" and isinstance(values[0], (str, bytes)):
        if isinstance(values[2], int) and values[2] & _WRITING:
            os.write(_told, os.path.abspath(os.fsdecode(values[0])).encode() + b"\\n")
    elif event == "sqlite3.connect" or event in _OTHERS:
        os.write(_told, f"{{values[0]}}\\n".encode())

sys.addaudithook(_hook)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Write settings with two secrets, for stores that are not there."""
    token, path = tmp_path / "token", tmp_path / "s.toml"
    token.write_text(f"{SECRETS[1]}\n")
    token.chmod(0o600)
    path.write_text(SETTINGS.format(SECRETS[0], token))
    path.chmod(0o600)
    return path


def failing(agent: Agent) -> bool:
    """Tell whether both exporters have said that their stores are away."""
    return all(f"exporter {name}" in agent.said for name in ("by-url", "by-file"))


def test_secrets_are_in_no_log_page_or_list_of_processes(tmp_path: Path, settings: Path) -> None:
    """While stores fail, and errors are told of; a core would have them, so there is none."""
    with running(tmp_path, *MIXED, "--settings", settings, "--journal", tmp_path / "j.db") as agent:
        agent.shows_gpus()
        until(lambda: failing(agent), "both to fail")
        processes = [psutil.Process(agent.process.pid), *agent.probes()]
        told = [agent.said, *(agent.page(path).decode() for path in ("/", "/metrics"))]
        for process in processes:
            told.append(" ".join(process.cmdline()))
            told.append(Path(f"/proc/{process.pid}/environ").read_bytes().decode(errors="replace"))
            limits = Path(f"/proc/{process.pid}/limits").read_text(encoding="ascii")
            (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
            assert core.split()[4:6] == ["0", "0"]
        assert agent.end() == 0
    where = ("--settings", settings)
    for words in (
        ("settings", "show", settings, "--effective"),
        ("settings", "show", settings, "--json"),
        ("settings", "check", settings),
        ("exporters", *where, "--journal", tmp_path / "j.db"),
        ("doctor", "--simulate", "t4x1", *where, "--journal", tmp_path / "j.db"),
    ):
        done = gputally(tmp_path, *words)
        told += [done.out, done.errors]
    assert all(told[:2])
    assert [text for secret in SECRETS for text in told if secret in text] == []
    assert not any(secret.encode() in (tmp_path / "j.db").read_bytes() for secret in SECRETS)


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("https://me:s@crt@db.example:8086/write", "https://***@db.example:8086/write"),
        ("http://db:8086/w?db=gpu&p=s3cret&u=", "http://db:8086/w?db=***&p=***&u="),
        ("http://db:8086/a@b", "http://db:8086/a@b"),
        ("which? a=b", "which? a=b"),
    ],
)
def test_addresses_are_shown_without_what_they_hide(address: str, wanted: str) -> None:
    """Passwords before the host, and values behind a `?`."""
    assert shown(address) == wanted


def test_nothing_is_written_but_where_it_was_said(tmp_path: Path, settings: Path) -> None:
    """By agent and probe: the folder of the journal, and nothing else."""
    folder, told = tmp_path / "state", tmp_path / "written"
    folder.mkdir()
    own = ("--settings", settings, "--journal", folder / "j.db")
    with running(tmp_path, *MIXED, *own, patch=WATCH.format(told=str(told))) as agent:
        agent.shows_gpus()
        agent.page("/")
        until(lambda: failing(agent), "both to fail")
        assert agent.end() == 0
    written = {Path(line) for line in told.read_text().splitlines()}
    assert folder / "j.db.lock" in written  # else nothing was watched
    allowed = {Path("/dev/null"), told}
    elsewhere = {path for path in written - allowed if not _is_below(path, folder)}
    assert elsewhere == set(), json.dumps(sorted(map(str, elsewhere)))


def _is_below(path: Path, folder: Path) -> bool:
    """Also where SQLite is told it as an address; Python keeps its compiled modules beside their sources."""
    text = str(path).removeprefix("file:")
    return text.startswith(str(folder)) or "__pycache__" in text
