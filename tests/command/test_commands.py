"""The command as a whole: what each subcommand teaches, and how each wrong use ends."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from agent.simulated.models import MODELS
from agent.simulated.playbook import SCENARIOS
from exporters.catalogue import FAMILIES
from gputally.cli import COMMANDS, main
from gputally.metrics import markdown
from gputally.version import own_version
from tests.command.processes import COMMAND, environment, gputally, is_one_sentence

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]
OPTIONS = {
    "run": ("--simulate", "--settings", "--journal", "--interval", "--listen", "--port", "--for"),
    "demo": ("--simulate", "--days", "--journal", "--interval", "--port", "--for"),
    "replay": ("FILE", "--journal", "--settings", "--node", "--timezone", "--step", "nvidia-smi", "time,gpu"),
    "status": ("--journal", "--settings", "--json"),
    "release": ("--for", "--end", "--journal", "--settings", "--json"),
    "metrics": ("--json", "--markdown"),
}


def ends(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    """Run a command that the parser of arguments ends; give exit code, output and errors."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, errors = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, errors


def refused(capsys: Capture, code: int, *arguments: str) -> str:
    """Run a command that cannot do its work; give its one sentence."""
    assert main(arguments) == code
    out, errors = capsys.readouterr()
    assert (out, is_one_sentence(errors)) == ("", True)
    return errors


def test_help_lists_every_command_and_how_to_begin(capsys: Capture) -> None:
    """`gputally --help` names every command with what it does, and shows the first steps."""
    code, out, errors = ends(capsys, "--help")

    assert (code, errors) == (0, "")
    for name, text in COMMANDS.items():
        assert re.search(rf"^ +{name} +{re.escape(text[:30])}", out, re.MULTILINE)
    assert "gputally demo" in out
    assert "gputally run" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_says_what_it_does(capsys: Capture, name: str) -> None:
    """Each command's help says what it does, and every option has an explanation."""
    code, out, errors = ends(capsys, name, "--help")

    assert (code, errors) == (0, "")
    words = " ".join(out.split())
    assert COMMANDS[name][1:] in words
    for option in OPTIONS.get(name, ()):
        assert option in out
    lines = out.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"  --?\w", line):
            below = lines[number + 1] if number + 1 < len(lines) else ""
            assert re.search(r"\S {2,}\S", line.strip()) or below.startswith(" " * 10), line


def test_the_version_is_that_of_the_package(capsys: Capture) -> None:
    """`gputally --version` says the installed version."""
    assert ends(capsys, "--version") == (0, f"gputally {own_version()}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("--fly",),
        ("run", "--fly"),
        ("run", "--port", "many"),
        ("run", "--interval"),
        ("run", "extra"),
        ("replay",),
        ("replay", "x.csv"),
        ("metrics", "--json", "--markdown"),
        ("metrics", "--js"),
        ("status", "--interval", "1"),
    ],
)
def test_wrong_use_ends_with_2(capsys: Capture, arguments: tuple[str, ...]) -> None:
    """Wrong arguments end with exit code 2, the usage and what was wrong, and print nothing else."""
    code, out, errors = ends(capsys, *arguments)

    assert (code, out) == (2, "")
    assert errors.startswith("usage: gputally")
    assert "error: " in errors


@pytest.mark.parametrize("command", ["run", "demo"])
@pytest.mark.parametrize("text", ["h900x8", "h200", "h200x0", "h200x65", "h200x8:party", "x8", "h200x8:"])
def test_an_unknown_simulation_lists_the_choices(capsys: Capture, command: str, text: str) -> None:
    """A simulation that there is none of is refused with all models and scenarios."""
    said = refused(capsys, 2, command, "--simulate", text)

    assert repr(text) in said
    assert all(name in said for name in (*MODELS, *SCENARIOS))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("run", "--interval", "0"), "interval_seconds"),
        (("run", "--interval", "nan"), "interval_seconds"),
        (("run", "--port", "70000"), "65535"),
        (("run", "--listen", "127..0.1"), "127..0.1"),
        (("run", "--listen", "192.0.2.1", "--port", "0"), "192.0.2.1"),
        (("run", "--settings", "nowhere.toml"), "nowhere.toml"),
        (("demo", "--days", "0"), "--days"),
        (("demo", "--days", "nan"), "--days"),
        (("demo", "--days", "1e9"), "--days"),
        (("status", "--settings", "nowhere.toml"), "nowhere.toml"),
        (("replay", "x.csv", "--journal", "j.db", "--timezone", "Mars/Base"), "Mars/Base"),
        (("replay", "x.csv", "--journal", "j.db", "--timezone", ""), "--timezone"),
        (("replay", "x.csv", "--journal", "j.db", "--step", "0"), "--step"),
        (("replay", "x.csv", "--journal", "j.db", "--step", "-1"), "--step"),
    ],
)
def test_a_wrong_value_is_one_sentence(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...], part: str
) -> None:
    """A value that cannot be meant ends with exit code 2 and one sentence that names it."""
    monkeypatch.chdir(tmp_path)

    assert part in refused(capsys, 2, *arguments)


