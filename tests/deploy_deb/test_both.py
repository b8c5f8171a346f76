"""Both packages as they are shipped: built twice the same, and used for what each is for."""

import gzip
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command.waiting import until
from tests.deploy_deb.agent import InstalledAgent, told
from tests.deploy_deb.conftest import SOURCE, build, copied_source
from tests.deploy_deb.root import Root, missing, run
from tests.deploy_deb.test_life import acts, differing
from tests.stores.server import program

NEEDED = ("libpango-1.0-0", "libpangoft2-1.0-0", "libharfbuzz-subset0", "fonts-dejavu-core", "zlib1g")
TIMER = Path("usr/lib/systemd/system/gputally-report.timer")
TIMER_WANTED = Path("etc/systemd/system/timers.target.wants/gputally-report.timer")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Give both packages as they are built now."""
    return build(SOURCE, tmp_path_factory.mktemp("deb"), "--compression", "none")


@pytest.fixture
def equipped(tmp_path: Path) -> Iterator[Root]:
    """Give a root that has what gputally-report depends on."""
    if missing():
        pytest.skip(missing())
    for package in NEEDED:
        if "install ok installed" not in run("dpkg", "-s", package, check=False):
            pytest.skip(f"the package {package} is missing")
    root = Root(tmp_path / "root")
    root.fill(NEEDED)
    root.add_systemd()
    yield root
    shutil.rmtree(root.folder)


def test_the_same_source_gives_the_same_bytes(both: list[Path], tmp_path: Path) -> None:
    """From another folder, in another zone, by another umask, in another language, on another day."""
    source = copied_source(tmp_path / "elsewhere")
    for path in source.rglob("*"):
        os.utime(path, (1.7e9, 1.7e9))
    before = os.umask(0o077)
    try:
        again = build(source, tmp_path / "again", "--compression", "none", TZ="Asia/Tokyo", LC_ALL="C.UTF-8")
    finally:
        os.umask(before)
    assert [path.name for path in again] == [path.name for path in both]
    for first, second in zip(both, again, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name


def test_compressed_it_is_the_same_as_well(tmp_path: Path) -> None:
    """As it is shipped: xz by several threads."""
    words = ("--only", "gputally")
    first, second = (build(SOURCE, tmp_path / name, *words)[0] for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_nothing_is_in_both(both: list[Path]) -> None:
    """And the large one is the report's, which hosts of GPUs need not have."""
    names = []
    for package in both:
        listed = subprocess.run(
            [program("dpkg-deb", "dpkg"), "-c", package],
            capture_output=True,
            timeout=300,
            check=True,
            text=True,
        ).stdout
        names.append({line.split()[5] for line in listed.splitlines() if line[0] != "d"})
    assert names[0] & names[1] == set()
    assert both[0].stat().st_size * 5 < both[1].stat().st_size


def test_the_report_is_refused_without_the_agent(equipped: Root, both: list[Path]) -> None:
    """It is of the same version, and says so."""
    said = equipped.dpkg("--install", both[1], check=False)
    assert re.search(r"gputally-report depends on gputally \(= \S+\)", said)
    assert equipped.state("gputally-report") == "iU"


def test_reports_are_made(equipped: Root, both: list[Path], tmp_path: Path) -> None:
    """Page, PDF and Parquet out of the journal, by its user, in the folder of the unit; then it goes."""
    root = equipped
    root.dpkg("--install", both[0])
    alone = root.left()
    with InstalledAgent(root, tmp_path / "log") as agent:
        agent.shows_gpus()
        until(lambda: sum(agent.samples("gpu_tally_seconds_total").values()) > 2, "accounts that grow")
        assert agent.end() == 0
    refused = root.do("gputally", "report", "--last", "1h", "--out", "/root/page.html", check=False)
    assert "not installed" in refused
    root.calls()

    root.dpkg("--install", both[1])
    assert acts(root) == ["daemon-reload"]
    assert not (root.folder / TIMER_WANTED).is_symlink()
    unit = told(root.folder, TIMER.with_suffix(".service"))
    assert unit["ExecStart"] == "/usr/bin/gputally report --scheduled"
    folder = "/var/lib/gputally"
    for form, mark in (("html", b"<!DOCTYPE html>"), ("pdf", b"%PDF-"), ("parquet", b"PAR1")):
        out = f"{folder}/page.{form}"
        said = root.do("gputally", "report", "--last", "1h", "--out", out, user="gputally", check=False)
        assert (root.folder / out[1:]).is_file(), said
        content = (root.folder / out[1:]).read_bytes()
        assert content[:64].lower().startswith(mark.lower()), form
    root.do("gputally", "dashboards", "build", "--out", "/root/boards")
    assert list((root.folder / "root/boards").rglob("*.json"))
    shutil.rmtree(root.folder / "root/boards")

    root.dpkg("--purge", "gputally-report")
    assert acts(root) == ["stop gputally-report.timer gputally-report.service", "daemon-reload"]
    stayed = differing(alone, root.left())
    assert {path for path in stayed if not path.startswith("var/lib/gputally")} == set()


def test_the_admins_timer_stays_on(equipped: Root, both: list[Path]) -> None:
    """Enabled once by the admin, it is so after an upgrade, and goes with the package."""
    root = equipped
    root.dpkg("--install", *both)
    before = root.left()
    (root.folder / TIMER_WANTED).parent.mkdir(parents=True, exist_ok=True)
    (root.folder / TIMER_WANTED).symlink_to(f"/{TIMER}")  # as `systemctl enable` does
    assert (root.folder / TIMER_WANTED).is_symlink()
    root.dpkg("--install", both[1])
    assert (root.folder / TIMER_WANTED).is_symlink()
    root.dpkg("--purge", "gputally-report")
    assert not os.path.lexists(root.folder / TIMER_WANTED)
    assert not [path for path in differing(before, root.left()) if "wants" in path]


def test_the_changelog_is_debians(both: list[Path], tmp_path: Path) -> None:
    """One entry, which Debian's tools could read."""
    for package in both:
        folder = tmp_path / package.stem
        subprocess.run([program("dpkg-deb", "dpkg"), "-x", package, folder], timeout=600, check=True)
        path = next((folder / "usr/share/doc").glob("*/changelog.Debian.gz"))
        text = gzip.decompress(path.read_bytes()).decode()
        signed = r" -- .+ <\S+@\S+>  \w{3}, \d\d .+ \+0000\n"
        head = r"gputally \(\S+-1\) stable; urgency=medium\n\n"
        assert re.fullmatch(rf"{head}(  \* .+\n)+\n{signed}", text)
        shutil.rmtree(folder)
