"""A small Debian in a folder: packages of this system, with what they need, and a dpkg that knows no others.

Packages are installed there as on a host: dependencies are checked, maintainer scripts run with that folder
as their root. systemd is not there; stand-ins write down what scripts ask of it.
"""

import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

SEEDS = (
    "dpkg",
    "dash",
    "coreutils",
    "init-system-helpers",
    "libc-bin",
    "passwd",
    "python3",
    "libpython3-stdlib",
)
"""What packages need is looked up; these are what must be there for dpkg and scripts to run at all."""
KEPT = (*SEEDS, "findutils", "grep", "libgcc-s1", "libstdc++6", "login", "perl-base", "sed", "util-linux")
TOP_LINKS = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
FOLDERS = ("etc", "proc", "dev", "run", "tmp", "root", "var/log", "var/lib/dpkg/info", "var/lib/dpkg/updates")
DEVICES = ("null", "urandom", "full")
CALLS = Path("var/calls")
PASSED_OVER = {"proc", "dev", "var/lib/dpkg", "var/calls", "var/log", "run"}
"""What is no part of a system at rest, or is dpkg's own."""
SYSTEMCTL = """\
#!/bin/sh
echo "systemctl $*" >> /var/calls
for word; do
    case "$word" in
    preset) exec /usr/lib/systemctl "$@" ;;
    is-enabled) exec /usr/lib/systemctl --root=/ is-enabled gputally.service ;;
    is-active) test -e /run/active; exit ;;
    esac
done
"""
"""What is about files is answered by systemd's own; what is about services that run is only written down."""
WRAPPED = """\
#!/bin/sh
echo "{name} $*" >> /var/calls
exec /usr/lib/{name} "$@"
"""
Left = Mapping[str, tuple[object, ...]]


def run(*words: str | Path, check: bool = True) -> str:
    """Run a program of this host to its end; give all that it says."""
    done = subprocess.run(
        list(map(str, words)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
        },
        timeout=300,
        check=False,
        text=True,
    )
    assert not check or done.returncode == 0, f"{words}: {done.stdout}"
    return done.stdout


