"""Bias correction: take the mean error of each output channel out of the bias.

After Nagel et al. 2019 (see `equalise.py`), section 4.2, in the empirical form: rounding of weights and
clipping of inputs shift the mean of an output channel, and a mean is what a bias can correct. Each operator
is fed with the float network's own input, rounded to that tensor's scale, so that it answers for its own
error and not for that of the layers before it, and one pass over the samples serves all operators.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tilewright.quantize.graph import Graph
from tilewright.quantize.grouping import Scheme
from tilewright.quantize.observe import open_session, require_finite, run_samples, watch_channels
from tilewright.quantize.qdq import integer_steps
from tilewright.quantize.samples import Sample
from tilewright.quantize.units import Unit
from tilewright.quantize.weights import Floats, IntegerWeights


def mean_errors(
    graph: Graph,
    units: list[Unit],
    scheme: Scheme,
    weights: Mapping[str, IntegerWeights],
    batches: Iterable[list[Sample]],
) -> dict[str, Floats]:
    """Return for each MAC unit, by its first node's name, float minus quantised mean of each output channel.

    Raises:
        DataError: an activation is NaN or infinite.
    """
    macs = [unit for unit in units if unit.kind == "mac"]
    if not macs:
        return {}
    exact = [unit.head.output[0] for unit in macs]
    model = graph.slice_model(
        [*exact, *dict.fromkeys(unit.inputs[0] for unit in macs if unit.inputs[0] in graph.producer)]
    )
    model.graph.ClearField("output")
    rounded = [add_rounded(model, unit, scheme, weights[unit.head.name]) for unit in macs]
    rank = {name: len(graph.shapes[source]) for source, name in zip(exact, rounded, strict=True)}
    rank |= {name: len(graph.shapes[name]) for name in exact}
    names = watch_channels(model, exact, rank, "ReduceMean") + watch_channels(
        model, rounded, rank, "ReduceMean"
    )
    sums = [np.zeros(1, np.float64) for _ in macs]
    count = 0
    for values in run_samples(open_session(model), names, batches):
        require_finite(exact, values[: len(macs)])
        for k in range(len(macs)):
            sums[k] = sums[k] + (values[k].astype(np.float64) - values[len(macs) + k])
        count += 1
    return {
        unit.head.name: (total / count).astype(np.float32) for unit, total in zip(macs, sums, strict=True)
    }


def add_rounded(model: onnx.ModelProto, unit: Unit, scheme: Scheme, integers: IntegerWeights) -> str:
    """Add a copy of a MAC unit's first operator with rounded input and weights; return its output's name."""
    graph, head = model.graph, unit.head
    parameters = scheme[unit.inputs[0]]
    base = f"{head.output[0]}/rounded"
    weight, bias = integers.dequantised()
    constants: dict[str, NDArray[np.generic]] = {
        "scale": np.asarray(parameters.scale, np.float32),
        "zero": np.asarray(parameters.zero_point, parameters.dtype),
        "weight": weight,
        "bias": bias,
    }
    graph.initializer.extend(
        numpy_helper.from_array(value, f"{base}/{name}") for name, value in constants.items()
    )
    affine = [f"{base}/scale", f"{base}/zero"]

    def constant(value: int, dtype: type[np.generic]) -> str:
        name = f"{base}/{np.dtype(dtype)}_{value}"
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    steps = integer_steps(parameters, unit.inputs[0], affine, f"{base}/between", f"{base}/q", constant)
    for operator, inputs, output in [*steps, ("DequantizeLinear", [f"{base}/q", *affine], f"{base}/x")]:
        graph.node.append(helper.make_node(operator, inputs, [output], name=output))
    copy = onnx.NodeProto()
    copy.CopyFrom(head)
    copy.name = base
    copy.ClearField("input")
    copy.input.extend([f"{base}/x", f"{base}/weight", f"{base}/bias"])
    copy.output[0] = base
    graph.node.append(copy)
    graph.value_info.append(helper.make_tensor_value_info(base, TensorProto.FLOAT, None))
    return base
