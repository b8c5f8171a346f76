"""Files that commands write: there whole, or not there."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of the one of that name when all went well, else leaves it be.

    It grows under the name with `.part` behind. What is no plain file, a pipe or a device, is written as it
    is. Raises OSError.
    """
    target = path.resolve()  # a link stays, what it points to is replaced
    if target.exists() and not target.is_file():
        with target.open("wb") as out:
            yield out
        return
    beside = target.with_name(f"{target.name}.part")
    try:
        with beside.open("wb") as out:
            if target.exists():
                os.fchmod(out.fileno(), target.stat().st_mode & 0o777)
            yield out
            out.flush()
            os.fsync(out.fileno())
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