@cache
def missing() -> str:
    """Say what keeps such a root from being made here; empty for nothing."""
    if os.geteuid() != 0:
        return "a root of its own needs root"
    for program, package in (("dpkg-deb", "dpkg"), ("unshare", "util-linux"), ("chroot", "coreutils")):
        if not shutil.which(program):
            return f"{program} is missing, of the package {package}"
    tried = subprocess.run(
        ["/usr/bin/unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    return "" if tried.returncode == 0 else "a root of its own needs the right to mount"


@cache
def _installed() -> Mapping[str, Sequence[str]]:
    """Give what each installed package needs, each a name; provided names are resolved."""
    told = run(
        "dpkg-query", "-W", "-f", "${db:Status-Abbrev}\t${Package}\t${Provides}\t${Pre-Depends}, ${Depends}\n"
    )
    rows = [line.split("\t") for line in told.splitlines() if line.startswith("ii ")]
    named = {package: package for _, package, _, _ in rows}
    for _, package, provides, _ in rows:
        for name in _names(provides):
            named.setdefault(name[0], package)
    return {
        package: [
            next((named[choice] for choice in choices if choice in named), choices[0])
            for choices in _names(needs)
        ]
        for _, package, _, needs in rows
    }


def _names(text: str) -> list[list[str]]:
    plain = re.sub(r"\([^)]*\)|:\w+", "", text)
    return [[name.strip() for name in part.split("|")] for part in plain.split(",") if part.strip()]


def closure(seeds: Sequence[str]) -> set[str]:
    """Give packages of this host with all that they need."""
    needs, found, waiting = _installed(), set[str](), list(seeds)
    while waiting:
        package = waiting.pop()
        if package in needs and package not in found:
            found.add(package)
            waiting += needs[package]
    return found


class Root:
    """Such a folder. Commands run in it with /proc and some devices, mounted for as long as they run."""

    def __init__(self, folder: Path) -> None:
        """Take a folder that was filled."""
        self.folder = folder

    @classmethod
    def like(cls, other: "Root", folder: Path) -> "Root":
        """Copy one, quickly: what is in /usr are links to the other's, which nobody writes into."""
        folder.mkdir()
        for path in other.folder.iterdir():
            run("cp", "-a", *(["--link"] if path.name == "usr" else []), path, folder)
        return cls(folder)

    def fill(self, more: Sequence[str] = ()) -> None:
        """Make the folder of this host's packages. `more` are wanted beside the usual ones."""
        folder = self.folder
        folder.mkdir()
        for name in TOP_LINKS:
            if Path("/", name).is_symlink():
                (folder / name).symlink_to(Path("/", name).readlink())
        for name in FOLDERS:
            (folder / name).mkdir(parents=True)
        (folder / "tmp").chmod(0o1777)
        for name in DEVICES:
            (folder / "dev" / name).touch()
        (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n", encoding="ascii")
        (folder / "etc/group").write_text("root:x:0:\n", encoding="ascii")
        (folder / "etc/shadow").write_text("root:*:19000:0:99999:7:::\n", encoding="ascii")
        packages = sorted(closure([*KEPT, *more]))
        listed = [path for name in packages for path in run("dpkg", "-L", name).splitlines()]
        self._copy({*listed, "/bin/sh"} - {"/."})
        database = folder / "var/lib/dpkg"
        (database / "status").write_text(run("dpkg-query", "-s", *packages), encoding="utf-8")
        for name in packages:
            for known in Path("/var/lib/dpkg/info").glob(f"{name}*.list"):
                if known.stem.partition(":")[0] == name:
                    shutil.copy(known, database / "info")

    def _copy(self, paths: set[str]) -> None:
        wanted = set()
        for text in paths:
            path = Path(text)
            if path.parts[1:3] == ("usr", "share") and path.parts[3:4] in {("doc",), ("man",), ("locale",)}:
                continue
            wanted.add(path.parent.resolve() / path.name)
        for path in sorted(wanted):
            target = self.folder / path.relative_to("/")
            if path.is_symlink():
                target.parent.mkdir(parents=True, exist_ok=True)
                if not os.path.lexists(target):
                    target.symlink_to(path.readlink())
            elif path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif path.is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)

    def add_systemd(self) -> None:
        """Let scripts believe that systemd runs; what they ask of it is written down."""
        (self.folder / "run/systemd/system").mkdir(parents=True)
        for name in ("systemctl", "systemd-sysusers", "systemd-tmpfiles"):
            real = Path("/usr/bin", name)
            libraries = re.findall(r"(/\S+) \(0x", run("ldd", real))
            self._copy({str(real), *libraries, *(str(Path(library).resolve()) for library in libraries)})
            (self.folder / real.relative_to("/")).rename(self.folder / "usr/lib" / name)
            text = SYSTEMCTL if name == "systemctl" else WRAPPED.format(name=name)
            self._program(f"usr/bin/{name}", text)

    def _program(self, path: str, text: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(0o755)

    def forbid_services(self) -> None:
        """Set the policy by which no package starts, stops or restarts anything."""
        self._program("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")

    def around(self, *words: str | Path) -> list[str]:
        """Give a command of this host within a mount namespace where the folder has /proc and devices."""
        mounts = [f'mount --bind "/dev/{name}" "$0/dev/{name}"' for name in DEVICES]
        script = " && ".join(['mount -t proc proc "$0/proc"', *mounts, 'exec "$@"'])
        return ["unshare", "--mount", "sh", "-c", script, str(self.folder), *map(str, words)]

    def inside(self, *words: str | Path, user: str = "") -> list[str]:
        """Give a command in the folder, by one of its users."""
        who = [f"--userspec={user}:{user}"] if user else []
        return self.around("chroot", *who, self.folder, *words)

    def dpkg(self, *words: str | Path, check: bool = True) -> str:
        """Let dpkg work on the folder; give what it says."""
        return run(*self.around("dpkg", f"--root={self.folder}", "--force-unsafe-io", *words), check=check)

    def do(self, *words: str | Path, user: str = "", check: bool = True) -> str:
        """Run a command in the folder to its end; give what it says."""
        return run(*self.inside(*words, user=user), check=check)

    def calls(self) -> list[str]:
        """Give what was asked of systemd since the last time."""
        path = self.folder / CALLS
        told = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return told

    def state(self, package: str) -> str:
        """Give what dpkg knows of a package, such as ii, rc or un."""
        told = run(
            "dpkg-query",
            f"--admindir={self.folder}/var/lib/dpkg",
            "-W",
            "-f",
            "${db:Status-Abbrev}",
            package,
            check=False,
        )
        return told.strip() if re.fullmatch(r"\w\w ?", told) else "un"

    def left(self) -> Left:
        """Give all that is there, by path: kind and mode, owner, content or aim."""
        return dict(self._left())

    def _left(self) -> Iterator[tuple[str, tuple[object, ...]]]:
        for parent, folders, files in os.walk(self.folder):
            inner = Path(parent).relative_to(self.folder)
            folders[:] = sorted(name for name in folders if str(inner / name) not in PASSED_OVER)
            for name in [*folders, *files]:
                path = inner / name
                if str(path) not in PASSED_OVER:
                    yield str(path), _shape(self.folder / path)


def _shape(path: Path) -> tuple[object, ...]:
    about = path.lstat()
    content = ""
    if stat.S_ISLNK(about.st_mode):
        content = str(path.readlink())
    elif stat.S_ISREG(about.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    return oct(about.st_mode), about.st_uid, about.st_gid, content
