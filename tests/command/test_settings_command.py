"""`gputally settings`: right or wrong in one sentence, what is in force and by what, without secrets."""

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gputally.settings import Settings, load
from gputally.settings_command import example, written
from tests.command import processes
from tests.command.processes import environment, gputally

TO = """
[node]
labels = { pool = "train" }
[[exporters.to]]
name = "far"
kind = "remote_write"
url = "https://ann:hunter2@store.example.org/write"
token_file = "/nowhere/token"
headers = { X-Key = "hunter3" }
proxy = "http://ben:hunter4@proxy.example.org:3128"
"""


def test_what_is_wrong_is_told_in_one_sentence(tmp_path: Path) -> None:
    """With file and key; 2 as everywhere for settings."""
    path = tmp_path / "s.toml"
    path.write_text("[web]\nprot = 1\n", encoding="utf-8")
    done = gputally(tmp_path, "settings", "check", path)
    assert (done.code, done.out) == (2, "")
    assert "s.toml: [web]: unknown key 'prot'; known are listen, port" in done.errors


def test_rules_are_read_too(tmp_path: Path) -> None:
    """As the agent does when it starts."""
    (tmp_path / "rules.toml").write_text("[no_such]\nseverity = 'dreadful'\n", encoding="utf-8")
    path = tmp_path / "s.toml"
    path.write_text(f"[rules]\nfile = '{tmp_path / 'rules.toml'}'\n", encoding="utf-8")
    done = gputally(tmp_path, "settings", "check", path)
    assert done.code == 2
    assert "rules.toml" in done.errors


def test_what_is_right_is_told_and_what_cannot_be_read_here(tmp_path: Path) -> None:
    """A token that only the service may read is a warning to whoever asks."""
    path = tmp_path / "s.toml"
    path.write_text(TO, encoding="utf-8")
    done = gputally(tmp_path, "settings", "check", path)
    assert done.code == 0, done.errors
    assert "warning: [[exporters.to]] far, token_file names /nowhere/token, which cannot be read" in done.out
    assert done.out.endswith(f"{path} is right\n")


@pytest.mark.parametrize("more", [(), ("--effective",), ("--json",), ("--effective", "--json")])
def test_no_secret_is_shown(tmp_path: Path, more: tuple[str, ...]) -> None:
    """Neither passwords in addresses nor headers, in any form."""
    path = tmp_path / "s.toml"
    path.write_text(TO, encoding="utf-8")
    done = gputally(tmp_path, "settings", "show", path, *more)
    assert done.code == 0, done.errors
    assert "hunter" not in done.out + done.errors
    assert done.out.count("***") >= 3
    assert "store.example.org" in done.out


def test_where_a_value_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, variable, or default."""
    path = tmp_path / "s.toml"
    path.write_text("[web]\nport = 1\n[agent]\ninterval_seconds = 5\n", encoding="utf-8")
    more = {"GPUTALLY_SETTINGS": str(path), "GPUTALLY_WEB_PORT": "9800"}
    monkeypatch.setattr(processes, "environment", lambda folder: {**environment(folder), **more})
    told = json.loads(gputally(tmp_path, "settings", "show", "--effective", "--json").out)
    assert told["web"]["port"] == {"value": 9800, "source": "GPUTALLY_WEB_PORT"}
    assert told["agent"]["interval_seconds"] == {"value": 5.0, "source": str(path)}
    assert told["web"]["listen"] == {"value": "127.0.0.1", "source": "default"}
    text = gputally(tmp_path, "settings", "show").out
    assert text == f"[agent]\ninterval_seconds = 5.0  # {path}\n\n[web]\nport = 9800  # GPUTALLY_WEB_PORT\n"


def test_what_is_shown_is_read_again(tmp_path: Path) -> None:
    """All keys with their values are settings that are the same; so is the example."""
    path = tmp_path / "all.toml"
    path.write_text(gputally(tmp_path, "settings", "show", "--effective").out, encoding="utf-8")
    assert load(path, {}) == Settings()
    path.write_text(gputally(tmp_path, "settings", "example").out, encoding="utf-8")
    assert load(path, {}) == Settings()
    assert example() == path.read_text(encoding="utf-8")


_PLAIN = st.one_of(
    st.text(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    _PLAIN, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(), one, max_size=3), max_leaves=8
)


@given(VALUES)
def test_whatever_is_written_is_toml(value: object) -> None:
    """And the same when it is read."""
    assert tomllib.loads(f"key = {written(value)}") == {"key": value}
