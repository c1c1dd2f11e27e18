"""Whole networks through the Zynq back end and the device model: the simulator's outputs, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from tests.networks.store import Store

from tilewright.evaluation import package_feeds
from tilewright.runtime import Session
from tilewright.runtime.device_model import DeviceModel

NAMES = [
    "demo",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet8", "det3", "squeezenet_v1.1")),
]


@pytest.mark.parametrize("network", NAMES, indirect=True)
def test_outputs_are_the_simulators(network: str, store: Store) -> None:
    package = store.package(network, "ultra96-w8")
    images = [package_feeds(package, feeds) for feeds, _ in store.case(network).evaluation(2)]
    with DeviceModel(package.overlay) as model:
        session, sim = Session(package, model.uri()), Session(package)
        for feeds in images * 2:
            found, expected = session.run(feeds), sim.run(feeds)
            assert list(found.outputs) == list(expected.outputs)
            for name, value in expected.outputs.items():
                np.testing.assert_array_equal(found.outputs[name], value)
            assert found.counts["cycles"] > 0
        assert model.launches == 4 * len(package.regions)
