"""An environment in which commands find no settings of this host."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_state(own_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let commands read no settings file and keep their state in the test's folder."""
    del own_environment  # it comes first
    settings = tmp_path / "none.toml"
    settings.touch()
    monkeypatch.setenv("GPUTALLY_SETTINGS", str(settings))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
