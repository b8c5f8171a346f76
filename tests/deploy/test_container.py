"""The file of the image: no rights, only what is pinned, and only what is ours in it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "packaging" / "container"
TEXT = (FOLDER / "Dockerfile").read_text(encoding="utf-8")


def test_the_image_has_no_rights() -> None:
    """It is run by a user of its own, by number, whom Kubernetes can see is not root."""
    assert re.findall(r"^USER (.*)$", TEXT, re.MULTILINE) == ["9740:9740"]
    assert "--uid 9740 --gid 9740" in TEXT


def test_what_is_installed_is_pinned() -> None:
    """Distributions come by the lock and its hashes; ours without any."""
    installs = re.findall(r"pip install (.*)$", TEXT.replace("\\\n", " "), re.MULTILINE)
    assert [("--require-hashes" in line, "--no-deps" in line) for line in installs] == [
        (True, False),
        (False, True),
    ]
    locks = set(re.findall(r"[a-z-]+\.lock", TEXT))
    assert all((ROOT / name).is_file() for name in locks)
    assert "requirements-agent.lock" in locks


def test_only_ours_is_sent_to_the_builder() -> None:
    """What is not named stays out: journals, tokens, environments; what is named is there."""
    lines = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "*"
    named = [line[1:] for line in lines if line.startswith("!")]
    assert all((ROOT / name).exists() for name in named)
    wheel = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    packages = re.findall(r"^packages = \[(.*)\]$", wheel, re.MULTILINE)[0]
    assert set(re.findall(r'"(\w+)"', packages)) <= set(named)
