"""Packages, built once, and roots to install them in."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy_deb.root import Root, missing

SOURCE = Path(__file__).parents[2]
PARTS = ("gputally", "agent", "exporters", "rules", "reports", "dashboards", "systemd", "docs", "packaging")
FILES = ("pyproject.toml", "requirements.lock", "README.md", "CHANGELOG.md", "LICENSE")
NEWER = "99.0"
EPOCH = "1790000000"


def build(source: Path, out: Path, *words: str, **environment: str) -> list[Path]:
    """Build packages out of a source; skip where wheels cannot be had. Gives their paths."""
    for program, package in (("dpkg-deb", "dpkg"), ("/usr/bin/python3", "python3")):
        if not shutil.which(program):
            pytest.skip(f"{program} is missing, of the package {package}")
    done = subprocess.run(
        [sys.executable, source / "packaging/deb/build.py", "--out", out, *words],
        env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH, **environment},
        capture_output=True,
        timeout=1200,
        check=False,
        text=True,
    )
    if done.returncode and not has_index(out):
        pytest.skip("wheels cannot be had: no package index is reached")
    assert done.returncode == 0, done.stderr
    return [Path(line) for line in done.stdout.splitlines()]


def has_index(folder: Path) -> bool:
    """Tell whether pip gets what every build needs."""
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
    words = [sys.executable, "-m", "pip", "download", *quiet, "--no-deps", "--dest", str(folder), "hatchling"]
    return subprocess.run(words, capture_output=True, timeout=600, check=False).returncode == 0


def copied_source(folder: Path) -> Path:
    """Copy what packages are built of."""
    for name in PARTS:
        shutil.copytree(SOURCE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(SOURCE / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the package of the agent as it is built now, but not compressed."""
    return build(SOURCE, tmp_path_factory.mktemp("deb"), "--only", "gputally", "--compression", "none")[0]


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give one of a later version, whose settings have another line."""
    source = copied_source(tmp_path_factory.mktemp("newer"))
    project = source / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("version = "))
    project.write_text(text.replace(line, f'version = "{NEWER}"', 1), encoding="utf-8")
    with (source / "systemd/gputally.toml").open("a", encoding="utf-8") as settings:
        settings.write("\n## A line of the later version.\n")
    return build(source, tmp_path_factory.mktemp("deb"), "--only", "gputally", "--compression", "none")[0]


@pytest.fixture(scope="session")
def tree(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with what is in the package, and DEBIAN with what is about it."""
    folder = tmp_path_factory.mktemp("tree") / "tree"
    subprocess.run(["/usr/bin/dpkg-deb", "-R", package, folder], check=True, timeout=300, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    """Give a root with nothing of ours, and without systemd. It is large, so it does not stay."""
    if missing():
        pytest.skip(missing())
    root = Root(tmp_path_factory.mktemp("bare") / "root")
    root.fill()
    yield root
    shutil.rmtree(root.folder)


@pytest.fixture
def unmanaged(bare: Root, tmp_path: Path) -> Iterator[Root]:
    """Give a root of the test's own, without systemd."""
    mine = Root.like(bare, tmp_path / "root")
    yield mine
    shutil.rmtree(mine.folder)


@pytest.fixture
def root(unmanaged: Root) -> Root:
    """Give a root of the test's own where systemd seems to run."""
    for program in ("systemctl", "systemd-sysusers", "systemd-tmpfiles"):
        if not shutil.which(program):
            pytest.skip(f"{program} is missing, of the package systemd")
    unmanaged.add_systemd()
    return unmanaged
