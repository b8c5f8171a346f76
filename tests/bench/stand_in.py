"""A stand-in for nvidia-smi: its XML, written from what a simulation knows of its GPUs."""

from typing import Self
from xml.etree import ElementTree as ET

from agent.clock import Clock
from agent.simulated.scenario import Simulation
from agent.tick import Reading
from bench.gpu_smi import NUMBERS, TEXTS, WORDS

MIB = 1 << 20
AGO_MS = 1_000


class StandIn:
    """Answers at once, as nvidia-smi would at this moment; `spoil` replaces a text of its answer."""

    def __init__(self, simulation: Simulation, clock: Clock, spoil: tuple[str, str] = ("", "")) -> None:
        self._text = xml(simulation, clock.wall_ms()).replace(*spoil)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing runs."""

    def ready(self) -> bool:
        """Tell that it has answered."""
        return True

    def text(self) -> str:
        """Give the XML."""
        return self._text


def xml(simulation: Simulation, now_ms: int) -> str:
    """Write what nvidia-smi would say of all GPUs of a simulation."""
    log = ET.Element("nvidia_smi_log")
    put(log, "driver_version", simulation.gpu(0).driver)
    put(log, "cuda_version", simulation.gpu(0).cuda)
    for index in range(simulation.count):
        gpu = ET.SubElement(log, "gpu", id=simulation.pci_bus(index))
        put(gpu, "uuid", simulation.uuid(index))
        for name, (place, *_) in TEXTS.items():
            put(gpu, place, getattr(simulation.gpu(index), name) or "N/A")
        reading = simulation.reading(index, now_ms - AGO_MS, now_ms)
        for name, (place, *_) in NUMBERS.items():
            put(gpu, place, written(name, getattr(reading, name)))
        for name, (place, worth) in WORDS.items():
            words = {number: word for word, number in worth.items()}
            put(gpu, place, words.get(getattr(reading, name), "N/A"))
        errors(gpu, reading)
        for process in simulation.processes(index, now_ms * 1000):
            one = ET.SubElement(child(gpu, "processes"), "process_info")
            put(one, "pid", str(process.pid))
            put(one, "used_memory", f"{process.memory_bytes // MIB} MiB")
    return ET.tostring(log, encoding="unicode")


def errors(gpu: ET.Element, reading: Reading) -> None:
    """Write ECC errors, all of them as of the device's memory."""
    for life in ("volatile", "aggregate"):
        for kind, tag in {"corrected": "correctable", "uncorrected": "uncorrectable"}.items():
            count = getattr(reading, f"ecc_{kind}_{life}_total")
            put(gpu, f"ecc_errors/{life}/dram_{tag}", "N/A" if count is None else f"{count:.0f}")


FORMS = (
    ("_bytes", 1 / MIB, "{:.0f} MiB"),
    ("_hertz", 1e-6, "{:.0f} MHz"),
    ("_seconds_total", 1e6, "{:.0f} us"),
    ("_watts", 1.0, "{:.2f} W"),
    ("_celsius", 1.0, "{:.0f} C"),
    ("_lanes", 1.0, "{:.0f}x"),
    ("performance_state_code", 1.0, "P{:.0f}"),
    ("", 1.0, "{:.0f}"),
)
"""Ending of a quantity → how nvidia-smi writes it."""


def written(name: str, value: float | None) -> str:
    """Write a number as nvidia-smi does, by its quantity's unit."""
    if value is None:
        return "N/A"
    return next(form.format(value * factor) for ending, factor, form in FORMS if name.endswith(ending))


def child(parent: ET.Element, tag: str) -> ET.Element:
    """Find an element, or make it."""
    found = parent.find(tag)
    return ET.SubElement(parent, tag) if found is None else found


def put(root: ET.Element, place: str, text: str) -> None:
    """Put a text at a place."""
    for tag in place.split("/"):
        root = child(root, tag)
    root.text = text
