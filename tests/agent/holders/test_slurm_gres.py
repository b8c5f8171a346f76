"""Slurm's lists of hosts, numbers and GPUs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.holders.slurm_gres import Device, Gres, devices_of, gres_of, includes, indexes_of, places
from agent.tick import Gpu

HOSTS = "n[1-3,07-09]a,m,rack[0-1]node[08-12]"


@pytest.mark.parametrize("host", ["n1a", "n3a", "n07a", "n09a", "m", "rack1node08", "rack0node12"])
def test_a_list_of_hosts_names_those_in_its_ranges(host: str) -> None:
    """Ranges keep the width of their first number."""
    assert includes(HOSTS, host)


@pytest.mark.parametrize("host", ["n4a", "n7a", "n007a", "n01a", "n1", "mm", "", "rack2node08", "rack1node8"])
def test_a_list_of_hosts_names_no_others(host: str) -> None:
    """Neither other widths nor parts of names."""
    assert not includes(HOSTS, host)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu:1(IDX:0)", Gres(types=("",), count=1, indexes=frozenset({0}))),
        ("gpu:a100:3(IDX:0-1,3)", Gres(types=("a100",), count=3, indexes=frozenset({0, 1, 3}))),
        ("gpu:a:1(IDX:2),gpu:b:0(IDX:)", Gres(types=("a", "b"), count=1, indexes=frozenset({2}))),
        ("gpu:a:0(IDX:N/A),nic:1(IDX:5)", Gres(types=("a",), indexes=frozenset())),
        ("gpu:2", Gres(types=("",), count=2)),
        ("gpu:h100:8(S:0-1),shard:h100:32(S:0-1)", Gres(types=("h100",), count=8, shared=True)),
        ("shard:3(IDX:1)", Gres(indexes=frozenset({1}), shared=True)),
        ("gpu:0,shard:6(0/4,4/4,2/4)", Gres(types=("",), indexes=frozenset({1, 2}), shared=True)),
        ("(null)", Gres(indexes=frozenset())),
        ("", Gres(indexes=frozenset())),
        ("gpu:1(IDX:0-999999999)", Gres(types=("",), count=1, indexes=frozenset())),
    ],
)
def test_gpus_are_read_from_every_form(text: str, expected: Gres) -> None:
    """With types, indexes, sockets and shards."""
    assert gres_of(text) == expected


def test_numbers_keep_their_order() -> None:
    """Slurm does not sort the files of a list."""
    assert indexes_of("9,5,1-2,x,-3") == (9, 5, 1, 2)


def test_gres_conf_is_read_as_slurm_reads_it() -> None:
    """Names do not mind their case; comments, other nodes and other resources do not count."""
    text = (
        "# Name=gpu File=/dev/nvidia9\n"
        "AutoDetect=off\n"
        "nodename=n[1-2] NAME=gpu type=a100 File=/dev/nvidia[2,0] Cores=0-7\n"
        "NodeName=n3 Name=gpu File=/dev/nvidia7\n"
        "Name=nic File=/dev/nvidia6\n"
        "Name=gpu Type=1g \\\n MultipleFiles=/dev/nvidia1,/dev/nvidia-caps/nvidia-cap21\n"
        "Name=gpu File=/dev/nvidia03,/dev/dri/card1\n"
    )
    expected = (Device("a100", "2"), Device("a100", "0"), Device("1g", ""), Device("", "3"), Device("", ""))
    assert devices_of(text, "n1") == expected


def test_gpus_that_slurm_finds_itself_are_ordered_by_type_then_minor() -> None:
    """Types are parts of models; the node tells their order."""
    gpus = [
        Gpu(uuid="A", index=0, model="NVIDIA A100-SXM4-80GB", minor="3"),
        Gpu(uuid="B", index=1, model="NVIDIA H100 PCIe", minor="1"),
        Gpu(uuid="C", index=2, model="NVIDIA A100-SXM4-80GB", minor="0"),
    ]
    assert places(gpus, ["a100", "nvidia_h100"], ()) == {0: "C", 1: "A", 2: "B"}
    assert places(gpus, ["a100", "rtx"], ()) == {}
    assert places(gpus, [""], ()) == {0: "C", 1: "B", 2: "A"}


def test_a_device_without_a_gpu_leaves_a_gap() -> None:
    """The others keep their places."""
    gpus = [Gpu(uuid="A", index=0, model="x", minor="0"), Gpu(uuid="B", index=1, model="x")]
    devices = [Device("", "5"), Device("", "1"), Device("", ""), Device("", "0")]
    assert places(gpus, [""], devices) == {1: "B", 3: "A"}


@given(st.text(alphabet="gpushard:,()IDX-/0123456789[]n=# \\\n", max_size=200))
def test_no_text_raises(text: str) -> None:
    """Whatever stands there."""
    gres_of(text)
    indexes_of(text)
    includes(text, "n1")
    devices_of(text, "n1")
