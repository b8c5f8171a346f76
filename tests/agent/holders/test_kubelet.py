"""What the kubelet gave is read from its socket as it is, and what is wrong there is said."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agent.holders.kubelet as product
from agent.holders.contract import WorldError
from agent.holders.kubelet import Device, Grant, Kubelet
from agent.holders.wire import WireError
from tests.kubelet import stand_in
from tests.kubelet.messages import claim, container, devices, listing, offering, pod
from tests.kubelet.rude import repeating, rude, silent

ONE, TWO = "GPU-00000000-0000-0000-0000-000000000001", "GPU-00000000-0000-0000-0000-000000000002"
NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a name for the socket."""
    return tmp_path / "kubelet.sock"


@pytest.fixture
def kubelet() -> stand_in.Kubelet:
    """Give a kubelet that serves nowhere yet."""
    return stand_in.Kubelet()


def grants(path: Path) -> tuple[Grant, ...]:
    """Ask what was given."""
    return Kubelet(socket=path, timeout_seconds=30).ask().grants


def trouble(path: Path, seconds: float = 30) -> str:
    """Give why it could not be asked."""
    with pytest.raises(WorldError) as caught:
        Kubelet(socket=path, timeout_seconds=seconds).ask()
    return str(caught.value)


def test_devices_are_told_with_pod_and_container(path: Path, kubelet: stand_in.Kubelet) -> None:
    """Each device is one grant."""
    kubelet.pods = (pod("train-0", container("main", devices(ONE, TWO), cpus=[1, 2, 3])),)

    with kubelet.on(path):
        assert grants(path) == (
            Grant("research", "train-0", "main", Device("nvidia.com/gpu", ONE)),
            Grant("research", "train-0", "main", Device("nvidia.com/gpu", TWO)),
        )


def test_claims_are_told_with_what_cdi_calls_them(path: Path, kubelet: stand_in.Kubelet) -> None:
    """A device of DRA is a driver's, by name."""
    kubelet.pods = (pod("train-0", container("main", claims=[claim("gpu-1", f"a/b={ONE}", "a/b=c")])),)

    with kubelet.on(path):
        (grant,) = grants(path)

    assert grant.device == Device("gpu.nvidia.com", "gpu-1", dynamic=True, cdi=(f"a/b={ONE}", "a/b=c"))


def test_pods_without_devices_are_not_told(path: Path, kubelet: stand_in.Kubelet) -> None:
    """Most pods hold none."""
    kubelet.pods = (pod("web", container("main", cpus=[4])), pod("empty"))

    with kubelet.on(path):
        assert grants(path) == ()


def test_a_thousand_pods_cost_little(path: Path, kubelet: stand_in.Kubelet) -> None:
    """Ten times what a kubelet allows by default is read well below the time of a refresh."""
    kubelet.pods = tuple(
        pod(f"pod-{n}", container("main", devices(f"{ONE}::{n}"), cpus=range(8)), container("side"))
        for n in range(1000)
    )
    with kubelet.on(path):
        grants(path)  # loads what is loaded once
        before = time.thread_time()
        told = grants(path)
        took = time.thread_time() - before

    assert len(told) == 1000
    assert took < 0.5  # some 25 ms on a machine that is not busy


def test_an_answer_of_many_megabytes_is_read(path: Path, kubelet: stand_in.Kubelet) -> None:
    """Flow control lets a long answer through."""
    kubelet.pods = tuple(pod(f"pod-{n}", container("main", devices("x" * 1000))) for n in range(8000))

    with kubelet.on(path):
        assert len(grants(path)) == 8000


def test_a_restart_of_the_kubelet_needs_no_care(path: Path, kubelet: stand_in.Kubelet) -> None:
    """The socket is made anew; the next question goes there."""
    asker = Kubelet(socket=path, timeout_seconds=30)
    kubelet.pods = (pod("train-0", container("main", devices(ONE))),)

    with kubelet.on(path):
        first = asker.ask()
    path.unlink(missing_ok=True)
    with pytest.raises(WorldError):
        asker.ask()
    with kubelet.on(path):
        assert asker.ask() == first


def test_what_may_be_given_out_is_told_where_the_kubelet_says_so(
    path: Path, kubelet: stand_in.Kubelet
) -> None:
    """Once a minute is enough: it changes with the hardware."""
    now = 1000.0
    asker = Kubelet(socket=path, timeout_seconds=30, monotonic=lambda: now)
    kubelet.offers = offering(devices(ONE, TWO))

    with kubelet.on(path):
        asker.ask()
        told = asker.ask()
        assert kubelet.asked == {"List": 2, "GetAllocatableResources": 1}
        now += product.OFFERS_SECONDS
        asker.ask()

    assert told.offers == (Device("nvidia.com/gpu", ONE), Device("nvidia.com/gpu", TWO))
    assert kubelet.asked == {"List": 3, "GetAllocatableResources": 2}


def test_a_kubelet_that_cannot_tell_what_it_may_give_is_not_asked_again(
    path: Path, kubelet: stand_in.Kubelet
) -> None:
    """UNIMPLEMENTED is remembered, for an hour; what was given is told all the same."""
    now = 1000.0
    asker = Kubelet(socket=path, timeout_seconds=30, monotonic=lambda: now)
    kubelet.pods = (pod("train-0", container("main", devices(ONE))),)

    with kubelet.on(path):
        for _ in range(3):
            now += product.OFFERS_SECONDS
            told = asker.ask()
        assert kubelet.asked == {"List": 3, "GetAllocatableResources": 1}
        now += product.NO_OFFERS_SECONDS
        asker.ask()

    assert told.offers is None
    assert len(told.grants) == 1
    assert kubelet.asked["GetAllocatableResources"] == 2


