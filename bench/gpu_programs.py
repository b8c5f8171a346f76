"""The programs that run beside the agent while it is checked: nvidia-smi, its log of power, and the load."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, Self

from bench.gpu_load import Played, begun, played

ROOT = Path(__file__).resolve().parents[1]
NVIDIA_SMI = "nvidia-smi"
_LOG = ("--query-gpu=timestamp,power.draw.average,power.draw.instant", "--format=csv,noheader,nounits")
LOG_EVERY_MS = 500


class Answer(Protocol):
    """What nvidia-smi will say. Used in a `with`, and gone after it."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """Give up if it is not yet ready."""

    def ready(self) -> bool:
        """Tell whether it has said it."""

    def text(self) -> str:
        """Give all of it, once it is ready."""


class Program:
    """A program that runs within a `with`, and what it wrote so far: to files, so that it never waits."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._folder = TemporaryDirectory()
        self._output, self._errors = (Path(self._folder.name) / name for name in ("output", "errors"))
        with self._output.open("w") as output, self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, cwd=ROOT
            )

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()
        self._folder.cleanup()

    def ready(self) -> bool:
        """Tell whether it ended."""
        return self._process.poll() is not None

    def text(self) -> str:
        """Give what it wrote so far."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def failure(self) -> str:
        """Give the last it complained of; empty when it ended well or still runs."""
        if not self._process.poll():
            return ""
        complaint = self._errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return complaint[-1] if complaint else f"ended with code {self._process.returncode}"


class Load(Program):
    """The known load on a GPU, by its PCI bus."""

    def __init__(self, pci_bus: str, seconds: float) -> None:
        super().__init__((sys.executable, "-m", "bench.gpu_load", cuda_bus(pci_bus), str(seconds)))

    def began_ns(self, phase: str) -> int | None:
        """Tell when a phase began; None while it has not."""
        return begun(self.text()).get(phase)

    def phases(self) -> list[Played]:
        """Give the phases that ended."""
        return played(self.text())


def ask() -> Program:
    """Ask nvidia-smi for all it knows."""
    return Program((NVIDIA_SMI, "-q", "-x"))


def power_log(pci_bus: str) -> Program:
    """Let nvidia-smi log the power of a GPU until it is ended."""
    return Program((NVIDIA_SMI, "-i", pci_bus, *_LOG, "-lms", str(LOG_EVERY_MS)))


def cuda_bus(pci_bus: str) -> str:
    """Write a PCI bus id of NVML as CUDA takes it: with a domain of four digits."""
    domain, _, rest = pci_bus.partition(":")
    return f"{domain[-4:]}:{rest}"
