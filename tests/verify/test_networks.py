"""Networks of other kinds: several regions, several inputs, batches, planes; and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

import tilewright as tw
from tests.relay_passes.qdq_graphs import QdqGraph
from tilewright.errors import ConfigError, DataError, PackageError
from tilewright.verify import verify

STREAM = ("integer", "tile", "reference", "fast")


def random_feeds(package: tw.Package, seed: int = 0) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return {t.name: rng.uniform(-5, 5, (1, *t.shape[1:])).astype(np.float32) for t in package.inputs}


def check(package: tw.Package, images: int = 1, levels: tuple[str, ...] = STREAM) -> set[str]:
    """Names of the layers that all levels of the machine were seen at."""
    feeds = [random_feeds(package, seed) for seed in range(images)]
    found = verify(package, feeds, levels=levels, engine="numpy")
    assert found.passed, found.faults
    return {row.name for row in found.rows if {"tile", "reference", "fast"} <= row.cells.keys()}


def convolution(graph: QdqGraph, x: str, channels: int, outputs: int, scale: float) -> str:
    y = graph.op("Conv", x, graph.weights((outputs, channels, 3, 3)), pads=[1, 1, 1, 1])
    return graph.q(y, scale, 120)


def two_regions() -> tw.Model:
    """Convolutions on both sides of an operator of the host."""
    graph = QdqGraph((1, 4, 6, 6))
    x = convolution(graph, graph.x, 4, 24, 0.4)
    x = graph.q(graph.op("Softmax", x, axis=1), 0.004, 0)
    return tw.Model(graph.model(convolution(graph, x, 24, 8, 0.05)))


def two_inputs() -> tw.Model:
    graph = QdqGraph((1, 4, 6, 6))
    graph.inputs.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, (1, 4, 6, 6)))
    a = convolution(graph, graph.x, 4, 8, 0.4)
    b = convolution(graph, graph.q("second", 0.05, 100), 4, 8, 0.4)
    return tw.Model(graph.model(graph.q(graph.op("Add", a, b), 0.6, 128)))


def test_two_regions() -> None:
    package = tw.compile(two_regions(), "ultra96-w8")
    assert len(package.regions) == 2
    assert len(check(package)) == 3  # two convolutions and the output


def test_two_inputs() -> None:
    assert len(check(tw.compile(two_inputs(), "ultra96-w8"))) == 4


def test_planes() -> None:
    """8 bits on an overlay of 4."""
    graph = QdqGraph((1, 4, 6, 6))
    x = convolution(graph, convolution(graph, graph.x, 4, 24, 0.4), 24, 8, 2.0)
    assert len(check(tw.compile(tw.Model(graph.model(x)), "ultra96-w4"))) == 3


@pytest.mark.parametrize("images", [1, 3])
def test_batch(images: int) -> None:
    """A batch that is not full repeats its last image."""
    model = two_inputs()
    package = tw.compile(tw.Model(model.proto, batch=2), "ultra96-w8")
    assert len(check(package, images)) == 4


def test_one_bit() -> None:
    graph = QdqGraph((1, 64, 4, 4))
    x = graph.sign("input")
    y = graph.op("Conv", x, graph.weights((128, 64, 1, 1), bits=1))
    package = tw.compile(tw.Model(graph.model(graph.sign(y))), "ultra96-w1")
    assert len(check(package)) >= 1


def test_a_model_is_compiled() -> None:
    found = verify(
        two_inputs(),
        random_feeds(tw.compile(two_inputs(), "pynq-z1-w8")),
        target="pynq-z1-w8",
        levels=["fast", "integer"],
        engine="numpy",
    )
    assert found.passed and found.overlay == "pynq-z1-w8" and found.levels == ("quantised", "integer", "fast")


def test_refusals(package: tw.Package, feeds: Mapping[str, NDArray[Any]]) -> None:
    with pytest.raises(PackageError) as stripped:
        verify(package.strip(), feeds)
    assert str(stripped.value) == (
        "package digits: `verify` needs the quantised model, and this package was stripped of it; "
        "compile without --strip"
    )
    with pytest.raises(ConfigError) as level:
        verify(package, feeds, levels=["tiles"])
    assert str(level.value) == (
        "levels: expected levels of float, quantised, graph, integer, tile, reference, fast, found 'tiles'"
    )
    with pytest.raises(DataError, match="there is no input; give at least one"):
        verify(package, [])
    with pytest.raises(ConfigError, match="unknown back end 'simm'"):
        verify(package, feeds, levels=["integer"], backends=["simm"], engine="numpy")
