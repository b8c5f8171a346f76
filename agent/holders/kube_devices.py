"""Which GPU or slice a device is that Kubernetes speaks of.

What counts is the id of the device; resources may be renamed. In this order:

1. the UUID of a GPU or slice, which a replica for time-slicing or MPS has `::N` behind it;
2. a UUID within a name that CDI has for the device, in any case of letters;
3. `MIG-GPU-UUID/gi/ci` of old drivers, `gpu-N` and `gpu-N-mig-PROFILE-…` of the vendor's driver of DRA,
   `nvidiaN` and `nvidiaN/giM` of GKE's device plugin: N is the minor number, as in /dev/nvidiaN, and a slice
   is known only where the GPU has no other (of that profile);
4. a bare number, of the resource nvidia.com/gpu: the index.

Ids such as `GPU-UUID-3` are no proof: plugins that hand GPUs out by shares decide elsewhere.
"""

import re
from collections.abc import Mapping

from agent.holders.contract import Question
from agent.holders.kubelet import Device

DRA_DRIVER = "gpu.nvidia.com"
INDEXED_RESOURCE = "nvidia.com/gpu"

_RESOURCES = ("nvidia.com/gpu", "nvidia.com/mig-")

_REPLICA = "::"
_OLD_SLICE = re.compile(r"mig-(gpu-[^/]+)/\d{1,4}/\d{1,4}")
_CLAIMED = re.compile(r"gpu-(\d{1,4})(?:-mig-(.+)-\d{1,4}-\d{1,4})?")
_GKE = re.compile(r"nvidia(\d{1,4})(/gi\d{1,4})?(?:/vgpu\d{1,4})?")
_INDEX = re.compile(r"\d{1,4}")
_PUNCTUATION = re.compile(r"[^a-z0-9]+")


class Places:
    """The GPUs and slices of a node by everything that Kubernetes may call them."""

    def __init__(self, question: Question) -> None:
        gpus, slices = question.gpus, question.slices
        self._uuids = {
            uuid.lower(): uuid for uuid in (*(gpu.uuid for gpu in gpus), *(one.uuid for one in slices))
        }
        self._by_minor = {gpu.minor: gpu.uuid for gpu in gpus if gpu.minor}
        self._by_index = {str(gpu.index): gpu.uuid for gpu in gpus}
        self._slices: Mapping[str, tuple[tuple[str, str], ...]] = {
            gpu.uuid: tuple((one.uuid, _plain(one.profile)) for one in slices if one.gpu == gpu.uuid)
            for gpu in gpus
        }

    def uuid(self, device: Device) -> str:
        """Give the UUID of the GPU or slice that a device is; empty where that is not known."""
        name = device.id.partition(_REPLICA)[0].lower()
        found = self._uuids.get(name) or self._within(device.cdi)
        if found:
            return found
        if device.dynamic:
            return self._claimed(name) if device.resource == DRA_DRIVER else ""
        if match := _OLD_SLICE.fullmatch(name):
            return self._only_slice(self._uuids.get(match[1], ""))
        if match := _GKE.fullmatch(name):
            gpu = self._by_minor.get(match[1], "")
            return self._only_slice(gpu) if match[2] else gpu
        if device.resource == INDEXED_RESOURCE and _INDEX.fullmatch(name):
            return self._by_index.get(name, "")
        return ""

    def concerns(self, device: Device) -> bool:
        """Say whether a device whose UUID is not known here is one of the vendor's GPUs or slices."""
        if device.dynamic:
            return device.resource == DRA_DRIVER
        return device.id.startswith(("GPU-", "MIG-")) or device.resource.startswith(_RESOURCES)

    def _within(self, names: tuple[str, ...]) -> str:
        """Give the longest UUID that is part of a name: that of an old slice holds that of its GPU."""
        found = [uuid for name in names for lower, uuid in self._uuids.items() if lower in name.lower()]
        return max(found, key=len, default="")

    def _claimed(self, name: str) -> str:
        match = _CLAIMED.fullmatch(name)
        if not match:
            return ""
        gpu = self._by_minor.get(match[1], "")
        profile = "" if (match[2] or "").isdigit() else match[2]  # older drivers of DRA give a number there
        return self._only_slice(gpu, profile) if match[2] else gpu

    def _only_slice(self, gpu: str, profile: str = "") -> str:
        """Give the only slice of a GPU, or its only one of a profile as names of DRA write it."""
        found = [uuid for uuid, own in self._slices.get(gpu, ()) if profile in {"", own}]
        return found[0] if len(found) == 1 else ""


def _plain(profile: str) -> str:
    """Write a profile as names of DRA do: 1g10gb for 1g.10gb."""
    return _PUNCTUATION.sub("-", profile.lower().replace(".", "")).strip("-")