@pytest.mark.parametrize("command", ["run", "status"])
def test_a_journal_path_that_is_no_path_is_one_sentence(
    capsys: Capture, tmp_path: Path, command: str
) -> None:
    """A settings file whose journal path no file can have is refused, not a traceback."""
    path = tmp_path / "nul.toml"
    path.write_text('[journal]\npath = "a\\u0000b"\n[web]\nport = 0\n', encoding="utf-8")

    assert main([command, "--settings", str(path)]) in (1, 2)
    assert is_one_sentence(capsys.readouterr().err)


def test_metrics_lists_the_catalogue(capsys: Capture) -> None:
    """`gputally metrics` tells name, kind, help and labels of every metric."""
    assert main(["metrics"]) == 0
    out = capsys.readouterr().out

    told = re.findall(r"^(\w+)  \((gauge|counter)\)$", out, re.MULTILINE)
    assert told == [(name, family.kind) for name, family in FAMILIES.items()]
    words = " ".join(out.split())
    for family in FAMILIES.values():
        assert " ".join(family.help.split()) in words
        assert not family.labels or f"by {', '.join(family.labels)}\n" in out


def test_metrics_as_json_is_the_catalogue(capsys: Capture) -> None:
    """`gputally metrics --json` is an object by metric name."""
    assert main(["metrics", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)

    assert list(body) == list(FAMILIES)
    assert body["gpu_tally_seconds_total"] == {
        "kind": "counter",
        "help": "Time by state and owner; the states sum to all time",
        "labels": ["node", "gpu", "uuid", "model", "state", "owner"],
    }


def test_metrics_as_markdown_is_a_table(capsys: Capture) -> None:
    """`gputally metrics --markdown` has a row of four cells per metric."""
    assert main(["metrics", "--markdown"]) == 0
    out = capsys.readouterr().out

    assert out == markdown()
    table = [line for line in out.splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in table] == list(FAMILIES)
    assert {line.count("|") for line in table} == {5}


def test_the_page_on_metrics_is_fresh() -> None:
    """docs/metrics.md is what the command prints: `make docs` writes it anew."""
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == markdown()


def test_a_broken_pipe_is_silent(tmp_path: Path) -> None:
    """A command whose reader has gone, as with `| head -1`, ends with 0 and says nothing."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [COMMAND, "metrics"],
            env=environment(tmp_path),
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)

    assert (done.returncode, done.stderr) == (0, b"")


def test_the_first_line_alone_can_be_read(tmp_path: Path) -> None:
    """A reader that takes one line and goes gets it, and nothing is said."""
    with subprocess.Popen(
        [COMMAND, "metrics"], env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()

    assert (first, errors, process.returncode) == (b"gpu_busy_ratio  (gauge)\n", b"", 0)


def test_a_full_disk_behind_the_output_is_one_sentence(tmp_path: Path) -> None:
    """A command that cannot write its output says so and ends with 1."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this host has no /dev/full")
    with full.open("wb") as out:
        done = subprocess.run(
            [COMMAND, "metrics"],
            env=environment(tmp_path),
            stdout=out,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )

    assert done.returncode == 1
    assert is_one_sentence(done.stderr.decode())


def test_a_closed_output_is_no_traceback(tmp_path: Path) -> None:
    """A command that was started without standard output ends quietly."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "{COMMAND}" metrics >&-'],
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )

    assert b"Traceback" not in done.stderr


def test_the_command_is_installed(tmp_path: Path) -> None:
    """The command that users type runs as a process, and so does `python -m gputally`."""
    assert gputally(tmp_path, "--version") == (0, f"gputally {own_version()}\n", "")
    done = gputally(tmp_path, "run", "--simulate", "nothing")
    assert done.code == 2
    assert is_one_sentence(done.errors)
