"""Whether a pass kept what a network computes: bit for bit at integer levels, within float rounding above.

Rounding of a float network. A sum of n products in float32 (unit roundoff u = 2^-24) is the exact sum of products each
changed by a relative amount of at most n u / (1 - n u) (Higham, Accuracy and Stability of Numerical Algorithms, 2nd
ed., section 3.1), and with a probability near 1 of at most 6 sqrt(n) u (Higham and Mary 2019, SIAM J. Sci. Comput.
41(5), with lambda = 6). A change of the weights stands for that. So two orders of computing, or weights that were
folded, differ by no more than twice what a change of all weights and inputs by that amount does. How much an output
moves per relative change is measured: all constants and inputs are multiplied by 1 +- 2^-10 with random signs, several
times, and the largest movement of an output is scaled down. n is the longest sum of the network; 8 roundings come on
top for functions of one element and for constants that were multiplied together.

Below the quantised level a layer has one rounding: with equal integers in, layers of Relax and of ONNX Runtime differ
by a step at most, where ONNX Runtime's float sum lies at a tie. From the integer level down all is equal: passes are
compared on the network's inputs, the regions of a stream (fast simulator against TVM llvm) on random integers of all
values that their tensors hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tilewright import pipeline
from tilewright.codegen.graph import Graph as RegionGraph
from tilewright.codegen.graph import Tensor
from tilewright.errors import Fault, VerificationError
from tilewright.frontend.dataset import open_dataset
from tilewright.frontend.graph import Graph
from tilewright.frontend.infer_types import infer_types
from tilewright.integer_level import layerwise_compare, region_alone, run_integer
from tilewright.opt.registry import Keeps, PassRow
from tilewright.opt.state import ONNX_LEVELS, State
from tilewright.quantize.observe import open_session
from tilewright.runtime import Package
from tilewright.runtime.session import Session
from tilewright.targets.host_ops import HostDType
from tilewright.targets.program import HostProgram, HostStep, HostTensor

Array = NDArray[Any]
Outputs = list[Array]

_UNIT = 2.0**-24
_PERTURBATION = 2.0**-10
_DRAWS = 3
_ELEMENT_ROUNDINGS = 8
_LAMBDA = 6.0
_SAMPLES = 2


@dataclass(frozen=True)
class Comparison:
    """Results before and after a pass.

    Attributes:
        keeps: what the pass has to keep.
        largest: largest difference; at `steps` that of layers in steps, elsewhere that of outputs.
        allowed: the largest that is; infinite where the pass changes results.
        snr: of the results after the pass against those before it, in dB; infinite where they are equal.
    """

    keeps: Keeps
    largest: float
    allowed: float
    snr: float

    @property
    def holds(self) -> bool:
        """Whether the difference is allowed."""
        return self.largest <= self.allowed


class Checker:
    """Runs a network after each pass and compares with the run before it."""

    def __init__(self, state: State) -> None:
        self.feeds = _feeds(state)
        self.outputs = _run(state, self.feeds)
        self._movement: float | None = None
        self._terms = 0.0
        if state.level == "float":
            self._perturb(state.onnx())

    def check(self, row: PassRow, before: str, state: State) -> Comparison | None:
        """Compare after a pass that ran at level `before`; None where nothing new can be run.

        Raises VerificationError where the pass changed more than it may.
        """
        if state.level in ("planned", "package"):
            return None
        if state.level == "stream":
            difference = _region_difference(state)
            return self._judged(
                row, Comparison("bits", difference, 0.0, math.inf if not difference else -math.inf)
            )
        outputs = _run(state, self.feeds)
        keeps = row.keeps[before]  # type: ignore[index]
        largest, allowed = _largest(self.outputs, outputs), math.inf
        if keeps == "bits":
            allowed = 0.0
        elif keeps == "rounding":
            allowed = self._tolerance(row.tolerance)
        elif keeps == "steps" and state.model is not None:
            layers = [
                layer
                for feed in self.feeds
                for layer in layerwise_compare(state.onnx(), feed, state.module, engine="numpy")
            ]
            largest, allowed = float(max((layer.largest for layer in layers), default=0)), 1.0
        found = Comparison(keeps, largest, allowed, _snr(self.outputs, outputs))
        self.outputs = outputs
        return self._judged(row, found)

    def _judged(self, row: PassRow, found: Comparison) -> Comparison:
        if not found.holds:
            unit = " steps" if found.keeps == "steps" else ""
            raise VerificationError(
                Fault(
                    f"expected a difference of at most {found.allowed:.3g}{unit}, found {found.largest:.3g}{unit}",
                    f"pass {row.name}",
                    f"look at what it did: --print-before {row.name} --print-after {row.name}",
                )
            )
        return found

    def _perturb(self, model: onnx.ModelProto) -> None:
        """Measure how far outputs move when all constants and inputs do."""
        rng = np.random.default_rng(0)
        terms = longest_sum(model)
        self._terms = min(terms, _LAMBDA * math.sqrt(terms)) + _ELEMENT_ROUNDINGS
        self._movement = 0.0
        names = [v.name for v in model.graph.output]
        for _ in range(_DRAWS):
            moved = onnx.ModelProto()
            moved.CopyFrom(model)
            for item in moved.graph.initializer:
                value = numpy_helper.to_array(item)
                if value.dtype == np.float32:
                    item.CopyFrom(numpy_helper.from_array(_moved(value, rng), item.name))
            session = open_session(moved, exact=True)
            for feed, outputs in zip(self.feeds, self._by_sample(), strict=True):
                found = session.run(names, {k: _moved(v, rng) for k, v in feed.items()})
                self._movement = max(self._movement, _largest(outputs, found))

    def _by_sample(self) -> list[Outputs]:
        each = len(self.outputs) // len(self.feeds)
        return [self.outputs[i : i + each] for i in range(0, len(self.outputs), each)]

    def _tolerance(self, more: float) -> float:
        """Largest difference that rounding explains; `more`: relative change of constants that a pass may make."""
        assert self._movement is not None, "float passes run on float networks"
        relative = self._terms * _UNIT / (1 - self._terms * _UNIT)
        size = max((float(np.abs(y).max()) for y in self.outputs if y.size), default=0.0)
        return (2 * relative + more) / _PERTURBATION * self._movement + 2 * _UNIT * size


def longest_sum(model: onnx.ModelProto) -> int:
    """Elements that the widest sum of a network adds up."""
    graph = Graph.from_model(model)
    infer_types(graph)
    most = 1
    for node in graph.nodes:
        result, x = graph.shape(node.output), graph.shape(node.inputs[0]) if node.inputs else None
        weight = graph.shape(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else None
        if node.op in ("Conv", "ConvTranspose") and weight:
            most = max(most, math.prod(weight) // weight[0 if node.op == "Conv" else 1])
        elif node.op in ("Gemm", "MatMul") and x:
            most = max(most, max(x[-2:]))
        elif node.op in ("AveragePool", "LRN"):
            most = max(most, math.prod(node.ints("kernel_shape", [node.int("size", 1)])))
        elif x and result and math.prod(result) and math.prod(x) > math.prod(result):
            most = max(most, math.prod(x) // math.prod(result))
    return most


def _moved(value: Array, rng: np.random.Generator) -> Array:
    if value.dtype != np.float32:
        return value
    signs = rng.integers(0, 2, value.shape) * 2 - 1
    return np.asarray(value * (1 + _PERTURBATION * signs), np.float32)


def _feeds(state: State) -> list[dict[str, Array]]:
    """Inputs of the network by name: calibration samples, or random ones of the inputs' size."""
    if state.model is not None:
        if state.calibration is not None:
            return pipeline.calibration_samples(state.model, state.calibration, state.layout)[:_SAMPLES]
        # Where inputs are images, noise becomes what the network would be given.
        dataset = open_dataset(
            "random:1",
            input_shapes=state.model.input_shapes,
            preprocess=state.model.preprocess,
            count=_SAMPLES,
        )
        return pipeline.calibration_samples(state.model, dataset, state.layout)
    rng = np.random.default_rng(1)
    assert state.module is not None, "a network is ONNX or Relax"
    feeds = []
    for _ in range(_SAMPLES):
        feed: dict[str, Array] = {}
        for parameter in state.module["main"].params:
            shape = [int(d) for d in parameter.ty.shape.values]
            feed[parameter.name] = rng.normal(size=shape).astype(str(parameter.ty.dtype))
        feeds.append(feed)
    return feeds


