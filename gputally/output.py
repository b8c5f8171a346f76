"""Files that commands write: there whole, or not there; and what is to be said where Parquet cannot be."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from agent.errors import SettingsError


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


def needs_pyarrow(error: ImportError) -> SettingsError:
    """Make the error of a command that cannot write Parquet here."""
    return SettingsError(
        f"--format parquet needs pyarrow ({error}): install it beside gputally with "
        f"{sys.executable} -m pip install 'pyarrow>=18'"
    )
