"""Messages of protobuf, taken apart field by field and strictly: what is not well-formed is a WireError.

Nothing here recurses: a message within a message is bytes until somebody asks for its fields.
"""

from agent.holders.wire import Status, WireError

MOST_FIELDS = 500_000

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_WIDTHS = {_FIXED_64: 8, _FIXED_32: 4}
_LONGEST_VARINT = 10
_MOST_FIELD_NUMBER = (1 << 29) - 1

Fields = dict[int, list[int | bytes]]


class Decoder:
    """Takes messages of protobuf apart; all messages that one decoder is given share one bound on fields."""

    def __init__(self, most_fields: int = MOST_FIELDS) -> None:
        self._left = most_fields

    def fields(self, message: bytes) -> Fields:
        """Give the values of each field by its number, in order: bytes if they have a length, else numbers.

        Raises WireError where the message is not well-formed, or larger than is sane.
        """
        found: Fields = {}
        at, end = 0, len(message)
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise WireError("a protobuf message has more fields than is sane", Status.RESOURCE_EXHAUSTED)
            key, at = _varint(message, at)
            number, kind = key >> 3, key & 7
            if not 0 < number <= _MOST_FIELD_NUMBER:
                raise WireError("a protobuf field has an impossible number")
            value: int | bytes
            if kind == _VARINT:
                value, at = _varint(message, at)
            else:
                value, at = _piece(message, at, kind)
            found.setdefault(number, []).append(value)
        return found


def pieces(fields: Fields, number: int) -> list[bytes]:
    """Give all values of a field that must be messages or texts. Raises WireError."""
    found = []
    for value in fields.get(number, ()):
        if isinstance(value, int):
            raise WireError("a protobuf field is a number where a message or text belongs")
        found.append(value)
    return found


def last(fields: Fields, number: int) -> bytes:
    """Give the value of a field that is there once at most, empty where it is not there. Raises WireError."""
    found = pieces(fields, number)
    return found[-1] if found else b""


def _piece(message: bytes, at: int, kind: int) -> tuple[int | bytes, int]:
    """Give a value that is no varint, and where the next thing begins."""
    if kind == _BYTES:
        width, at = _varint(message, at)
    elif kind in _WIDTHS:
        width = _WIDTHS[kind]
    else:
        raise WireError("a protobuf field has an unknown type")
    if width > len(message) - at:
        raise WireError("a protobuf field ends behind its message")
    piece = message[at : at + width]
    return piece if kind == _BYTES else int.from_bytes(piece, "little"), at + width


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Give the number that begins there, and where the next thing begins."""
    value = message[at] if at < len(message) else 0x80
    if value < 0x80:  # noqa: PLR2004  most numbers are one byte without the mark that more follow
        return value, at + 1
    value &= 0x7F
    for index, byte in enumerate(message[at + 1 : at + _LONGEST_VARINT], 1):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:  # noqa: PLR2004
            if value >> 64:
                break
            return value, at + index + 1
    raise WireError("a protobuf number is cut off or too long")
