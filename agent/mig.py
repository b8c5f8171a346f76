"""MIG: the slices of a partitioned GPU, followed while they come and go.

A GPU instance has memory and activity of its own; compute instances in it share both, so only the first of
them tells. Energy, temperature and clocks exist for the whole GPU only and are never repeated per slice.
"""

from ctypes import byref, c_uint
from typing import NamedTuple

from agent.gpm import Gpm
from agent.nvml import Caller, DeviceHandle, Memory, SliceAttributes, versioned
from agent.pieces import SLICE_QUANTITIES
from agent.quantities import Amount
from agent.sanity import believed
from agent.tick import Slice, slice_of

MOST_SLICES = 16
"""More than any GPU can be cut into: what a driver counts is not believed beyond."""
UNKNOWN_INSTANCE = -1
ACTIVITY = frozenset(name for name in SLICE_QUANTITIES if name.endswith("_ratio"))


class _Found(NamedTuple):
    """A slice with its own handle, and whether it is the first of its GPU instance."""

    caller: Caller
    uuid: str
    profile: str
    weight_ratio: float
    instance: int
    first: bool


class Slices:
    """The slices of one GPU; empty while it is not partitioned."""

    def __init__(self, caller: Caller, *, has_gpm: bool) -> None:
        self._caller = caller
        self._has_gpm = has_gpm
        self._found: list[_Found] = []
        self._chains: dict[str, Gpm] = {}
        self._memory = versioned(Memory)
        self._mode = c_uint()
        self._ask_mode = caller.prepare(
            "mig_mode_flag", "nvmlDeviceGetMigMode", byref(self._mode), byref(c_uint())
        )
        self._stale = True

    def enabled(self, *, before: bool | None = None) -> bool | None:
        """Tell whether the GPU is partitioned now; None where it never can be. Raises GpuGone.

        Where the driver fails to tell this time, it is as it was before.
        """
        if not self._ask_mode():
            return None if "mig_mode_flag" in self._caller.refused else before
        return self._mode.value == 1

    def refresh(self) -> None:
        """Look anew for the slices when `take` is next called."""
        self._stale = True

    def uuid_of(self, instance: int | None) -> str:
        """Name the first slice of a GPU instance by its UUID; empty for one that is not known."""
        return next((one.uuid for one in self._found if one.instance == instance and one.first), "")

    def take(self, now_ns: int) -> tuple[Slice, ...]:
        """End an interval: read every slice. Raises GpuGone."""
        if self._stale:
            self._enumerate()
        read = [self._read(one, now_ns) for one in self._found]
        if self._stale:  # the partition changed between two looks
            self._enumerate()
            done = {one.uuid: one for one in read if one.memory_total_bytes is not None}
            read = [done.get(one.uuid) or self._read(one, now_ns) for one in self._found]
        return tuple(read)

    def _enumerate(self) -> None:
        self._stale = False
        most = min(self._caller.number("slices", "nvmlDeviceGetMaxMigDeviceCount") or 0, MOST_SLICES)
        found: list[_Found] = []
        for position in range(most):
            handle, caller = DeviceHandle(), self._caller
            arguments = caller.handle, c_uint(position), byref(handle)
            # A refusal means that there is no slice at this position now, and is not remembered.
            if not caller.nvml.call(caller.index, "nvmlDeviceGetMigDeviceHandleByIndex", *arguments):
                found.append(self._identify(handle, most, {one.instance for one in found}))
        self._found = [one for one in found if one.uuid]
        gone = self._chains.keys() - {one.uuid for one in found}
        for uuid in gone:
            self._chains.pop(uuid).close()

    def _identify(self, handle: object, most: int, instances: set[int]) -> _Found:
        caller = Caller(self._caller.nvml, handle, self._caller.index)
        caller.uuid = self._caller.uuid
        attributes = SliceAttributes()
        sized = (
            caller.ask("slice_attributes", "nvmlDeviceGetAttributes_v2", byref(attributes))
            and attributes.computeInstanceSliceCount <= most
        )
        instance = caller.number("slice_instance", "nvmlDeviceGetGpuInstanceId")
        number = UNKNOWN_INSTANCE if instance is None else instance
        return _Found(
            caller=caller,
            uuid=caller.text("slice_uuid", "nvmlDeviceGetUUID"),
            profile=caller.text("slice_name", "nvmlDeviceGetName").rpartition("MIG ")[2],
            weight_ratio=attributes.computeInstanceSliceCount / most if sized else 0.0,
            instance=number,
            first=number not in instances,
        )

    def _read(self, one: _Found, now_ns: int) -> Slice:
        values: dict[str, Amount] = {}
        if one.first:
            values = self._memory_of(one)
            if self._has_gpm and one.instance != UNKNOWN_INSTANCE:
                chain = self._chains.get(one.uuid)
                if chain is None:
                    chain = self._chains[one.uuid] = Gpm(self._caller, one.instance)
                    chain.want(ACTIVITY)
                values |= chain.take(now_ns)
        return slice_of(one.uuid, one.profile, one.weight_ratio, values)

    def _memory_of(self, one: _Found) -> dict[str, Amount]:
        if not one.caller.ask("slice_memory", "nvmlDeviceGetMemoryInfo_v2", byref(self._memory)):
            self._stale = "slice_memory" not in one.caller.refused
            return {}
        known: dict[str, Amount] = {}
        sizes = {"memory_used_bytes": self._memory.used, "memory_total_bytes": self._memory.total}
        for name, value in sizes.items():
            if believed(name, value):
                known[name] = float(value)
            else:
                one.caller.nvml.failed(one.caller.uuid, name, "impossible")
        return known

    def sm_active_ratio(self, slices: tuple[Slice, ...]) -> Amount:
        """Add up the activity of instances by their shares of the GPU; None where one does not tell."""
        weights: dict[int, float] = {}
        for one in self._found:
            weights[one.instance] = weights.get(one.instance, 0.0) + one.weight_ratio
        told = {one.uuid: weights[one.instance] for one in self._found if one.first}
        parts = [(one.sm_active_ratio, told[one.uuid]) for one in slices if one.uuid in told]
        if len(parts) < len(weights) or any(ratio is None for ratio, _ in parts):
            return None
        return sum((ratio or 0.0) * weight for ratio, weight in parts)

    def close(self) -> None:
        """Forget all slices and give their samples back."""
        for chain in self._chains.values():
            chain.close()
        self._chains.clear()
        self._found = []
        self._stale = True
