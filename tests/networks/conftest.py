"""One store of networks for a session."""

from __future__ import annotations

import os

import pytest
from tests.networks.store import Store

from tilewright.benchmark.networks import find_data


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Networks, quantised and compiled; processes of one session share its files."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "networks"
    folder.mkdir(exist_ok=True)
    return Store(folder, find_data())


@pytest.fixture
def network(request: pytest.FixtureRequest, store: Store) -> str:
    """The name of a network whose files are there; the test is skipped where they are not."""
    name = str(request.param)
    if not store.has(name):
        pytest.skip(f"{name} needs the shared data, which TILEWRIGHT_DATA or ../shared/data would hold")
    return name
