"""Random networks: hypothesis chooses the layers, a seed the weights, scales and zero points."""

from __future__ import annotations

import onnx
from hypothesis import strategies as st
from tests.relay_passes.qdq_graphs import QdqGraph

from tilewright.benchmark.fuzz.layers import AFTER, KINDS, LayerPlan, NetworkPlan, Writer


def _pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


LAYERS = st.builds(
    LayerPlan,
    kind=st.sampled_from(KINDS),
    source=st.integers(0, 3),
    other=st.integers(0, 3),
    kernel=_pairs(1, 5),
    strides=_pairs(1, 3),
    dilation=_pairs(1, 2),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    channels=st.integers(1, 40),
    after=st.sampled_from(AFTER),
)


def plans(most: int) -> st.SearchStrategy[NetworkPlan]:
    """Networks of up to `most` layers."""
    return st.builds(
        NetworkPlan,
        seed=st.integers(0, 2**16),
        shape=st.tuples(st.integers(1, 4) | st.integers(1, 20), st.integers(1, 14), st.integers(1, 14)),
        dtype=st.sampled_from(("uint8", "int8")),
        layers=st.lists(LAYERS, min_size=1, max_size=most).map(tuple),
    )


def write(plan: NetworkPlan) -> onnx.ModelProto:
    """A plan as a QDQ model."""
    return Writer(plan, QdqGraph((1, *plan.shape), plan.dtype, plan.seed)).model(plan.layers)
