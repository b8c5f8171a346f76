"""What is shipped is pinned: each file of each distribution by its hash, and nothing is missing."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
ENTRY = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?P<rest>[^\n]*(?:\n[ \t]+[^\n]*)*)", re.MULTILINE
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = ("report", "dashboards", "parquet")
WANTED = {
    "requirements-agent.lock": PROJECT["dependencies"],
    "requirements.lock": [
        *PROJECT["dependencies"],
        *(text for extra in EXTRAS for text in PROJECT["optional-dependencies"][extra]),
    ],
}


def entries(name: str) -> dict[str, re.Match[str]]:
    """Give what a lock pins, by name."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return {canonicalize_name(found["name"]): found for found in ENTRY.finditer(text)}


@pytest.mark.parametrize("lock", WANTED)
def test_all_is_pinned_by_hashes(lock: str) -> None:
    """Every line of the lock; it names no place to fetch from."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    pinned = entries(lock)
    assert pinned
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(lines) == len(pinned)
    for found in pinned.values():
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", found["rest"]), found["name"]
    assert "://" not in text
    assert "--index" not in text


@pytest.mark.parametrize("lock", WANTED)
def test_what_we_ask_for_is_in_it(lock: str) -> None:
    """Each dependency, in a version that pyproject.toml takes: else run `make lock`."""
    pinned = entries(lock)
    for text in WANTED[lock]:
        needed = Requirement(text)
        found = pinned.get(canonicalize_name(needed.name))
        assert found, f"{lock} has no {needed.name}: make lock"
        assert needed.specifier.contains(Version(found["version"]), prereleases=True), found[0]


def test_nodes_get_the_same_versions_and_nothing_heavy() -> None:
    """The agent's lock is a part of the whole one, without what only reports and dashboards need."""
    agent, whole = entries("requirements-agent.lock"), entries("requirements.lock")
    assert {name: found["version"] for name, found in agent.items()}.items() <= {
        name: found["version"] for name, found in whole.items()
    }.items()
    assert not {"altair", "pyarrow", "weasyprint", "grafana-client", "pandas", "numpy"} & agent.keys()
    for name, found in agent.items():
        assert found["rest"].count("--hash") == whole[name]["rest"].count("--hash")
