"""Quantised networks against ONNX Runtime without optimisations, layer by layer and running freely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.networks.agreement import compare_top1, noise_ratios, up_to_dequantised
from tests.networks.choose import networks
from tests.networks.store import Store

from tilewright.benchmark.networks import NETWORKS
from tilewright.evaluation import package_feeds
from tilewright.integer.evaluate import evaluate
from tilewright.integer.ops import Operator
from tilewright.integer_level import layerwise_compare
from tilewright.pipeline import compile

Array = NDArray[Any]

EQUAL_SHARE = 0.999
LARGE_SET = 500
SAME_CLASS, MAY_DIFFER = 0.99, 2
"""Share of a large set with the same best class, and images of a smaller one that may differ."""
IMAGES = 4
MARGIN_DB = 3.0
RESOLUTION_DB = 6.02 * 8 + 1.76
"""Of an ideal 8-bit quantiser at full scale (IEEE Std 1241, 3.1). ONNX Runtime differs from itself only where it
fuses; where it fuses nothing its ratio is infinite, and noise below that of the 8 bits themselves is none."""


@networks()
def test_each_layer_on_the_integers_of_onnx_runtime(network: str, store: Store) -> None:
    feeds, _ = next(iter(store.case(network).evaluation(1)))
    package = store.package(network, NETWORKS[network].overlays[0])
    rows = layerwise_compare(
        store.quantised(network).proto,
        package_feeds(package, feeds),
        # Of the large nets llvm would compile for minutes; that the engines agree is test_equal's matter.
        engine="numpy" if NETWORKS[network].big else "llvm",
    )
    assert rows
    assert [row for row in rows if row.largest > 1] == []
    assert sum(row.equal for row in rows) >= EQUAL_SHARE * sum(row.elements for row in rows)


@networks(lambda row: row.kind == "classifier")
def test_classifiers_name_the_same_class(network: str, store: Store) -> None:
    package = store.package(network, NETWORKS[network].overlays[0])
    found = compare_top1(package, store.case(network).evaluation())
    allowed = (1 - SAME_CLASS) * found.images if found.images >= LARGE_SET else MAY_DIFFER
    assert found.differ <= allowed


@networks(lambda row: row.kind == "other")
def test_noise_of_other_nets(network: str, store: Store) -> None:
    package = compile(up_to_dequantised(store.quantised(network)), NETWORKS[network].overlays[0])
    simulated, optimised = noise_ratios(package, store.case(network).evaluation(IMAGES))
    assert simulated >= min(optimised, RESOLUTION_DB) - MARGIN_DB


@pytest.mark.parametrize("change", [1, 2])
def test_a_wrong_layer_is_told(change: int, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself: results that are off by one everywhere, or by two somewhere, do not pass."""

    def wrong(op: Operator, arrays: Sequence[Array]) -> Array:
        result = np.array(evaluate(op, arrays))
        flat = result.reshape(-1)
        places = slice(None, None, 1 if change == 1 else flat.size)
        flat[places] = np.bitwise_xor(flat[places], np.array(change, result.dtype))
        return result

    monkeypatch.setattr("tilewright.integer_level.evaluate", wrong)
    feeds, _ = next(iter(store.case("demo").evaluation(1)))
    package = store.package("demo", "ultra96-w8")
    rows = layerwise_compare(store.quantised("demo").proto, package_feeds(package, feeds), engine="numpy")
    assert max(row.largest for row in rows) == change
    if change == 1:
        assert sum(row.equal for row in rows) < EQUAL_SHARE * sum(row.elements for row in rows)
