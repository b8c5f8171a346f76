"""What is in the agent's package, and what it says of itself."""

import hashlib
import importlib.util
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.deploy_deb.conftest import EPOCH, SOURCE
from tests.stores.server import program

FOLDER = SOURCE / "packaging/deb"
SCRIPTS = sorted(path.name for path in FOLDER.glob("gputally*.p*"))
PLACES = re.compile(
    r"etc/gputally/gputally\.toml"
    r"|usr/bin/gputally"
    r"|usr/lib/gputally/(bin/python3|pyvenv\.cfg|lib/python3\.\d+/site-packages/.+)"
    r"|usr/lib/(systemd/system/gputally\.service|(sysusers|tmpfiles)\.d/gputally\.conf)"
    r"|usr/share/doc/gputally/.+"
    r"|usr/share/man/man1/gputally\.1\.gz"
    r"|usr/share/bash-completion/completions/gputally"
    r"|usr/share/zsh/vendor-completions/_gputally"
    r"|usr/share/fish/vendor_completions\.d/gputally\.fish"
)
UNCHECKED = 1
"""In the head of bytecode: its source is known by a hash that is never compared."""
VERSIONS = (
    "0.1.0.dev1",
    "0.1.0a1.dev2",
    "0.1.0a1",
    "0.1.0a1.post1",
    "0.1.0a2",
    "0.1.0b1",
    "0.1.0rc1",
    "0.1.0rc10",
    "0.1.0",
    "0.1.0.post1.dev1",
    "0.1.0.post1",
    "0.1.0.1",
    "0.2.0.dev1",
    "0.10",
    "1!0.1",
)
LOCK = """\
# made by hand
alpha==1 \\
    --hash=sha256:00
    # via project (pyproject.toml)
beta-two==2 ; python_version < '9' \\
    --hash=sha256:01
    # via
    #   alpha
    #   gamma
gamma==3 \\
    --hash=sha256:02
    # via project (pyproject.toml)
delta==4 \\
    --hash=sha256:03
    # via beta-two
"""


@pytest.fixture(scope="module")
def builder() -> Iterator[ModuleType]:
    """Give the build script as a module; it expects its own folder to be searched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        spec = importlib.util.spec_from_file_location("deb_build", FOLDER / "build.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "deb_build", module)
        spec.loader.exec_module(module)
        yield module


def files(tree: Path) -> list[Path]:
    """List what is not a folder, from the root."""
    found = [path for path in tree.rglob("*") if path.is_symlink() or not path.is_dir()]
    return sorted(path for path in (each.relative_to(tree) for each in found) if path.parts[0] != "DEBIAN")


def site(tree: Path) -> Path:
    """Give the folder of the environment's packages."""
    return next((tree / "usr/lib/gputally/lib").glob("python3.*/site-packages"))


def field(tree: Path, name: str) -> str:
    """Give a field of the package's control file."""
    found = re.search(rf"^{name}: (.*)$", (tree / "DEBIAN/control").read_text(encoding="utf-8"), re.MULTILINE)
    assert found, name
    return found[1]


def test_versions_sort_as_they_do_for_python(builder: ModuleType) -> None:
    """Those before a release, too; 0.1.0 is 0.1.0-1."""
    assert list(VERSIONS) == sorted(VERSIONS, key=Version)
    told = [builder.debian_version(text, "1") for text in VERSIONS]
    dpkg = program("dpkg", "dpkg")
    for earlier, later in pairwise(told):
        done = subprocess.run([dpkg, "--compare-versions", earlier, "lt", later], timeout=60, check=False)
        assert done.returncode == 0, f"{earlier} is not before {later}"
    assert (told[VERSIONS.index("0.1.0")], told[VERSIONS.index("0.1.0rc1")]) == ("0.1.0-1", "0.1.0~rc1-1")


def test_a_version_that_debian_cannot_have_is_refused(builder: ModuleType) -> None:
    """With what to write."""
    with pytest.raises(builder.BuildError, match=r"write it like 1\.2\.3"):
        builder.debian_version("one", "1")


