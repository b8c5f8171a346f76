"""Files of commands: whole, or not there."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from gputally.output import whole_file


def test_a_file_keeps_its_mode_and_a_link_stays(tmp_path: Path) -> None:
    """What it takes the place of is the file, not the way to it."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"before")
    target.chmod(0o640)
    link.symlink_to(target)
    with whole_file(link) as out:
        out.write(b"after")
    assert link.is_symlink()
    assert target.read_bytes() == b"after"
    assert target.stat().st_mode & 0o777 == 0o640


def test_what_is_no_file_is_written_as_it_is(tmp_path: Path) -> None:
    """A pipe has no whole; a folder is an error, as ever."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with whole_file(pipe) as out:
        out.write(b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()
    with pytest.raises(IsADirectoryError), whole_file(tmp_path):
        pass


def test_half_of_a_file_is_seen_by_nobody(tmp_path: Path) -> None:
    """Until it is whole, the name is free."""
    path = tmp_path / "x"
    with suppress(KeyboardInterrupt), whole_file(path) as out:
        out.write(b"half")
        assert not path.exists()
        raise KeyboardInterrupt
    assert not path.exists()
    assert not path.with_name("x.part").exists()
