"""The environment in the packages: wheels of requirements.lock, each checked by its hash, and gputally.

It is what venv makes: an interpreter that is a link to the distribution's, pyvenv.cfg, and site-packages.
Two packages share it: one has what gputally needs, the other the rest.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PathDistribution, distributions
from pathlib import Path

PREFIX = Path("usr/lib/gputally")
JUNK = ("bin", "share", "test", "example.py")
"""What wheels put beside their packages, and nobody needs: scripts of theirs, examples."""
LEFT_OUT = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
"""What pip writes for itself. It names folders of the build, and dpkg keeps account of files."""
OLDEST_GLIBC = (2, 17)
QUIET = ("--quiet", "--disable-pip-version-check", "--no-input")
_ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==.*(?:\n[ \t]+.*)*", re.MULTILINE)
_PARENT = re.compile(
    r"^\s+#(?: via)?\s+(?P<name>[A-Za-z0-9._-]+)(?P<ours> \(pyproject\.toml\))?$", re.MULTILINE
)


class BuildError(Exception):
    """Why no package can be built, and what helps."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The distribution's Python, for which wheels are chosen."""

    path: Path
    version: tuple[int, int]

    @property
    def site(self) -> Path:
        """Where packages lie in the environment, from the root."""
        return PREFIX / "lib" / f"python{self.version[0]}.{self.version[1]}" / "site-packages"

    @classmethod
    def at(cls, path: Path) -> "Interpreter":
        """Ask one what it is. Raises BuildError for one that is not the distribution's, or too old."""
        code = "import json, sys; print(json.dumps([sys.prefix, *sys.version_info[:2]]))"
        try:
            prefix, major, minor = json.loads(output([path, "-I", "-c", code]))
        except (OSError, ValueError) as error:
            raise BuildError(f"{path} is no Python: {error}") from error
        if prefix != "/usr":
            raise BuildError(
                f"{path} is not the distribution's Python, on which a package may depend: see --python"
            )
        if (major, minor) < (3, 11):
            raise BuildError(f"{path} is Python {major}.{minor}; gputally needs 3.11 or newer")
        return cls(Path(f"/usr/bin/python{major}.{minor}"), (major, minor))


