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
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.command.waiting import until

NODE = "node1"
ORDER = (2, 0, 3, 1)
"""Minor numbers of the devices behind Slurm's indexes."""
LIFE_SECONDS = 120
"""Jobs end by themselves, should everything else fail."""
NULL_DEVICE = os.makedev(1, 3)
PROGRAMS = ("munged", "slurmctld", "slurmd", "scontrol", "squeue", "sbatch", "salloc", "scancel")
STOP_SECONDS = 5.0
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
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=1000
ReturnToService=2
KillWait=1
MinJobAge=2
CompleteWait=0
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={node} NodeAddr=127.0.0.1 NodeHostname={host} Port={node_port} CPUs=16 Gres=gpu:{gpus}
PartitionName=night Nodes={node} Default=YES MaxTime=60 State=UP
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
    """A running Slurm of one node with four GPUs that are harmless devices, in the order of `ORDER`."""

    folder: Path
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What commands of this Slurm need in their environment."""
        return {"PATH": _path(), "LC_ALL": "C", "SLURM_CONF": str(self.folder / "slurm.conf")}

    @property
    def gres_file(self) -> Path:
        """The list of its devices."""
        return self.folder / "gres.conf"

    def run(self, *arguments: str | bytes) -> str:
        """Run a command of Slurm and give its output. Raises AssertionError when it fails."""
        done = subprocess.run(
            arguments,
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert done.returncode == 0, (arguments, done.stderr.decode(errors="replace"))
        return done.stdout.decode(errors="surrogateescape")

    def submit(self, *options: str | bytes) -> int:
        """Submit a batch job that does nothing, and give its number."""
        script = self.folder / "idle"
        said = self.run("sbatch", "--parsable", "-n1", "-o", "/dev/null", *options, str(script))
        return int(said.strip().split(";")[0])

    def allocate(self, *options: str) -> int:
        """Take an allocation that runs no step anywhere, and give its number."""
        self.run("salloc", "--no-shell", "-n1", *options)
        return max(int(number) for number in self.run("squeue", "-h", "-o", "%A").split())

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
        self._start(
            *munged, f"--socket={self.folder}/munge.socket", f"--log-file={self.folder}/munged.log", *places
        )
        until((self.folder / "munge.socket").exists, "munged")
        self._start("slurmctld", "-D", "-f", self.environment["SLURM_CONF"])
        self._start("slurmd", "-D", "-N", NODE, "-f", self.environment["SLURM_CONF"])
        until(self._is_idle, "Slurm to offer its node")

    def cancel(self) -> None:
        """End all jobs and wait until the node is free and takes work."""
        jobs = self.run("squeue", "-h", "-o", "%A").split()
        if jobs:
            self.run("scancel", "--full", *jobs)
        until(lambda: not self.run("squeue", "-h").strip(), "jobs to end")
        until(self._is_idle, "the node to be free")

    def stop(self) -> None:
        """Stop every daemon and whatever jobs have left."""
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGCONT)
            _end(daemon)
        self.daemons.clear()
        for pid in self._own():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _own(self) -> Iterator[int]:
        """Find processes by the settings file in their environment, which lies in this folder alone."""
        ours = f"SLURM_CONF={self.folder}/slurm.conf".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if ours in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)

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
        command = [shutil.which(program, path=_path()) or program, *options]
        keeper = shutil.which("setpriv", path=_path())
        if keeper:  # should the tests be killed, the daemons end as well
            command = [keeper, "--pdeathsig", "KILL", "--", *command]
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
        script = self.folder / "idle"
        script.write_text(f"#!/bin/sh\nexec sleep {LIFE_SECONDS}\n")
        script.chmod(0o755)
        devices = [self.folder / "dev" / f"nvidia{minor}" for minor in ORDER]
        for device in devices:
            os.mknod(device, stat.S_IFCHR | 0o666, NULL_DEVICE)
        self.gres_file.write_text("".join(f"Name=gpu File={device}\n" for device in devices))
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        host = re.sub(r"\..*", "", socket.gethostname())
        ports = {"controller_port": _free_port(), "node_port": _free_port()}
        written = SLURM_CONF.format(host=host, node=NODE, gpus=len(ORDER), folder=self.folder, **ports)
        (self.folder / "slurm.conf").write_text(written)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if daemon.poll() is None:
            daemon.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(timeout=STOP_SECONDS)


@contextlib.contextmanager
def running() -> Iterator[Cluster]:
    """Keep a Slurm running in a folder of its own, which goes with it."""
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # other users' jobs read it
        cluster = Cluster(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
