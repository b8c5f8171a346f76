"""What tests of exporters share."""

from pathlib import Path

import pytest


@pytest.fixture
def path(journal: Path, tmp_path: Path) -> Path:
    """Copy the journal of a module, so that each test has one of its own."""
    copy = tmp_path / "j.db"
    copy.write_bytes(journal.read_bytes())
    return copy
