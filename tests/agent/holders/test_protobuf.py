"""Messages are taken apart as the public library makes them, and garbage is a WireError."""

from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.holders.protobuf import Decoder, last, pieces
from agent.holders.wire import Status, WireError
from tests.kubelet.messages import CLASSES


@given(st.integers(0, 2**63 - 1))
def test_numbers_are_read_as_they_were_written(number: int) -> None:
    """A number of any length comes back."""
    message = CLASSES["ContainerMemory"](size=number, memory_type="memory").SerializeToString()

    fields = Decoder().fields(message)

    assert fields.get(2, [0]) == [number]
    assert last(fields, 1) == b"memory"


@given(st.lists(st.text(max_size=300), max_size=9))
def test_texts_are_read_as_they_were_written(texts: list[str]) -> None:
    """Repeated texts of any length come back in order."""
    message = CLASSES["ContainerDevices"](device_ids=texts).SerializeToString()

    assert [one.decode() for one in pieces(Decoder().fields(message), 2)] == texts


def test_fields_of_fixed_width_are_read() -> None:
    """Messages may hold what this product has no use for."""
    assert Decoder().fields(b"\x09\1\0\0\0\0\0\0\0\x15\2\0\0\0") == {1: [1], 2: [2]}


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x00\x00",
        b"\x0b\x0c",
        b"\x0e",
        b"\x0d\0\0",
        b"\x80\x80\x80\x80\x10\x00",
    ],
)
def test_what_is_not_well_formed_is_refused(message: bytes) -> None:
    """Cut off, too long, of unknown type: nothing is guessed."""
    with pytest.raises(WireError):
        Decoder().fields(message)


@settings(max_examples=500)
@given(st.binary(max_size=60))
def test_garbage_is_refused_or_read_as_the_public_library_reads_it(message: bytes) -> None:
    """What the public library refuses as ill-formed is never accepted."""
    reference: Any = CLASSES["ListPodResourcesRequest"]
    try:
        Decoder().fields(message)
    except WireError:
        return
    with suppress(DecodeError):
        reference.FromString(message)
        return
    pytest.fail(f"{message!r} was accepted")


def test_a_number_where_a_text_belongs_is_refused() -> None:
    """A field of the wrong type is no field to skip."""
    with pytest.raises(WireError):
        pieces(Decoder().fields(b"\x08\x01"), 1)


def test_all_messages_of_a_decoder_share_one_bound() -> None:
    """A message in many small parts costs no more than one in a few large ones."""
    decoder = Decoder(most_fields=10)
    for _ in range(5):
        decoder.fields(b"\x08\x01" * 2)

    with pytest.raises(WireError) as caught:
        decoder.fields(b"\x08\x01")

    assert caught.value.code == Status.RESOURCE_EXHAUSTED
