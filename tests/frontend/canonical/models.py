"""Small models as text, and the check that every rewrite must pass."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from tilewright.frontend.canonical import RewritePass, run_passes
from tilewright.frontend.graph import Graph
from tilewright.frontend.infer_types import infer_types

Array = NDArray[Any]

# Both models compute the same sums of at most a few hundred float32 terms in another order or with constants
# rounded once more: an error of about sqrt(n) * 2**-24 of the largest sum, 1e-6, seldom 1e-5.
TOLERANCE = 1e-5


def build(text: str, **constants: Array) -> ModelProto:
    """Parse ``g (float[1,2] x) => (float[1,2] y) { y = Relu (x) }``; `constants` become initialisers."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {text}')
    for name, array in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    for node in model.graph.node:
        node.name = node.name or f"{node.op_type}_{node.output[0]}"
    return model


def graph_of(model: ModelProto) -> Graph:
    """A graph with all types known, as `canonicalise` makes it."""
    graph = Graph.from_model(model)
    infer_types(graph)
    return graph


def floats(*shape: int, seed: int = 0, low: float | None = None) -> Array:
    """Seeded numbers: normal, or uniform in low..low + 1."""
    random = np.random.default_rng(seed)
    values = random.standard_normal(shape) if low is None else random.uniform(low, low + 1, shape)
    return values.astype(np.float32)


def int64(*values: int) -> Array:
    """A vector of int64, as shapes and axes are."""
    return np.array(values, np.int64)


def run(model: ModelProto, seed: int = 0, positive: bool = False) -> list[Array]:
    """Outputs on seeded inputs, by ONNX Runtime without its optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {
        v.name: floats(*(d.dim_value for d in v.type.tensor_type.shape.dim), seed=seed + i)
        for i, v in enumerate(model.graph.input)
    }
    if positive:
        feeds = {name: np.abs(array) + np.float32(0.1) for name, array in feeds.items()}
    return [np.asarray(a) for a in session.run(None, feeds)]


def assert_equal(
    before: ModelProto, after: ModelProto, tolerance: float = TOLERANCE, seed: int = 0, positive: bool = False
) -> None:
    """Both models give the same outputs, up to `tolerance` of the largest magnitude."""
    for want, have in zip(run(before, seed, positive), run(after, seed, positive), strict=True):
        assert want.shape == have.shape
        assert want.dtype == have.dtype
        assert np.isfinite(want).all()
        if tolerance == 0.0 or want.dtype.kind != "f":
            np.testing.assert_array_equal(have, want)
        else:
            assert np.abs(want.astype(np.float64) - have).max() <= tolerance * np.abs(want).max()


def rewrite(
    model: ModelProto, *passes: RewritePass, tolerance: float = TOLERANCE, positive: bool = False
) -> Graph:
    """Run `passes` to a fixed point; the result is valid, equal in numbers, and a fixed point."""
    graph = graph_of(model)
    run_passes(graph, passes, debug=True)
    after = graph.to_model()
    onnx.checker.check_model(after, full_check=True)
    assert_equal(model, after, tolerance, positive=positive)
    again = graph_of(after)
    for rewrite_pass in passes:
        assert not rewrite_pass(again), f"{rewrite_pass.name} changes its own result"
    names = {n.name for n in graph.nodes}
    lost = {n.name for n in model.graph.node} - names - set(graph.resolved_folds())
    assert not lost, f"no record of {lost}"
    return graph


def ops(graph: Graph) -> dict[str, int]:
    """How often each operator occurs."""
    return dict(Counter(n.op for n in graph.nodes))


def only(graph: Graph, op: str) -> Any:
    """The one node of a type."""
    found = list(graph.of(op))
    assert len(found) == 1, [n.name for n in found]
    return found[0]