def test_the_lock_is_divided(builder: ModuleType) -> None:
    """By what needs what, whole entries; nothing is in both and nothing in neither."""
    mine, others = builder.shares(LOCK, ["Alpha"])
    assert re.findall(r"^[a-z].*?==", mine, re.MULTILINE) == ["alpha==", "beta-two==", "delta=="]
    assert re.findall(r"^[a-z].*?==", others, re.MULTILINE) == ["gamma=="]
    assert sorted(re.findall(r"--hash=\S+", mine + others)) == re.findall(r"--hash=\S+", LOCK)


@pytest.mark.parametrize(
    ("lock", "wanted"), [(LOCK, "omega"), ("alpha==1 \\\n    --hash=sha256:00\n", "alpha")]
)
def test_a_lock_that_cannot_be_divided_is_refused(builder: ModuleType, lock: str, wanted: str) -> None:
    """Where something is missing, or nothing says what it is for."""
    with pytest.raises(builder.BuildError, match="make lock"):
        builder.shares(lock, [wanted])


def test_another_python_is_refused(builder: ModuleType) -> None:
    """Wheels for an interpreter of one's own would not fit the distribution's."""
    with pytest.raises(builder.BuildError, match="not the distribution's"):
        builder.Interpreter.at(Path(sys.executable))


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_plain(name: str) -> None:
    """Read by dash, ended by what fails, and known to dpkg."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert text.startswith("#!/bin/sh\n")
    assert "\nset -e\n" in text
    assert not re.search(r"\[\[|\bfunction\b|\blocal\b|==|&>|<<<|\bsource\b", text)
    done = subprocess.run(
        [program("dash", "dash"), "-n", FOLDER / name], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("name", ["gputally.service", "gputally-report.service", "gputally-report.timer"])
def test_units_differ_in_where_the_command_is(builder: ModuleType, name: str) -> None:
    """And in nothing else."""
    mine, theirs = builder.unit(name), (SOURCE / "systemd" / name).read_text(encoding="utf-8")
    starts = re.findall(r"^Exec\w+=(/\S+)", mine, re.MULTILINE)
    assert "/opt/" not in mine
    assert set(starts) <= {"/usr/bin/gputally", "/bin/kill"}
    assert mine.replace("/usr/bin/gputally", "/opt/gputally/bin/gputally") == theirs


def test_the_package_has_that_unit(builder: ModuleType, tree: Path) -> None:
    """The one above, not another."""
    unit = tree / "usr/lib/systemd/system/gputally.service"
    assert unit.read_text(encoding="utf-8") == builder.unit("gputally.service")


def test_settings_say_where_the_journal_is(builder: ModuleType, tree: Path) -> None:
    """So that every command on the host finds the service's; nothing else differs from the example."""
    text = (tree / "etc/gputally/gputally.toml").read_text(encoding="utf-8")
    assert text.replace('path = "/var/lib/gputally/journal.db"', '#path = ""') == (
        SOURCE / "systemd/gputally.toml"
    ).read_text(encoding="utf-8")
    assert (tree / "DEBIAN/conffiles").read_text(encoding="utf-8") == "/etc/gputally/gputally.toml\n"
    assert builder.settings() == text


def test_nothing_lies_where_others_have_theirs(tree: Path) -> None:
    """Our packages have plain names: they are in the environment of their own, and only there."""
    strange = [str(path) for path in files(tree) if not PLACES.fullmatch(str(path))]
    assert strange == []
    assert {"agent", "reports", "gputally"} <= {path.name for path in site(tree).iterdir()}
    assert "pyarrow" not in {path.name for path in site(tree).iterdir()}


def test_modes_and_owners(package: Path, tree: Path) -> None:
    """All is root's; nobody else may write; two files are programs; all times are the build's."""
    listed = subprocess.run(
        [program("dpkg-deb", "dpkg"), "-c", package], capture_output=True, timeout=60, check=True, text=True
    ).stdout.splitlines()
    assert {line.split()[1] for line in listed} == {"root/root"}
    assert {line.split()[0] for line in listed if line[0] == "-"} <= {"-rw-r--r--", "-rwxr-xr-x"}
    assert {line.split()[0] for line in listed if line[0] == "d"} == {"drwxr-xr-x"}
    assert (tree / "usr/bin/gputally").stat().st_mode & 0o111 == 0o111
    assert {path.stat().st_mtime for path in tree.rglob("*") if path.is_file() and not path.is_symlink()} == {
        float(EPOCH)
    }


