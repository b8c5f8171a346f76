"""What Kubernetes calls a device is made the UUID of a GPU or slice, or nothing; it is never guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.holders.contract import Question, SliceOf
from agent.holders.kube_devices import Places
from agent.holders.kubelet import Device
from agent.tick import Gpu

ZERO = "GPU-551720f0-caf0-22b7-f525-2a51a6ab478d"
ONE = "GPU-661720f0-caf0-22b7-f525-2a51a6ab478d"
TWO = "GPU-771720f0-caf0-22b7-f525-2a51a6ab478d"
SMALL = "MIG-11111111-caf0-22b7-f525-2a51a6ab478d"
SMALL_TOO = "MIG-22222222-caf0-22b7-f525-2a51a6ab478d"
MEDIA = "MIG-33333333-caf0-22b7-f525-2a51a6ab478d"
ALONE = "MIG-44444444-caf0-22b7-f525-2a51a6ab478d"
OLD = f"MIG-{TWO}/1/0"
CLAIM = "0a1b2c3d-0000-4000-8000-000000000000"

# Minor numbers run against the indices, as they do on some boards.
PLACES = Places(
    Question(
        gpus=(
            Gpu(uuid=ZERO, index=0, model="H", minor="2"),
            Gpu(uuid=ONE, index=1, model="H", minor="1"),
            Gpu(uuid=TWO, index=2, model="A", minor="0"),
        ),
        slices=(
            SliceOf(SMALL, ONE, "1g.10gb"),
            SliceOf(SMALL_TOO, ONE, "1g.10gb"),
            SliceOf(MEDIA, ONE, "1g.10gb+me"),
            SliceOf(ALONE, TWO, "3g.40gb"),
        ),
    )
)


def plugged(name: str, resource: str = "nvidia.com/gpu") -> str:
    """Give the UUID of a device of a plugin."""
    return PLACES.uuid(Device(resource, name))


def claimed(name: str, *cdi: str, driver: str = "gpu.nvidia.com") -> str:
    """Give the UUID of a device of a claim."""
    return PLACES.uuid(Device(driver, name, dynamic=True, cdi=cdi))


@pytest.mark.parametrize(
    ("name", "uuid"),
    [
        (ZERO, ZERO),
        (f"{ZERO}::3", ZERO),
        (SMALL, SMALL),
        (f"{SMALL}::0", SMALL),
        (f"MIG-{TWO}/9/0", ALONE),
        (f"MIG-{ONE}/9/0", ""),
        ("nvidia2", ZERO),
        ("nvidia2/vgpu1", ZERO),
        ("nvidia0/gi4", ALONE),
        ("nvidia0/gi4/vgpu7", ALONE),
        ("nvidia1/gi4", ""),
        ("nvidia7", ""),
        (f"{ZERO}-3", ""),
        (f"{ZERO}-_-3", ""),
        ("GPU-ffffffff-caf0-22b7-f525-2a51a6ab478d", ""),
        ("0000:1b:00.0", ""),
        ("", ""),
    ],
)
@pytest.mark.parametrize(
    "resource", ["nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-1g.10gb", "our.org/a"]
)
def test_the_id_tells_and_not_the_resource(name: str, uuid: str, resource: str) -> None:
    """Resources are renamed, for sharing and at will; ids are what the plugin knows."""
    assert plugged(name, resource) == uuid


@pytest.mark.parametrize(
    ("name", "resource", "uuid"),
    [
        ("0", "nvidia.com/gpu", ZERO),
        ("2::1", "nvidia.com/gpu", TWO),
        ("3", "nvidia.com/gpu", ""),
        ("0", "nvidia.com/gpu.shared", ""),
        ("0", "amd.com/gpu", ""),
        ("0", "nvidia.com/imex-channel", ""),
    ],
)
def test_a_bare_number_is_an_index_of_a_gpu_only(name: str, resource: str, uuid: str) -> None:
    """Of any other resource a number may be anything."""
    assert plugged(name, resource) == uuid


@pytest.mark.parametrize(
    ("name", "cdi", "uuid"),
    [
        ("gpu-0", (), TWO),
        ("gpu-2", (), ZERO),
        ("gpu-2", (f"k8s.gpu.nvidia.com/claim={CLAIM}-gpu-2",), ZERO),
        ("gpu-2", (f"k8s.gpu.nvidia.com/device={ONE}",), ONE),
        ("gpu-9", (f"k8s.gpu.nvidia.com/claim={CLAIM}-{ONE}",), ONE),
        ("any", (f"k8s.gpu.nvidia.com/device={SMALL.lower()}",), SMALL),
        (ZERO.lower(), (), ZERO),
        ("gpu-0-mig-3g40gb-9-0", (), ALONE),
        ("gpu-0-mig-9-0-4", (), ALONE),
        ("gpu-0-mig-1g10gb-19-0", (), ""),
        ("gpu-1-mig-1g10gb-me-20-0", (), MEDIA),
        ("gpu-1-mig-1g10gb-19-3", (), ""),
        ("gpu-1-mig-19-3-1", (), ""),
        ("gpu-7", (), ""),
        ("gpu-vfio-0", (), ""),
        ("", (), ""),
    ],
)
def test_a_claimed_device_is_known_by_uuid_else_by_minor_number(
    name: str, cdi: tuple[str, ...], uuid: str
) -> None:
    """The vendor's driver of DRA counts by minor number; names of CDI may hold the UUID."""
    assert claimed(name, *cdi) == uuid


