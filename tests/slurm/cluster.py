"""A real Slurm on one machine: munged, slurmctld and slurmd in a folder of their own, on free ports.

Nothing of the machine's own Slurm is read or written. All daemons are stopped by their process ids, also
when starting them fails halfway.
"""

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.command.waiting import until

NODE = "node1"
GPUS = 4
NULL_DEVICE = os.makedev(1, 3)
PROGRAMS = ("munged", "slurmctld", "slurmd", "scontrol", "squeue", "sbatch", "salloc", "scancel")
STOP_SECONDS = 10.0
RUN_SECONDS = 30.0
SLURM_CONF = """\
ClusterName=gputally
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
PlugStackConfig=/dev/null
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,batch_sched_delay=1
ReturnToService=2
KillWait=1
MinJobAge=2
CompleteWait=0
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={node} NodeAddr=127.0.0.1 NodeHostname={host} Port={node_port} CPUs=16 Gres=gpu:{gpus}
PartitionName=night Nodes={node} Default=YES MaxTime=60 State=UP OverSubscribe=FORCE:4
"""


def missing() -> str:
    """Tell why no Slurm can be started here; empty where it can."""
    if os.geteuid() != 0:
        return "only root can start a Slurm of its own"
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    return f"not installed: {', '.join(absent)} (packages slurm-wlm, munge)" if absent else ""


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Cluster:
    """A running Slurm of one node with four GPUs that are harmless devices, numbered in reverse."""

    folder: Path
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)
    callers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What commands of this Slurm need in their environment."""
        return {"PATH": _path(), "LC_ALL": "C", "SLURM_CONF": str(self.folder / "slurm.conf")}

    @property
    def gres_file(self) -> Path:
        """The list of its devices."""
        return self.folder / "gres.conf"

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """Run a command of Slurm and give its output. Raises AssertionError when it fails."""
        done = subprocess.run(
            [shutil.which(arguments[0], path=_path()) or arguments[0], *arguments[1:]],
            env={**self.environment, **(environment or {})},
            cwd=self.folder,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert done.returncode == 0, (arguments, done.stderr.decode(errors="replace"))
        return done.stdout.decode(errors="surrogateescape")

    def submit(self, *options: str, command: str = "sleep 600") -> int:
        """Submit a batch job and give its number."""
        script = self.folder / f"script-{secrets.token_hex(4)}"
        script.write_text(f"#!/bin/sh\nexec {command}\n")
        script.chmod(0o755)
        said = self.run("sbatch", "--parsable", "-o", "/dev/null", *options, str(script))
        return int(said.strip().split(";")[0])

    def allocate(self, *options: str) -> int:
        """Take an allocation that runs no step anywhere, as salloc does, and give its number."""
        said = self.run("salloc", "--no-shell", *options, environment={"SLURM_EXIT_IMMEDIATE": "75"})
        del said
        newest = self.run("squeue", "-h", "-o", "%A", "--sort=-i").split()
        return max(int(number) for number in newest)

    def state(self, job: int) -> str:
        """Tell the state of a job; empty when Slurm has forgotten it."""
        for line in self.run("squeue", "-h", "-t", "all", "-o", "%A %T").splitlines():
            number, state = line.split()
            if int(number) == job:
                return state
        return ""

    def wait_for(self, *jobs: int, state: str = "RUNNING") -> None:
        """Wait until jobs are in a state."""
        for job in jobs:
            until(lambda job=job: self.state(job) == state, f"job {job} to be {state}")  # type: ignore[misc]

    def start(self) -> None:
        """Start the daemons and wait until the node takes work."""
        self._write()
        munged = ("munged", "--foreground", "--force", "--num-threads=2")
        names = {"key-file": "munge.key", "pid-file": "munged.pid", "seed-file": "munged.seed"}
        places = [f"--{option}={self.folder / name}" for option, name in names.items()]
        self._start(*munged, f"--socket={self.folder}/munge.socket", f"--log-file={self.folder}/munged.log", *places)
        until((self.folder / "munge.socket").exists, "munged")
        self._start("slurmctld", "-D", "-f", self.environment["SLURM_CONF"])
        self._start("slurmd", "-D", "-N", NODE, "-f", self.environment["SLURM_CONF"])
        until(self._is_idle, "Slurm to offer its node")

    def stop(self) -> None:
        """Cancel what runs and stop every daemon."""
        if len(self.daemons) > 1 and all(daemon.poll() is None for daemon in self.daemons):
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                self.run("scancel", "--full", "--user=root")
                until(lambda: not self.run("squeue", "-h").strip(), "jobs to end", seconds=STOP_SECONDS)
        for daemon in reversed(self.daemons):
            _end(daemon)
        self.daemons.clear()

    def _is_idle(self) -> bool:
        for daemon in self.daemons:
            assert daemon.poll() is None, f"{daemon.args!r} ended: {self._logs()}"
        try:
            return "State=IDLE " in self.run("scontrol", "show", "node", NODE, "-o")
        except AssertionError:
            return False

    def _logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log"))

    def _start(self, program: str, *options: str) -> None:
        command: Sequence[str] = [shutil.which(program, path=_path()) or program, *options]
        with (self.folder / f"{program}.out").open("wb") as output:
            self.daemons.append(
                subprocess.Popen(
                    command,
                    env=self.environment,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                ),
            )

    def _write(self) -> None:
        for name in ("state", "spool", "dev"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        for minor in range(GPUS):
            os.mknod(self.folder / "dev" / f"nvidia{minor}", stat.S_IFCHR | 0o666, NULL_DEVICE)
        self.gres_file.write_text(f"Name=gpu File={self.folder}/dev/nvidia[0-{GPUS - 1}]\n")
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        host = re.sub(r"\..*", "", socket.gethostname())
        ports = {"controller_port": _free_port(), "node_port": _free_port()}
        written = SLURM_CONF.format(host=host, node=NODE, gpus=GPUS, folder=self.folder, **ports)
        (self.folder / "slurm.conf").write_text(written)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if daemon.poll() is None:
            daemon.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(timeout=STOP_SECONDS)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Keep a Slurm running in a folder."""
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
