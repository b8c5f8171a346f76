"""The example playbook: understood by Ansible, and run against a folder it installs what runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "packaging" / "ansible"
PLAYBOOK = FOLDER / "playbook.yml"


def ansible(folder: Path, *words: str | Path) -> str:
    """Run ansible-playbook; give what it says, and fail where it fails."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), *map(str, words), PLAYBOOK],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_LOCALHOST_WARNING": "false",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_ansible_understands_it(tmp_path: Path) -> None:
    """The playbook and the inventory beside it: sixteen hosts, all tasks."""
    inventory = FOLDER / "inventory.example.ini"
    assert "playbook" in ansible(tmp_path, "-i", inventory, "--syntax-check")
    assert ansible(tmp_path, "-i", inventory, "--list-hosts").count("gpu-") == 16
    assert "Wait until it is ready" in ansible(tmp_path, "-i", inventory, "--list-tasks")


@pytest.mark.slow
def test_it_installs_what_runs_and_a_second_time_nothing(tmp_path: Path) -> None:
    """All but what asks systemd; wrong settings are refused, and the old ones stay."""
    for name in ("etc/systemd/system", "usr-lib/sysusers.d", "usr-lib/tmpfiles.d", "source/dist"):
        (tmp_path / name).mkdir(parents=True)
    source = tmp_path / "source"
    (source / "systemd").symlink_to(ROOT / "systemd")
    (source / "requirements-agent.lock").symlink_to(ROOT / "requirements-agent.lock")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", source / "dist", ROOT)
    subprocess.run(pip, check=True, timeout=600, stdin=subprocess.DEVNULL)
    told = {
        "gputally_become": "false",
        "gputally_service": "false",
        "gputally_python": sys.executable,
        "gputally_source": source,
        "gputally_home": tmp_path / "opt",
        "gputally_etc": tmp_path / "etc",
        "gputally_usr_lib": tmp_path / "usr-lib",
        "gputally_cluster": "c1",
        "gputally_pool": "train",
    }
    inventory = tmp_path / "hosts.ini"
    inventory.write_text(f"[gpu]\nlocalhost ansible_python_interpreter={sys.executable}\n", encoding="utf-8")
    words = ["-i", str(inventory), "-c", "local"]
    words += [word for name, value in told.items() for word in ("-e", f"{name}={value}")]
    words += ["-e", '{"gputally_tokens": {"store": "s3cret"}}']

    said = ansible(tmp_path, *words)
    assert "s3cret" not in said
    etc = tmp_path / "etc"
    assert (etc / "gputally/store.token").stat().st_mode & 0o777 == 0o600
    assert "LoadCredential=store:" in (etc / "systemd/system/gputally.service.d/secrets.conf").read_text(
        "utf-8"
    )
    assert 'pool = "train"' in (etc / "gputally/gputally.toml").read_text("utf-8")
    run: list[str | Path] = [tmp_path / "opt/bin/gputally", "run", "--simulate", "t4x1", "--for", "0"]
    run += ["--settings", etc / "gputally/gputally.toml", "--journal", tmp_path / "j.db", "--port", "0"]
    subprocess.run(run, check=True, timeout=120, stdin=subprocess.DEVNULL)

    assert "changed=0" in ansible(tmp_path, *words)
    before = (etc / "gputally/gputally.toml").read_bytes()
    with pytest.raises(AssertionError, match="nonsense"):
        ansible(tmp_path, *words, "-e", '{"gputally_settings": "[nonsense]\\nx = 1\\n"}')
    assert (etc / "gputally/gputally.toml").read_bytes() == before
