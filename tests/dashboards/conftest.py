"""Stores that are filled once for all dashboards."""

from collections.abc import Iterator, Mapping

import pytest

from agent.store import Store
from tests.dashboards.filled import Filled, made, stores


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """Two nodes of eight and four GPUs."""
    return made(tmp_path_factory.mktemp("nodes"))


@pytest.fixture(scope="session")
def servers(filled: Filled) -> Iterator[Mapping[str, Store]]:
    """Both stores, filled."""
    with stores(filled) as found:
        yield found
