"""A package's life in a root of its own: installed, started, upgraded, removed, purged."""

import re
from pathlib import Path

import pytest

from tests.command.processes import is_gone
from tests.command.waiting import until
from tests.deploy_deb.agent import InstalledAgent
from tests.deploy_deb.conftest import NEWER
from tests.deploy_deb.root import Left, Root

SETTINGS = Path("etc/gputally/gputally.toml")
JOURNAL = Path("var/lib/gputally/journal.db")
WANTED = Path("etc/systemd/system/multi-user.target.wants/gputally.service")
MASK = Path("etc/systemd/system/gputally.service")
ACCOUNTS_OF_USERS = {
    f"etc/{name}{old}" for name in ("passwd", "group", "shadow", "gshadow") for old in ("", "-")
} | {"etc/.pwd.lock"}
"""Where a system keeps its users: those stay when a package goes."""
CHANGED = '[node]\nname = "changed"\n'
FOOLS = ("PYTHONPATH=/fool", "PYTHONHOME=/fool", "PYTHONSTARTUP=/fool/agent/__init__.py", "PYTHONINSPECT=1")


def differing(before: Left, after: Left) -> set[str]:
    """Give what came, went or changed, without what a system keeps of its users."""
    return {
        path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
    } - ACCOUNTS_OF_USERS


def acts(root: Root) -> list[str]:
    """Give what services were told since the last time, and in which order."""
    asked = [call for call in root.calls() if call.startswith("systemctl")]
    return [
        found[0]
        for call in asked
        if (found := re.search(r"daemon-reload|(start|stop|restart) \S+( \S+)*$", call))
    ]


