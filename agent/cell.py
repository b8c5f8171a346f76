"""Where the probe is: a few bytes of memory that probe and parent share, written without a system call.

The probe writes when it polled last, and around each call of the driver which one it is in. A parent that
hears nothing reads that the probe is alive, or which function has been at work on which GPU since when, and
so can name what hangs.
"""

import mmap
import os
import struct
from typing import NamedTuple

SIZE = 96
NO_GPU = -1
HEAD = struct.Struct("@qq")
"""Two words of the machine, copied as words: a reader never sees half a number, nor a 0 in between."""
_BEAT = struct.Struct("@q")
_BEATS = slice(0, _BEAT.size)
NUMBERS = slice(_BEAT.size, _BEAT.size + HEAD.size)
_NAME = slice(_BEAT.size + HEAD.size, SIZE)
CALL = slice(NUMBERS.start, SIZE)
NO_CALL = HEAD.pack(0, NO_GPU)


class InCall(NamedTuple):
    """A call that has not come back: on a GPU by its index (NO_GPU for none), since a monotonic moment."""

    since_ns: int
    gpu: int
    function: str


class Cell:
    """The shared bytes. The parent makes one without a descriptor, the probe one of what it was given.

    Calls are written to its `memory` by `begin` and `end`.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = os.memfd_create("gputally-cell") if descriptor is None else descriptor
        os.ftruncate(self.descriptor, SIZE)
        self.memory = mmap.mmap(self.descriptor, SIZE)
        if descriptor is None:
            end(self.memory)

    def beat(self, now_ns: int) -> None:
        """Say that the probe polled, at a monotonic moment."""
        self.memory[_BEATS] = _BEAT.pack(now_ns)

    def beat_ns(self) -> int:
        """Tell when the probe polled last; 0 for never."""
        return int(_BEAT.unpack(self.memory[_BEATS])[0])

    def read(self) -> InCall | None:
        """Tell the call in progress, if there is one; a name that is being written may be cut short."""
        since_ns, index = HEAD.unpack(self.memory[NUMBERS])
        if not since_ns:
            return None
        return InCall(since_ns, index, self.memory[_NAME].partition(b"\0")[0].decode("ascii", "replace"))

    def close(self) -> None:
        """Let go of the memory; doing so twice is harmless."""
        self.memory.close()
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1


Memory = mmap.mmap | bytearray


def begin(memory: Memory, since_ns: int, index: int, name: bytes) -> None:
    """Say that a call begins; `name` is exactly as long as `padded` makes it."""
    memory[CALL] = HEAD.pack(since_ns, index) + name


def end(memory: Memory) -> None:
    """Say that the call came back."""
    memory[NUMBERS] = NO_CALL


def padded(name: str) -> bytes:
    """Make a function's name as long as the cell has room."""
    room = _NAME.stop - _NAME.start
    return name.encode("ascii", "replace")[:room].ljust(room, b"\0")