def output(command: Sequence[str | Path], **environment: str) -> str:
    """Run a program to its end and give what it prints. Raises BuildError with what it complains of."""
    done = subprocess.run(
        [str(word) for word in command],
        env={**_clean(), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode:
        said = (done.stderr + done.stdout).strip()
        raise BuildError(f"{Path(command[0]).name} failed with {done.returncode}:\n{said}")
    return done.stdout


def _clean() -> dict[str, str]:
    dropped = ("PYTHON", "GPUTALLY_", "VIRTUAL_ENV", "__PYVENV")
    return {name: text for name, text in os.environ.items() if not name.startswith(dropped)}


def shares(lock: str, base: Iterable[str]) -> tuple[str, str]:
    """Divide a lock: what some distributions need, and the rest. Raises BuildError where it lacks "via"."""
    entries = {_plain(found["name"]): found[0] for found in _ENTRY.finditer(lock)}
    children: Mapping[str, set[str]] = defaultdict(set)
    for name, entry in entries.items():
        parents = [found for found in _PARENT.finditer(entry) if found["name"] != "via"]
        if not parents:
            raise BuildError(f"requirements.lock does not say what {name} is for: make lock")
        for parent in parents:
            children[_plain(parent["name"])].add(name)
    waiting, needed = [_plain(name) for name in base], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in entries:
            raise BuildError(f"requirements.lock has no {name}: make lock")
        if name not in needed:
            needed.add(name)
            waiting += children[name]
    both = [
        "\n".join(entries[name] for name in entries if (name in needed) is first) for first in (True, False)
    ]
    return both[0], both[1]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def install(interpreter: Interpreter, lock: str, folder: Path, scratch: Path) -> None:
    """Put what a lock names, checked by its hashes, into a folder. Nothing is resolved.

    Raises BuildError for what had to be compiled here: nobody knows with which libraries that works.
    """
    requirements = scratch / "requirements.lock"
    requirements.write_text(f"{lock}\n", encoding="utf-8")
    words = ("--require-hashes", "--no-deps", "--prefer-binary", "--requirement", requirements)
    _pip_install(interpreter, folder, *words)
    for distribution in distributions(path=[str(folder)]):
        if re.search(r"^Tag: .*-linux_\w+$", distribution.read_text("WHEEL") or "", re.MULTILINE):
            raise BuildError(
                f"there is no wheel of {distribution.name} for this machine; it would be compiled"
            )


def install_own(interpreter: Interpreter, source: Path, folder: Path, scratch: Path, epoch: int) -> None:
    """Make our own wheel, out of a source, and add it to a folder."""
    words = ("--no-deps", "--wheel-dir", scratch, source)
    output([sys.executable, "-m", "pip", "wheel", *QUIET, *words], SOURCE_DATE_EPOCH=str(epoch))
    _pip_install(interpreter, folder, "--no-deps", "--no-index", "--upgrade", *scratch.glob("gputally-*.whl"))


def _pip_install(interpreter: Interpreter, folder: Path, *words: str | Path) -> None:
    # pip works for an interpreter that need not have it.
    pip = (sys.executable, "-m", "pip", "--python", interpreter.path, "install", *QUIET)
    output([*pip, "--no-compile", "--root-user-action", "ignore", "--target", folder, *words])
    _tidy(folder)


def _tidy(folder: Path) -> None:
    for name in JUNK:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
    for about in folder.glob("*.dist-info"):
        for name in LEFT_OUT:
            (about / name).unlink(missing_ok=True)


def compile_all(interpreter: Interpreter, folder: Path) -> None:
    """Add bytecode that carries no time and is never compared with its source: dpkg keeps both together."""
    where = f"/{interpreter.site}"
    words = ("-q", "-j", "1", "--invalidation-mode", "unchecked-hash", "-s", str(folder), "-p", where)
    output([interpreter.path, "-s", "-m", "compileall", *words, folder], PYTHONHASHSEED="0")


def frame(interpreter: Interpreter, root: Path) -> None:
    """Make of a folder of packages an environment: its interpreter, and the file by which that knows it."""
    prefix = root / PREFIX
    (prefix / "bin").mkdir()
    (prefix / "bin" / "python3").symlink_to(interpreter.path)
    version = ".".join(map(str, interpreter.version))
    (prefix / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {version}\n", encoding="ascii"
    )


def glibc(folder: Path) -> str:
    """Tell the oldest C library with which all wheels of a folder work, by their tags."""
    return ".".join(map(str, max([OLDEST_GLIBC, *map(_oldest, distributions(path=[str(folder)]))])))


def _oldest(distribution: Distribution) -> tuple[int, int]:
    tags = re.findall(
        r"^Tag: .*-manylinux_(\d+)_(\d+)_\w+$", distribution.read_text("WHEEL") or "", re.MULTILINE
    )
    return min(((int(major), int(minor)) for major, minor in tags), default=OLDEST_GLIBC)


def licences(folder: Path) -> list[tuple[str, str, str]]:
    """List name, licence and folder of licence texts of each distribution but ours."""
    found = []
    for about in folder.glob("*.dist-info"):
        distribution = PathDistribution(about)
        if distribution.name != "gputally":
            found.append((distribution.name, _licence(distribution), about.name))
    return sorted(found, key=lambda row: row[0].lower())


def _licence(distribution: Distribution) -> str:
    about = distribution.metadata
    short = next((about[key] for key in ("License-Expression", "License") if key in about), "")
    if short and "\n" not in short:
        return short
    classes = [
        text.rpartition(" :: ")[2] for text in about.get_all("Classifier", []) if text.startswith("License")
    ]
    return ", ".join(classes) or "see its licence text"