def test_dpkg_can_check_it(tree: Path) -> None:
    """The sum of each file that the admin is not to change."""
    lines = (tree / "DEBIAN/md5sums").read_text(encoding="utf-8").splitlines()
    told = {line[34:]: line[:32] for line in lines}
    wanted = {
        str(path): hashlib.md5((tree / path).read_bytes(), usedforsecurity=False).hexdigest()
        for path in files(tree)
        if not (tree / path).is_symlink() and path.parts[0] != "etc"
    }
    assert told == wanted


def test_it_needs_the_python_that_it_was_built_for(tree: Path) -> None:
    """That minor version, and no other; the environment's interpreter is that one."""
    aim = (tree / "usr/lib/gputally/bin/python3").readlink()
    found = re.fullmatch(r"/usr/bin/python3\.(\d+)", str(aim))
    assert found
    minor = int(found[1])
    assert f"python3 (>= 3.{minor}~), python3 (<< 3.{minor + 1}~)" in field(tree, "Depends")
    assert re.search(r"libc6 \(>= 2\.\d+\)", field(tree, "Depends"))
    assert site(tree).parent.name == f"python3.{minor}"
    assert field(tree, "Version").endswith("-1")
    assert "gputally-report" in field(tree, "Suggests")


def test_bytecode_is_never_compared_with_a_time(tree: Path) -> None:
    """Each module has some, so that no start writes any or compiles again."""
    found = 0
    for source in site(tree).rglob("*.py"):
        for compiled in (source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc"):
            assert struct.unpack("<I", compiled.read_bytes()[4:8]) == (UNCHECKED,)
            found += 1
    assert found == len(list(site(tree).rglob("*.py"))) == len(list(site(tree).rglob("*.pyc"))) > 0


def test_no_folder_of_the_build_is_in_it(tree: Path) -> None:
    """Nor the source's place, in text or bytecode."""
    marks = (str(SOURCE).encode() + b"/", b"gputally-deb-", b"site-packages.lock")
    told = [
        str(path)
        for path in files(tree)
        if not (tree / path).is_symlink() and any(mark in (tree / path).read_bytes() for mark in marks)
    ]
    assert told == []


def test_the_environment_is_whole(tree: Path) -> None:
    """All that each distribution in it needs is in it, in a version that will do."""
    there = {
        found.name.lower().replace("_", "-"): found.version for found in distributions(path=[str(site(tree))])
    }
    lacking = []
    for distribution in distributions(path=[str(site(tree))]):
        for text in distribution.requires or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                version = there.get(needed.name.lower().replace("_", "-"))
                if version is None or not needed.specifier.contains(version, prereleases=True):
                    lacking.append(f"{distribution.name}: {text}, has {version}")
    assert lacking == []
    assert "gputally" in there


def test_whose_works_are_in_it_is_said(tree: Path) -> None:
    """Each distribution by name, with its licence, and where its text is."""
    text = (tree / "usr/share/doc/gputally/copyright").read_text(encoding="utf-8")
    others = [found for found in distributions(path=[str(site(tree))]) if found.name != "gputally"]
    assert len(others) > 10
    for found in others:
        said = re.search(
            rf"^ {re.escape(found.name)}: (\S.*); /(usr/lib/\S+\.dist-info)$", text, re.MULTILINE
        )
        assert said, found.name
        assert (tree / said[2]).is_dir()
    assert "@" not in text


def test_manual_and_completions_are_in_it(tree: Path) -> None:
    """As the command writes them."""
    shells = ("usr/share/bash-completion/completions/gputally", "usr/share/zsh/vendor-completions/_gputally")
    for path in (*shells, "usr/share/fish/vendor_completions.d/gputally.fish"):
        assert "gputally" in (tree / path).read_text(encoding="utf-8")
    page = subprocess.run(
        [program("gzip", "gzip"), "-dc", tree / "usr/share/man/man1/gputally.1.gz"],
        capture_output=True,
        timeout=60,
        check=True,
    ).stdout
    assert b"\n.SH NAME\n" in page