def test_installed(root: Root, package: Path) -> None:
    """The user, the folders with their rights, the service enabled and started once all is there."""
    root.dpkg("--install", package)

    assert root.state("gputally") == "ii"
    asked = root.calls()
    assert [call for call in asked if call.startswith("systemd-")] == [
        "systemd-sysusers gputally.conf",
        "systemd-tmpfiles --create gputally.conf",
    ]
    assert asked[-1].endswith("start gputally.service")
    assert (root.folder / WANTED).is_symlink()
    user = re.search(
        r"^gputally:x:(\d+):(\d+):.*:/usr/sbin/nologin$",
        (root.folder / "etc/passwd").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert user
    left = root.left()
    assert left[str(JOURNAL.parent)][:3] == ("0o40750", int(user[1]), int(user[2]))
    assert left[str(SETTINGS.parent)][:3] == ("0o40755", 0, 0)
    assert left[str(SETTINGS)][:3] == ("0o100644", 0, 0)


def test_installed_where_systemd_is_not(unmanaged: Root, package: Path) -> None:
    """The same user and folders; a token there is the agent's to read. Purged, only the user stays."""
    root = unmanaged
    before = root.left()
    token = root.folder / "etc/gputally/store.token"
    token.parent.mkdir()
    token.write_text("secret", encoding="ascii")
    root.dpkg("--install", package)

    left = root.left()
    uid = int(root.do("id", "-u", "gputally"))
    gid = int(root.do("id", "-g", "gputally"))
    assert left[str(JOURNAL.parent)][:3] == ("0o40750", uid, gid)
    assert left["etc/gputally/store.token"][:3] == ("0o100640", 0, gid)
    assert "nologin" in root.do("grep", "gputally", "/etc/passwd")
    root.dpkg("--purge", "gputally")
    assert differing(before, root.left()) == set()


def test_the_unit_starts_it_and_nothing_fools_it(root: Root, package: Path, tmp_path: Path) -> None:
    """It serves its page from its own files, whatever a user's variables and folder have by these names."""
    root.dpkg("--install", package)
    for name in ("agent", "gputally", "exporters"):
        fool = root.folder / "fool" / name
        fool.mkdir(parents=True)
        (fool / "__init__.py").write_text("raise SystemExit('fooled')", encoding="ascii")
    with InstalledAgent(root, tmp_path / "log", "--chdir=/fool", *FOOLS) as agent:
        agent.shows_gpus()
        assert b"GPU" in agent.page("/")
        where = {Path(process.exe()).name for process in (agent.probe(), *agent.probes())}
        assert len(where) == 1
        assert agent.end() == 0
    assert "fooled" not in agent.said
    assert "Traceback" not in agent.said
    assert (root.folder / JOURNAL).is_file()
    assert re.search(r"^\S+: 2 GPUs$", root.do("gputally", "status"), re.MULTILINE)  # it finds the journal


def test_upgraded(root: Root, package: Path, newer: Path, tmp_path: Path) -> None:
    """The agent that runs is restarted; journal and changed settings stay, and the accounts go on."""
    root.dpkg("--install", package)
    (root.folder / SETTINGS).write_text(CHANGED, encoding="utf-8")
    with InstalledAgent(root, tmp_path / "old.log") as agent:
        agent.shows_gpus()
        until(lambda: sum(agent.samples("gpu_tally_seconds_total").values()) > 2, "accounts that grow")
        (root.folder / "run/active").touch()
        root.calls()
        root.dpkg("--install", "--force-confold", newer)
        assert acts(root) == ["daemon-reload", "restart gputally.service"]
        agent.shows_gpus()  # until then, what runs goes on
        before = agent.samples("gpu_tally_seconds_total")
        assert agent.end() == 0

    assert (root.folder / SETTINGS).read_text(encoding="utf-8") == CHANGED
    assert "later version" in (root.folder / f"{SETTINGS}.dpkg-dist").read_text(encoding="utf-8")
    assert root.do("gputally", "--version").strip() == f"gputally {NEWER}"
    with InstalledAgent(root, tmp_path / "new.log") as agent:
        agent.shows_gpus()
        after = agent.samples("gpu_tally_seconds_total")
        assert agent.end() == 0
    assert f"gputally {NEWER} watches node changed" in agent.said
    assert before.keys() <= after.keys()
    assert all(after[series] >= seconds for series, seconds in before.items())
    assert sum(after.values()) > sum(before.values()) > 2


@pytest.mark.slow
def test_settings_that_nobody_changed_are_the_new_versions(root: Root, package: Path, newer: Path) -> None:
    """Without a question, and without another file beside them."""
    root.dpkg("--install", package)
    root.dpkg("--install", newer)
    assert "later version" in (root.folder / SETTINGS).read_text(encoding="utf-8")
    assert [path.name for path in (root.folder / SETTINGS).parent.iterdir()] == [SETTINGS.name]


def test_removed_then_purged(root: Root, package: Path, tmp_path: Path) -> None:
    """Removed, it is stopped first, and journal and settings stay; purged, there is nothing but its user."""
    before = root.left()
    root.dpkg("--install", package)
    with InstalledAgent(root, tmp_path / "log") as agent:
        agent.shows_gpus()
        probes = agent.probes()
        assert agent.end() == 0
    for probe in probes:
        until(lambda probe=probe: is_gone(probe), "the end of the probe")  # type: ignore[misc]
    root.do("gputally", "status", check=False)  # root could leave files anywhere
    (root.folder / "etc/gputally/store.token").write_text("secret", encoding="ascii")
    root.calls()

    root.dpkg("--remove", "gputally")
    assert root.state("gputally") == "rc"
    assert acts(root) == ["stop gputally.service", "daemon-reload"]
    stayed = {path for path in differing(before, root.left()) if "systemd" not in path}
    assert {str(SETTINGS), str(JOURNAL), "etc/gputally/store.token"} <= stayed
    assert {path for path in stayed if not path.startswith(("etc/gputally", "var/lib/gputally"))} == set()

    root.dpkg("--purge", "gputally")
    assert root.state("gputally") == "un"
    assert differing(before, root.left()) == set()
    assert root.do("id", "-un", "gputally").strip() == "gputally"


@pytest.mark.slow
def test_installed_again_it_finds_its_journal(root: Root, package: Path, tmp_path: Path) -> None:
    """What was removed comes back with its accounts, enabled and started."""
    root.dpkg("--install", package)
    with InstalledAgent(root, tmp_path / "first.log") as agent:
        agent.shows_gpus()
        until(lambda: sum(agent.samples("gpu_tally_seconds_total").values()) > 2, "accounts that grow")
        before = agent.samples("gpu_tally_seconds_total")
        assert agent.end() == 0
    root.dpkg("--remove", "gputally")
    root.calls()
    root.dpkg("--install", package)
    assert acts(root) == ["daemon-reload", "restart gputally.service"]  # which starts what is enabled
    with InstalledAgent(root, tmp_path / "second.log") as agent:
        agent.shows_gpus()
        assert sum(agent.samples("gpu_tally_seconds_total").values()) >= sum(before.values())
        assert agent.end() == 0


@pytest.mark.parametrize("way", ["masked", "disabled", "forbidden"])
def test_what_the_admin_decided_stands(root: Root, package: Path, newer: Path, way: str) -> None:
    """A mask, a service that was disabled, a policy that nothing is started: also after an upgrade."""
    if way == "forbidden":
        root.forbid_services()
    else:
        root.dpkg("--install", package)
    if way == "masked":
        (root.folder / MASK).symlink_to("/dev/null")
    if way == "disabled":
        (root.folder / WANTED).unlink()
    root.calls()
    root.dpkg("--install", newer if way != "forbidden" else package)

    assert [act for act in acts(root) if act != "daemon-reload"] == []
    assert (root.folder / WANTED).is_symlink() is (way != "disabled")
    assert (root.folder / MASK).is_symlink() is (way == "masked")


def test_scripts_may_run_again(root: Root, package: Path) -> None:
    """And again, as dpkg does after what was broken off; they refuse what they do not know."""
    root.dpkg("--install", package)
    once = root.left()
    scripts = Path("/var/lib/dpkg/info")
    for words in (["configure", "0.0.1-1"], ["configure", ""], ["abort-upgrade", "0.0.1-1"]):
        root.do(scripts / "gputally.postinst", *words)
    assert differing(once, root.left()) == set()
    assert "unknown argument" in root.do(scripts / "gputally.postinst", "nonsense", check=False)
    for words in (["upgrade", "9-1"], ["failed-upgrade", "9-1"], ["abort-install"], ["disappear"]):
        root.do(scripts / "gputally.postrm", *words)
    assert differing(once, root.left()) == set()
    for _ in range(2):
        root.do(scripts / "gputally.postrm", "purge")
    assert not (root.folder / JOURNAL.parent).exists()
