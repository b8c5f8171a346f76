"""What all tests share: nobody's settings leak in, and a slow machine fails no property."""

import os

import pytest
from hypothesis import settings

settings.register_profile("gputally", deadline=None, print_blob=True)
settings.load_profile("gputally")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take gputally's variables, and the width of a terminal, out of the environment of every test."""
    for name in [name for name in os.environ if name.startswith("GPUTALLY_")]:
        monkeypatch.delenv(name)
    for name in ("STATE_DIRECTORY", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
