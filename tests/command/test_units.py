"""The units: systemd understands every line, and they give away no more than they must."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stores.server import program

UNITS = Path(__file__).parents[2] / "systemd"
SERVICES = ("gputally.service", "gputally-report.service")
COMMAND = "/opt/gputally/bin/gputally"
MOST_EXPOSED = 2.0


def asked(*words: str | Path, folder: Path | None = None) -> tuple[int, str]:
    """Ask systemd-analyze; give exit code and all that it says."""
    told = {} if folder is None else {"SYSTEMD_UNIT_PATH": f"{folder}:"}
    done = subprocess.run(
        [program("systemd-analyze", "systemd"), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_COLORS": "0", "COLUMNS": "400", **told},
        timeout=60,
        check=False,
        text=True,
    )
    return done.returncode, done.stdout


def section(name: str, which: str = "Service") -> dict[str, str]:
    """Give the last value of each key of a unit."""
    parser = configparser.RawConfigParser(strict=False, comment_prefixes="#")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / name, encoding="utf-8")
    return dict(parser[which])


def verified(folder: Path, *names: str) -> str:
    """Let systemd read units whose command is there; its exit code says too little, so give its words."""
    for name in names:
        text = (UNITS / name).read_text(encoding="utf-8").replace(COMMAND, sys.executable)
        (folder / name).write_text(text, encoding="utf-8")
    return asked("verify", *(folder / name for name in names), folder=folder)[1]


def test_systemd_reads_every_line(tmp_path: Path) -> None:
    """Without a word."""
    assert verified(tmp_path, *SERVICES, "gputally-report.timer") == ""


def test_a_wrong_line_would_be_seen(tmp_path: Path) -> None:
    """Else the test above could not fail."""
    path = tmp_path / "gputally.service"
    text = (UNITS / "gputally.service").read_text(encoding="utf-8").replace(COMMAND, sys.executable)
    path.write_text(text.replace("PrivateTmp=yes", "PrivateTemp=yes"), encoding="utf-8")
    assert "PrivateTemp" in asked("verify", path, folder=tmp_path)[1]


@pytest.mark.parametrize("name", SERVICES)
def test_little_is_exposed(name: str) -> None:
    """By systemd's own measure."""
    _, told = asked("security", "--offline=true", UNITS / name)
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d)", told)
    assert found, told
    assert float(found[1]) <= MOST_EXPOSED


def test_the_agent_has_no_rights_and_kills_no_probe() -> None:
    """No capability, its own user; a probe that hangs is left alone; wrong settings are not tried again."""
    told = section("gputally.service")
    assert (told["CapabilityBoundingSet"], told["AmbientCapabilities"], told["User"]) == ("", "", "gputally")
    assert (told["Type"], told["KillMode"], told["RestartPreventExitStatus"]) == ("notify", "process", "2")
    assert told["ExecStart"] == f"{COMMAND} run"
    assert (told["LimitCORE"], told["NoNewPrivileges"]) == ("0", "yes")
    assert section("gputally-report.service")["ExecStart"] == f"{COMMAND} report --scheduled"


def test_gpus_are_allowed_before_there_is_a_driver() -> None:
    """By number: 32 of them, and the device that is asked about them."""
    text = (UNITS / "gputally.service").read_text(encoding="utf-8")
    numbers = {
        int(number) for number in re.findall(r"^DeviceAllow=/dev/char/195:(\d+) rw$", text, re.MULTILINE)
    }
    assert numbers == {*range(32), 255}
    assert "DevicePolicy=closed" in text


def test_the_report_comes_on_monday_morning() -> None:
    """And is made up for where the host was off."""
    told = section("gputally-report.timer", "Timer")
    assert (told["OnCalendar"], told["Persistent"]) == ("Mon *-*-* 06:00:00", "true")
    code, said = asked("calendar", told["OnCalendar"])
    assert (code, "Normalized form: Mon *-*-* 06:00:00" in said) == (0, True)


def test_the_user_is_one_that_systemd_makes(tmp_path: Path) -> None:
    """Without a shell; asked for in an empty root."""
    (tmp_path / "etc").mkdir()
    done = subprocess.run(
        [program("systemd-sysusers", "systemd"), "--dry-run", f"--root={tmp_path}", "-"],
        input=(UNITS / "gputally.sysusers").read_text(encoding="utf-8"),
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"creat\w+ user 'gputally'", done.stderr, re.IGNORECASE), done.stderr