def _run(state: State, feeds: Sequence[Mapping[str, Array]]) -> Outputs:
    """Outputs for all inputs, one after the other."""
    if state.level in ONNX_LEVELS:
        model = state.onnx()
        session = open_session(model, exact=True)
        names = [v.name for v in model.graph.output]
        return [y for feed in feeds for y in session.run(names, dict(feed))]
    return [y for feed in feeds for y in run_integer(state.module, list(feed.values()))]


def _region_difference(state: State) -> float:
    """Largest difference between regions by TVM llvm and on the fast simulator, on random integers."""
    assert state.regions is not None and state.module is not None, "the level is stream"
    largest = 0.0
    for graph, region in zip(state.regions.graphs, state.streams, strict=True):
        rng = np.random.default_rng(2)
        module = region_alone(state.module, graph.name)
        images = [[_integers(t, rng) for t in graph.inputs] for _ in range(state.batch)]
        expected = [run_integer(module, image) for image in images]
        program = _region_program(graph, state.batch)
        session = Session(Package(graph.name, state.overlay, program, (region,)))
        feeds = {
            t.name: np.concatenate([image[i] for image in images])
            for i, t in enumerate(session.package.inputs)
        }
        found = list(session.run(feeds).outputs.values())
        largest = max(largest, _largest([np.concatenate(ys) for ys in zip(*expected, strict=True)], found))
    return largest


def _integers(tensor: Tensor, rng: np.random.Generator) -> Array:
    held = tensor.range
    return rng.choice(np.arange(held.lo, held.hi + 1, held.step), tensor.shape).astype(tensor.dtype)


def _region_program(graph: RegionGraph, batch: int) -> HostProgram:
    """A host's part that runs one region and nothing else."""
    tensors = [HostTensor(t.name, t.shape, cast(HostDType, t.dtype)) for t in (*graph.inputs, *graph.outputs)]
    inputs = tuple(range(len(graph.inputs)))
    outputs = tuple(range(len(inputs), len(tensors)))
    step = HostStep.of("region", inputs, outputs, index=0)
    return HostProgram(tuple(tensors), {}, inputs, outputs, (step,), batch)


def _largest(before: Outputs, after: Outputs) -> float:
    if [y.shape for y in before] != [y.shape for y in after]:
        return math.inf
    largest = 0.0
    for a, b in zip(before, after, strict=True):
        if a.size and not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
            difference = float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())
            largest = max(largest, difference if math.isfinite(difference) else math.inf)
    return largest


def _snr(before: Outputs, after: Outputs) -> float:
    if [y.shape for y in before] != [y.shape for y in after]:
        return -math.inf
    signal = sum(float(np.square(y.astype(np.float64)).sum()) for y in before)
    noise = sum(
        float(np.square(a.astype(np.float64) - b.astype(np.float64)).sum())
        for a, b in zip(before, after, strict=True)
    )
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
