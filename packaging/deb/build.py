#!/usr/bin/env python3
"""Build the Debian packages gputally and gputally-report: `make deb`.

The same source, lock and interpreter give the same bytes: times come from SOURCE_DATE_EPOCH, else from the
latest commit.
"""

import argparse
import gzip
import hashlib
import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from environment import (
    PREFIX,
    BuildError,
    Interpreter,
    compile_all,
    frame,
    glibc,
    install,
    install_own,
    licences,
    output,
    shares,
)

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1]
AGENT, REPORT = "gputally", "gputally-report"
SCRIPTS = ("postinst", "prerm", "postrm")
SETTINGS = Path("etc/gputally/gputally.toml")
IN_SOURCE, INSTALLED = "/opt/gputally/bin/gputally", "/usr/bin/gputally"
"""How units start the command: as the source has it, and as the package does."""
OPEN_PATH = re.compile(r'(?<=^\[journal\]\n)((?:##.*\n)*)#path = ""$', re.MULTILINE)
JOURNAL = "/var/lib/gputally/journal.db"
"""The settings leave open where the journal is; all commands on this host are to find the service's."""
COMPLETIONS = {
    "bash": Path("usr/share/bash-completion/completions/gputally"),
    "zsh": Path("usr/share/zsh/vendor-completions/_gputally"),
    "fish": Path("usr/share/fish/vendor_completions.d/gputally.fish"),
}
EARLIEST = 315532800
"""1980: archives know no time before it."""
_VERSION = re.compile(
    r"(?P<epoch>\d+!)?(?P<release>\d+(?:\.\d+)*)(?P<pre>(?:a|b|rc)\d+)?(?:\.(?P<post>post\d+))?(?:\.(?P<dev>dev\d+))?"
)


@dataclass(frozen=True, slots=True)
class Build:
    """What both packages have in common."""

    version: str
    epoch: int
    architecture: str
    interpreter: Interpreter
    compression: str
    out: Path
    scratch: Path


