"""Recordings say what a driver answered, and not whose it is."""

import json
from pathlib import Path

from bench.gpu_recording import HIDDEN, anonymised, file_name, write

UUID = "GPU-00112233-4455-6677-8899-aabbccddeeff"
SECRETS = {"1650000000017", "hall2-n017", "vm"}


def test_names_of_gpus_and_hosts_are_hidden() -> None:
    """A UUID and a secret go wherever they stand; the rest of the text stays."""
    told = {"row": f"{UUID} of hall2-n017, 1650000000017", "list": ["vm", "nvmlInit", 16500000000170]}
    assert anonymised(told, SECRETS) == {
        "row": f"{HIDDEN} of {HIDDEN}, {HIDDEN}",
        "list": [HIDDEN, "nvmlInit", 16500000000170],
    }


def test_what_a_key_calls_a_name_is_hidden_but_for_its_code() -> None:
    """Whether a serial number was told is kept, not which."""
    told = {
        "nvmlDeviceGetSerial()": {"code": 0, "answer": ["99"]},
        "struct": {"clusterUuid": [1, 2], "chassisSerialNumber": "X7", "ibGuid": "a", "status": 4, "pid": 7},
    }
    assert anonymised(told, ()) == {
        "nvmlDeviceGetSerial()": {"code": 0, "answer": [HIDDEN]},
        "struct": {
            "clusterUuid": [HIDDEN, HIDDEN],
            "chassisSerialNumber": HIDDEN,
            "ibGuid": HIDDEN,
            "status": 4,
            "pid": HIDDEN,
        },
    }


def test_a_recording_is_named_by_model_and_driver(tmp_path: Path) -> None:
    """The file is JSON, and its name is made of plain letters."""
    assert file_name("NVIDIA H200", "580.95.05") == "nvidia-h200-580.95.05.json"
    assert file_name("Tesla T4 / vGPU", "") == "tesla-t4-vgpu-unknown.json"
    path = write(tmp_path / "new", {"model": "NVIDIA H200", "driver": "580", "serial": "1"}, SECRETS)
    assert json.loads(path.read_text(encoding="utf-8"))["serial"] == HIDDEN
