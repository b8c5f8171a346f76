"""Version, completion and manual: what a shell and an inventory ask of the command."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.schema import MIGRATIONS
from gputally.cli import COMMANDS
from gputally.completion import SHELLS
from gputally.version import own_version
from tests.command.processes import gputally

BASH, GROFF = shutil.which("bash") or "", shutil.which("groff") or ""


def completed(folder: Path, words: list[str]) -> list[str]:
    """Ask bash what it would offer for the last of some words."""
    script = folder / "gputally.bash"
    script.write_text(gputally(folder, "completion", "bash").out, encoding="utf-8")
    asking = f"""
    source {script}
    COMP_WORDS=({" ".join(f"'{word}'" for word in words)})
    COMP_CWORD={len(words) - 1}
    COMP_LINE="${{COMP_WORDS[*]}}"
    COMP_POINT=${{#COMP_LINE}}
    way=$(complete -p gputally | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    $way gputally "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}" 2>/dev/null
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        [BASH, "--norc", "-c", asking], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split()


def test_version_says_what_it_is_made_of(tmp_path: Path) -> None:
    """In a line for people, in JSON for programs."""
    assert gputally(tmp_path, "version").out == f"gputally {own_version()}\n"
    told = json.loads(gputally(tmp_path, "version", "--json").out)
    assert told["version"] == own_version()
    assert told["journal_schema"] == len(MIGRATIONS)
    assert told["packages"]["nvidia-ml-py"]
    assert "hypothesis" not in told["packages"]


@pytest.mark.skipif(not BASH, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["gputally", "sett"], ["settings"]),
        (["gputally", "settings", "sh"], ["show"]),
        (["gputally", "settings", "show", "--eff"], ["--effective"]),
        (["gputally", "report", "--mail-d"], ["--mail-dry-run"]),
        (["gputally", "completion", "z"], ["zsh"]),
    ],
    ids=["command", "action", "option of an action", "option", "choice"],
)
def test_bash_completes(tmp_path: Path, words: list[str], offered: list[str]) -> None:
    """Commands, their actions, their options and what those may be."""
    assert completed(tmp_path, words) == offered


@pytest.mark.skipif(not BASH, reason="needs bash")
def test_bash_completes_files(tmp_path: Path) -> None:
    """After an option that names a file, files are offered."""
    (tmp_path / "zulu.toml").touch()
    assert completed(tmp_path, ["gputally", "run", "--settings", "zul"]) == ["zulu.toml"]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_is_in_the_script(tmp_path: Path, shell: str) -> None:
    """For each shell."""
    script = gputally(tmp_path, "completion", shell).out
    assert [name for name in COMMANDS if name not in script] == []
    assert "--effective" in script or "-l effective" in script


def test_the_manual_has_all_commands_and_options(tmp_path: Path) -> None:
    """As the help says it, and dated so that two builds are the same."""
    page = gputally(tmp_path, "man").out.replace("\\-", "-")
    assert page.startswith(".TH GPUTALLY")
    assert [name for name in COMMANDS if f"gputally {name}" not in page.replace("\\fR \\fI\\,", " ")] == []
    assert "--effective" in page


@pytest.mark.skipif(not GROFF, reason="needs groff")
def test_the_manual_is_sound_roff(tmp_path: Path) -> None:
    """The formatter has nothing to say of it."""
    page = gputally(tmp_path, "man").out
    done = subprocess.run(
        [GROFF, "-man", "-Tutf8", "-ww"], input=page, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    assert "exact account" in done.stdout