@dataclass(frozen=True, slots=True)
class Package:
    """One package while it is put together: its name, and the folder that is its root."""

    name: str
    root: Path

    def put(self, path: Path, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        target.chmod(mode)

    def files(self) -> Iterator[Path]:
        """Give all that is not a folder, from the root, in order."""
        for path in sorted(self.root.rglob("*")):
            if (path.is_symlink() or not path.is_dir()) and path.relative_to(self.root).parts[0] != "DEBIAN":
                yield path.relative_to(self.root)


def debian_version(version: str, revision: str) -> str:
    """Give Debian's form of a version, which sorts as Python's: 1.0rc1 is 1.0~rc1, 1.0.dev1 is 1.0~~dev1."""
    found = _VERSION.fullmatch(version)
    if not found:
        raise BuildError(
            f"version {version!r} in pyproject.toml: write it like 1.2.3, 1.2.3rc1 or 1.2.3.dev4"
        )
    epoch, pre, post, dev = (found[name] or "" for name in ("epoch", "pre", "post", "dev"))
    marked = [text for text in (pre and f"~{pre}", post and f"+{post}", dev and f"~~{dev}") if text]
    return f"{epoch.replace('!', ':')}{found['release']}{''.join(marked)}-{revision}"


def source_epoch() -> int:
    """Tell which time all files get: SOURCE_DATE_EPOCH, else the latest commit's, else 1980."""
    told = os.environ.get("SOURCE_DATE_EPOCH")
    if told is None and (SOURCE / ".git").exists() and shutil.which("git"):
        told = output(["git", "-C", SOURCE, "log", "-1", "--format=%ct"]).strip()
    if told is not None and not told.isdecimal():
        raise BuildError(f"SOURCE_DATE_EPOCH must be seconds since 1970, not {told!r}")
    return max(EARLIEST, int(told or 0))


def unit(name: str) -> str:
    """Give a unit as it is installed: the command lies elsewhere, and nothing else differs."""
    return (SOURCE / "systemd" / name).read_text(encoding="utf-8").replace(IN_SOURCE, INSTALLED)


def settings() -> str:
    """Give the settings as they are installed: the journal's place is said, and nothing else differs."""
    text = (SOURCE / "systemd" / "gputally.toml").read_text(encoding="utf-8")
    text, found = OPEN_PATH.subn(rf'\1path = "{JOURNAL}"', text)
    if found != 1:
        raise BuildError("systemd/gputally.toml has no line #path of [journal] to fill in")
    return text


def fill_agent(package: Package, build: Build, source_lock: str) -> None:
    """Put in the agent: environment, command, units, settings, documents."""
    site = package.root / build.interpreter.site
    install(build.interpreter, source_lock, site, build.scratch)
    install_own(build.interpreter, SOURCE, site, build.scratch, build.epoch)
    frame(build.interpreter, package.root)
    package.put(Path("usr/bin/gputally"), (HERE / "launcher").read_bytes(), 0o755)
    package.put(SETTINGS, settings())
    package.put(Path("usr/lib/systemd/system/gputally.service"), unit("gputally.service"))
    for kind in ("sysusers", "tmpfiles"):
        text = (SOURCE / "systemd" / f"gputally.{kind}").read_bytes()
        package.put(Path(f"usr/lib/{kind}.d/gputally.conf"), text)
    papers = Path("usr/share/doc") / package.name
    shutil.copytree(SOURCE / "docs", package.root / papers / "docs")
    package.put(papers / "README.md", (SOURCE / "README.md").read_bytes())
    package.put(papers / "README.Debian", (HERE / "README.md").read_bytes())
    package.put(papers / "examples/kernel-log.conf", (SOURCE / "systemd" / "kernel-log.conf").read_bytes())
    package.put(papers / "changelog.gz", packed((SOURCE / "CHANGELOG.md").read_bytes()))
    add_what_the_command_writes(package)


def add_what_the_command_writes(package: Package) -> None:
    """Let the command that was just put together write its manual and completions, where it can."""
    python = package.root / PREFIX / "bin" / "python3"
    told = {"LC_ALL": "C.UTF-8", "COLUMNS": "80", "TZ": "UTC"}
    known = output(
        [python, "-IB", "-c", "from gputally.cli import COMMANDS; print(*COMMANDS)"], **told
    ).split()
    command = (python, "-IB", package.root / "usr/bin/gputally")
    if "man" in known:
        page = output([*command, "man"], **told)
        package.put(Path("usr/share/man/man1/gputally.1.gz"), packed(page.encode()))
    if "completion" in known:
        for shell, path in COMPLETIONS.items():
            package.put(path, output([*command, "completion", shell], **told))


def fill_report(package: Package, build: Build, source_lock: str) -> None:
    """Put in what makes reports and dashboards, and the units of the weekly report."""
    install(build.interpreter, source_lock, package.root / build.interpreter.site, build.scratch)
    for name in ("gputally-report.service", "gputally-report.timer"):
        package.put(Path("usr/lib/systemd/system") / name, unit(name))


def packed(content: bytes) -> bytes:
    """Compress without a time or a name."""
    return gzip.compress(content, compresslevel=9, mtime=0)


def copyright_of(package: Package, build: Build) -> str:
    """Say whose works are in a package."""
    text = (HERE / "copyright").read_text(encoding="utf-8")
    rows = licences(package.root / build.interpreter.site)
    named = [f" .\n {name}: {licence}; /{build.interpreter.site}/{about}\n" for name, licence, about in rows]
    return text.replace("@distributions@\n", "".join(named))


def finish(package: Package, build: Build) -> Path:
    """Add bytecode and Debian's own files, and write the package. Gives its path."""
    site = package.root / build.interpreter.site
    libraries = f"libc6 (>= {glibc(site)}), libgcc-s1, libstdc++6"
    papers = Path("usr/share/doc") / package.name
    date = format_datetime(datetime.fromtimestamp(build.epoch, UTC))
    log = f"{AGENT} ({build.version}) stable; urgency=medium\n\n  * See changelog.gz of gputally.\n\n"
    package.put(papers / "changelog.Debian.gz", packed(f"{log} -- {maintainer()}  {date}\n".encode()))
    package.put(papers / "copyright", copyright_of(package, build))
    for about in site.glob("*.dist-info"):
        (about / "WHEEL").unlink(missing_ok=True)  # it says by what it was built
    compile_all(build.interpreter, site)

    major, minor = build.interpreter.version
    values = {
        "version": build.version,
        "architecture": build.architecture,
        "maintainer": maintainer(),
        "size": str(sum(-(-(package.root / path).lstat().st_size // 1024) for path in package.files())),
        "python": f"{major}.{minor}~",
        "python_after": f"{major}.{minor + 1}~",
        "libraries": libraries,
    }
    folder = Path("DEBIAN")
    control = (HERE / f"{package.name}.control").read_text(encoding="utf-8").format(**values)
    sums = [
        f"{hashlib.md5((package.root / path).read_bytes(), usedforsecurity=False).hexdigest()}  {path}\n"
        for path in package.files()
        if path != SETTINGS and not (package.root / path).is_symlink()
    ]
    package.put(folder / "control", control)
    package.put(folder / "md5sums", "".join(sums))
    if (package.root / SETTINGS).exists():
        package.put(folder / "conffiles", f"/{SETTINGS}\n")
    for script in SCRIPTS:
        package.put(folder / script, (HERE / f"{package.name}.{script}").read_bytes(), 0o755)
    settle(package.root, build.epoch)
    target = (
        build.out
        / f"{package.name}_{build.version.partition(':')[2] or build.version}_{build.architecture}.deb"
    )
    words = ("--root-owner-group", f"-Z{build.compression}", "--build")
    output(["dpkg-deb", *words, package.root, target], SOURCE_DATE_EPOCH=str(build.epoch))
    return target


def maintainer() -> str:
    """Tell who answers for the package, by the variables that Debian's tools use."""
    name = os.environ.get("DEBFULLNAME", "The gputally authors")
    return f"{name} <{os.environ.get('DEBEMAIL', 'gputally@packages.invalid')}>"


def settle(root: Path, epoch: int) -> None:
    """Give everything the modes and times that it is to have, whoever built it and when."""
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def check_apart(packages: Sequence[Package]) -> None:
    """See to it that no file is in both packages. Raises BuildError."""
    twice = set.intersection(*(set(package.files()) for package in packages)) if len(packages) > 1 else set()
    if twice:
        raise BuildError(f"in more than one package: {', '.join(map(str, sorted(twice)[:5]))}")


def built(build: Build, project: Mapping[str, Any], names: Sequence[str]) -> list[Path]:
    """Build packages by name; give their paths."""
    needed = [re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0] for text in project["dependencies"]]
    mine, others = shares((SOURCE / "requirements.lock").read_text(encoding="utf-8"), needed)
    packages = [Package(name, build.scratch / name) for name in names]
    for package in packages:
        if package.name == AGENT:
            fill_agent(package, build, mine)
        else:
            fill_report(package, build, others)
    check_apart(packages)
    build.out.mkdir(parents=True, exist_ok=True)
    return [finish(package, build) for package in packages]


def run(options: argparse.Namespace) -> None:
    """Build what is asked for; say where it is. Raises BuildError."""
    for program in ("dpkg", "dpkg-deb"):
        if not shutil.which(program):
            raise BuildError(f"{program} is missing: packages of Debian are built on Debian or Ubuntu")
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with tempfile.TemporaryDirectory(prefix="gputally-deb-") as scratch:
        build = Build(
            version=debian_version(project["version"], options.revision),
            epoch=source_epoch(),
            architecture=output(["dpkg", "--print-architecture"]).strip(),
            interpreter=Interpreter.at(options.python),
            compression=options.compression,
            out=options.out.resolve(),
            scratch=Path(scratch),
        )
        for path in built(build, project, [options.only] if options.only else [AGENT, REPORT]):
            print(path)


def main(arguments: Sequence[str]) -> int:
    """Run it; give the exit code."""
    parser = argparse.ArgumentParser(description="Build the Debian packages of gputally.")
    parser.add_argument("--out", type=Path, default=SOURCE / "dist", help="folder for them")
    parser.add_argument(
        "--python", type=Path, default=Path("/usr/bin/python3"), help="the distribution's Python"
    )
    parser.add_argument("--only", choices=(AGENT, REPORT), help="just one of them")
    parser.add_argument("--revision", default="1", help="Debian's part of the version")
    parser.add_argument("--compression", choices=("xz", "zstd", "gzip", "none"), default="xz")
    options = parser.parse_args(arguments)
    os.umask(0o022)
    try:
        run(options)
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