def test_a_silent_kubelet_costs_its_timeout_and_is_named(path: Path) -> None:
    """The sentence says where, how long, and where to look."""
    with rude(path, silent):
        said = trouble(path, 0.2)

    assert str(path) in said
    assert "within 0.2 s" in said
    assert "overloaded" in said


def test_a_stranger_on_the_socket_is_named(path: Path) -> None:
    """Something that does not speak gRPC is told by what it said."""
    with rude(path, repeating(b"garbage" * 100)):
        assert "no usable answer" in trouble(path)


def test_no_socket_is_told_from_no_kubelet(path: Path, kubelet: stand_in.Kubelet) -> None:
    """Missing, and left behind: each has its own advice."""
    assert "there is no" in trouble(path)
    with rude(path, silent):
        path.rename(path.with_suffix(".old"))
        path.touch()
    assert "nobody listens" in trouble(path.with_suffix(".old"))
    path.unlink(missing_ok=True)
    with kubelet.on(path):
        assert grants(path) == ()


@contextmanager
def nobody() -> Iterator[None]:
    """Be no superuser for a while."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_socket_that_may_not_be_opened_says_who_may(path: Path, kubelet: stand_in.Kubelet) -> None:
    """The kubelet's socket is root's."""
    asker = Kubelet(socket=path, timeout_seconds=30)
    with kubelet.on(path):
        asker.ask()  # loads what nobody may read
        path.parent.chmod(0)
        try:
            with nobody(), pytest.raises(WorldError) as caught:
                asker.ask()
            with nobody():
                assert asker.available()
        finally:
            path.parent.chmod(0o700)

    assert "run the agent as root" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (grpc.StatusCode.UNIMPLEMENTED, "Kubernetes 1.20"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "too much"),
        (grpc.StatusCode.INTERNAL, "status 13"),
    ],
)
def test_refusals_of_the_kubelet_are_told(
    path: Path, kubelet: stand_in.Kubelet, code: grpc.StatusCode, word: str
) -> None:
    """With what it said itself."""
    kubelet.refusal = (code, "rejected by\nrate limit")

    with kubelet.on(path):
        assert word in trouble(path)


def test_whether_there_is_a_kubelet_is_told_cheaply(path: Path, kubelet: stand_in.Kubelet) -> None:
    """By the socket alone."""
    asker = Kubelet(socket=path)

    assert not asker.available()
    path.touch()
    assert not asker.available()
    with kubelet.on(path):
        assert asker.available()
        assert kubelet.asked["List"] == 0
    assert not Kubelet(socket=Path("\0")).available()


def test_names_are_short_and_printable(path: Path, kubelet: stand_in.Kubelet) -> None:
    """Whatever is on the other side of the socket may say anything."""
    hostile = 'a\n"\x1b[31m\u202e' + "x" * 100_000
    kubelet.pods = (
        pod(
            hostile,
            container(hostile, devices(hostile, resource=hostile), claims=[claim(hostile, hostile)]),
            namespace=hostile,
        ),
    )

    with kubelet.on(path):
        told = grants(path)

    texts = [
        text
        for grant in told
        for text in (*grant[:3], grant.device.resource, grant.device.id, *grant.device.cdi)
    ]
    assert len(texts) == 11
    assert all(text.isascii() and text.isprintable() and len(text) <= 253 for text in texts)
    assert all(len(grant.namespace) <= 63 and len(grant.container) <= 63 for grant in told)


NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=9)
HELD = st.builds(lambda ids, name: devices(*ids, resource=name), st.lists(NAMES, max_size=3), NAMES)
CLAIMS = st.lists(st.builds(claim, NAMES, NAMES), max_size=2)
CONTAINERS = st.builds(
    lambda name, held, claims: container(name, *held, claims=claims),
    NAMES,
    st.lists(HELD, max_size=3),
    CLAIMS,
)
PODS = st.lists(
    st.builds(lambda name, held: pod(name, *held), NAMES, st.lists(CONTAINERS, max_size=3)), max_size=4
)


@settings(deadline=None)
@given(PODS)
def test_any_listing_is_read_as_it_was_meant(pods: list[object]) -> None:
    """All devices, and only they, in order."""
    message = listing(*pods)
    expected = []
    for one in message.pod_resources:
        for part in one.containers:
            held = [Device(group.resource_name, name) for group in part.devices for name in group.device_ids]
            held += [
                Device(
                    each.driver_name,
                    each.device_name,
                    dynamic=True,
                    cdi=tuple(cdi.name for cdi in each.cdi_devices),
                )
                for asked in part.dynamic_resources
                for each in asked.claim_resources
            ]
            expected += [Grant(one.namespace, one.name, part.name, device) for device in held]

    assert list(product._grants(message.SerializeToString())) == expected


@settings(deadline=None)
@given(
    PODS, st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=5), st.integers(0, 10_000)
)
def test_a_damaged_listing_raises_nothing_else(
    pods: list[object], wrong: list[tuple[int, int]], cut: int
) -> None:
    """Wrong bytes and a wrong end are a listing or a WireError."""
    message = bytearray(listing(*pods).SerializeToString())
    for at, byte in wrong:
        if message:
            message[at % len(message)] = byte

    with suppress(WireError):
        list(product._grants(bytes(message[: cut % (len(message) + 1)])))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_for_a_listing_raises_nothing_else(message: bytes) -> None:
    """Anything at all is a listing or a WireError."""
    with suppress(WireError):
        list(product._grants(message))
