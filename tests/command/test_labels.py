"""Labels that a program tells: run once, added to those of the settings, never in the way of accounts."""

import os
import signal
from pathlib import Path

import pytest

from agent.errors import SettingsError
from gputally.labels import LONGEST_VALUE, MOST_LABELS, labelled
from gputally.settings import NodeSettings, Settings
from tests.command.processes import MIXED, Agent, running
from tests.command.waiting import until


def program(folder: Path, text: str) -> str:
    """Write a program of our own."""
    path = folder / "labels"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def told(folder: Path, text: str, **labels: str) -> dict[str, str]:
    """Give the labels of a node whose program does this."""
    node = NodeSettings(labels=labels, labels_command=(program(folder, text), "node"))
    return dict(labelled(Settings(node=node)).node.labels)


def test_a_program_adds_labels(tmp_path: Path) -> None:
    """Its lines are read as they stand; what the settings say wins."""
    text = (
        "echo rack=r7; echo; echo '# from the inventory'; echo ' row = 4 = A '; echo pool=spare; echo of=$1"
    )
    assert told(tmp_path, text, pool="train") == {"rack": "r7", "row": "4 = A", "pool": "train", "of": "node"}
    assert labelled(Settings()) == Settings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo rack r7", r"says 'rack r7': a line must be NAME=VALUE"),
        ("echo 'job=7'", "says what is no label: .* labels.job"),
        (f"echo a={'x' * (LONGEST_VALUE + 1)}", "a line must be NAME=VALUE"),
        (f"for i in $(seq {MOST_LABELS + 1}); do echo a$i=1; done", f"more than {MOST_LABELS} labels"),
        ("printf 'a=\\033[31m'", "says what is no label: .* printable"),
        ("echo broken inventory >&2; exit 3", r"failed \(broken inventory\): run it by hand"),
        ("head -c 1000000 /dev/zero", "printed more than 65536 bytes"),
    ],
    ids=["no equals", "a name of ours", "long", "many", "escape", "failure", "flood"],
)
def test_what_is_no_label_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """In a sentence that names the program and what it said."""
    with pytest.raises(SettingsError, match=words):
        told(tmp_path, text)


def test_a_program_that_is_not_there_is_named() -> None:
    """And the key that names it."""
    node = NodeSettings(labels_command=("/nonexistent/labels",))
    with pytest.raises(SettingsError, match=r"labels_command: /nonexistent/labels cannot be run"):
        labelled(Settings(node=node))


def test_it_gets_nothing_of_our_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of ours and of the service are kept from it."""
    monkeypatch.setenv("GPUTALLY_NODE_NAME", "n1")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/gputally")
    assert told(
        tmp_path, 'echo "a=${GPUTALLY_NODE_NAME:-none}"; echo "b=${CREDENTIALS_DIRECTORY:-none}"'
    ) == {
        "a": "none",
        "b": "none",
    }


def pools(agent: Agent) -> set[str | None]:
    """Give the pools that the page names."""
    return {dict(labels).get("pool") for _, labels in agent.samples("gpu_up")}


def test_a_running_agent_asks_again_when_it_reloads(tmp_path: Path) -> None:
    """One that fails at the start costs labels and no account; one that fails later leaves those before."""
    settings = tmp_path / "s.toml"
    settings.write_text(f'[node]\nlabels_command = ["{program(tmp_path, "exit 1")}"]\n')
    with running(tmp_path, *MIXED, "--settings", settings, "--journal", tmp_path / "j.db") as agent:
        agent.shows_gpus()
        assert "the agent goes on without its labels" in agent.said
        assert pools(agent) == {None}
        program(tmp_path, "echo pool=a")
        os.kill(agent.process.pid, signal.SIGHUP)
        until(lambda: pools(agent) == {"a"}, "the label")
        program(tmp_path, "echo nonsense")
        os.kill(agent.process.pid, signal.SIGHUP)
        until(lambda: "new settings are refused" in agent.said, "the refusal")
        assert pools(agent) == {"a"}
        assert agent.end() == 0
