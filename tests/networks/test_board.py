"""The same network here, by the Python class for boards on a device model, and on a board's server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.networks.store import Store
from tests.tune.workers import process, registered, tracker, wait_until

import tilewright as tw
from tilewright.evaluation import package_feeds
from tilewright.export.tilewright_board import Overlay
from tilewright.runtime.cross import LIBRARY
from tilewright.runtime.device_model import DeviceModel
from tilewright.runtime.native import library_path

OVERLAY = "ultra96-w8"
NETS = [
    pytest.param(name, id=name, marks=pytest.mark.slow)
    for name in ("demo", "resnet8", "det3", "squeezenet_v1.1")
]


@pytest.fixture(scope="module")
def board() -> Iterator[tuple[str, int]]:
    """A tracker with a server of key `board`."""
    with (
        tracker() as at,
        process("tilewright.runtime.server", "--tracker", f"{at[0]}:{at[1]}", "--key", "board"),
    ):
        wait_until(lambda: registered(at, "board") == 1)
        yield at


@pytest.mark.parametrize("network", NETS, indirect=True)
def test_everywhere_the_same_bits(network: str, store: Store, board: tuple[str, int], tmp_path: Path) -> None:
    package = store.package(network, OVERLAY)
    feeds, _ = next(iter(store.case(network).evaluation(1)))
    inputs = package_feeds(package, feeds)
    expected = tw.Session(package).run(inputs).outputs
    package.strip().save(tmp_path / "net.twp")
    found: dict[str, dict[str, NDArray[Any]]] = {}
    with (
        DeviceModel(package.overlay) as model,
        Overlay(tmp_path / "net.twp", model.uri(), library_path(LIBRARY)) as overlay,
    ):
        found["class on the device model"] = overlay.run(inputs)
        cycles = overlay.counts["cycles"]
    with tw.connect(board, "board") as connected:
        result = connected.open(package).run(inputs, cycles=True)
        found["server"] = result.outputs
    assert result.counts["cycles"] == cycles > 0
    for where, outputs in found.items():
        assert list(outputs) == list(expected), where
        for name, array in expected.items():
            assert outputs[name].dtype == array.dtype
            np.testing.assert_array_equal(outputs[name], array, err_msg=f"{where}: {name}")
