"""What all tests share: nobody's settings leak in, and a slow machine fails no property."""

import os

import pytest
from hypothesis import settings

settings.register_profile("gputally", deadline=None, print_blob=True)
settings.load_profile("gputally")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take gputally's variables out of the environment of every test."""
    for name in [name for name in os.environ if name.startswith("GPUTALLY_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