def test_the_names_of_other_drivers_mean_nothing_here() -> None:
    """Only a UUID counts, whoever says it."""
    assert claimed("gpu-0", driver="gpu.example.com") == ""
    assert claimed("gpu-0", f"x/y={ONE}", driver="gpu.example.com") == ONE


def test_the_uuid_of_an_old_slice_holds_that_of_its_gpu() -> None:
    """The longer one is meant."""
    places = Places(
        Question(gpus=(Gpu(uuid=TWO, index=0, model="A"),), slices=(SliceOf(OLD, TWO, "1g.5gb"),))
    )

    assert places.uuid(Device("nvidia.com/mig-1g.5gb", OLD)) == OLD
    assert places.uuid(Device("gpu.nvidia.com", "x", dynamic=True, cdi=(f"nvidia.com/gpu={OLD}",))) == OLD


@pytest.mark.parametrize(
    ("device", "ours"),
    [
        (Device("nvidia.com/gpu", "7"), True),
        (Device("nvidia.com/gpu.shared", "x::1"), True),
        (Device("nvidia.com/mig-1g.10gb", "x"), True),
        (Device("our.org/a", "GPU-x"), True),
        (Device("gpu.nvidia.com", "gpu-9", dynamic=True), True),
        (Device("nvidia.com/hostdev", "0000:1b:00.0"), False),
        (Device("compute-domain.nvidia.com", "channel-0", dynamic=True), False),
        (Device("amd.com/gpu", "0"), False),
    ],
)
def test_strange_devices_are_missed_only_where_they_are_gpus(device: Device, ours: bool) -> None:  # noqa: FBT001
    """A network card of the same vendor is nobody's GPU."""
    assert PLACES.concerns(device) is ours


@given(st.text(max_size=40), st.text(max_size=20), st.lists(st.text(max_size=20), max_size=2))
def test_any_name_is_a_device_known_here_or_nothing(name: str, resource: str, cdi: list[str]) -> None:
    """Nothing that is said gives a UUID that this node has not."""
    known = {"", ZERO, ONE, TWO, SMALL, SMALL_TOO, MEDIA, ALONE}
    for dynamic in (False, True):
        assert PLACES.uuid(Device(resource, name, dynamic=dynamic, cdi=tuple(cdi))) in known
