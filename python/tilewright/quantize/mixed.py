"""Mixed precision: which layers keep the low widths, and which get 8 bits for both operands.

The order is by sensitivity for cost, as in Dong et al., "HAWQ", ICCV 2019, and by the measure of Krishnamoorthi 2018
(see `widths.py`): the noise power that a layer alone at low width puts on the network's scores, against the power of
the scores, for each multiply-accumulate that 8 bits would make dearer. Layers are raised in that order

* while the average width of operands, weighted with MACs, stays within the budget (`width`), or
* until the quantised network is certain enough of the float network's classes (`points`): the smallest number of raised
  layers is found by bisection, with the whole quantiser at each step.

Tensors with one scale have one width, so that a raised layer raises the activations of those that read the same tensor;
both measures are taken of what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx

from tilewright.errors import ConfigError, Fault
from tilewright.quantize.correction import add_rounded
from tilewright.quantize.graph import Graph
from tilewright.quantize.grouping import Scheme
from tilewright.quantize.observe import open_session
from tilewright.quantize.options import WHOLE_BITS, Mixed
from tilewright.quantize.samples import Sample
from tilewright.quantize.scoring import noise, run_scores, score_names
from tilewright.quantize.units import Unit
from tilewright.quantize.weights import IntegerWeights
from tilewright.quantize.widths import Operands, Widths

_SAMPLES = 16
_WHOLE = Operands(WHOLE_BITS, WHOLE_BITS)


def count_macs(graph: Graph, unit: Unit) -> int:
    """Return the multiply-accumulates of a MAC unit."""
    node = unit.head
    weight = graph.initializers[node.input[1]]
    name = node.input[0] if node.op_type == "ConvTranspose" else node.output[0]
    shape = graph.shapes[name]
    places = shape[:1] if node.op_type == "Gemm" else (shape[0], *shape[2:])
    return int(np.prod(places)) * int(np.prod(weight.dims))


def average_width(graph: Graph, units: Sequence[Unit], widths: Widths, scheme: Scheme) -> float:
    """Return the mean width of both operands over all multiply-accumulates."""
    macs = [unit for unit in units if unit.kind == "mac"]
    counts = np.array([count_macs(graph, unit) for unit in macs], np.float64)
    bits = [(widths[unit.head.name].weights + scheme[unit.inputs[0]].bits) / 2 for unit in macs]
    return float(np.average(bits, weights=counts)) if counts.any() else float(WHOLE_BITS)


def by_sensitivity(
    graph: Graph,
    units: Sequence[Unit],
    widths: Widths,
    scheme: Scheme,
    weights: Mapping[str, IntegerWeights],
    samples: Sequence[Sample],
) -> list[str]:
    """Return the MAC units below 8 bits, by their first nodes' names, the one to raise first in front.

    Args:
        graph: the float network.
        units: all units of it.
        widths: of the operands.
        scheme: parameters of its tensors at these widths.
        weights: integers at these widths, by each MAC unit's first node's name.
        samples: the first of them are run.
    """
    model = graph.slice_model(score_names(graph.model))
    samples = samples[:_SAMPLES]
    exact = run_scores(open_session(model), samples)
    gain = {}
    for unit in units:
        name = unit.head.name
        if unit.kind == "mac" and min(widths[name].weights, scheme[unit.inputs[0]].bits) < WHOLE_BITS:
            rounded = run_scores(open_session(_with_rounded(model, unit, scheme, weights[name])), samples)
            gain[name] = noise(exact, rounded) / count_macs(graph, unit)
    return sorted(gain, key=lambda name: -gain[name])


def _with_rounded(
    model: onnx.ModelProto, unit: Unit, scheme: Scheme, integers: IntegerWeights
) -> onnx.ModelProto:
    """Return the float model with the operands of one MAC unit rounded."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    made = add_rounded(result, unit, scheme, integers)
    added = list(result.graph.node[len(model.graph.node) :])
    place = next(k for k, node in enumerate(result.graph.node) if node.name == unit.head.name)
    nodes = [*result.graph.node[:place], *added, *result.graph.node[place + 1 : len(model.graph.node)]]
    copy = next(node for node in added if made in node.output)
    copy.output[0] = unit.head.output[0]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    result.graph.ClearField("node")
    result.graph.node.extend(kept)
    del result.graph.value_info[:]
    return result


def raised(widths: Widths, names: Sequence[str]) -> dict[str, Operands]:
    """Return the widths with those of `names` at 8 bits."""
    return {**widths, **dict.fromkeys(names, _WHOLE)}


def within_width(
    order: Sequence[str], widths: Widths, budget: Mixed, width_of: Callable[[Widths], float]
) -> dict[str, Operands]:
    """Return the widths with as many of `order` at 8 bits as the average allows; what is too large is passed over.

    Raises:
        ConfigError: the low widths alone exceed the budget.
    """
    assert budget.width is not None
    least = width_of(widths)
    if least > budget.width:
        raise ConfigError(
            Fault(
                f"mixed width={budget.width:g}: with the first and last layers at their width the average is"
                f" {least:.2f} bits already",
                remedy=f"give at least width={np.ceil(least * 100) / 100:g}, or lower edge_bits",
            )
        )
    chosen: list[str] = []
    for name in order:
        if width_of(raised(widths, [*chosen, name])) <= budget.width:
            chosen.append(name)
    return raised(widths, chosen)


def within_points(
    order: Sequence[str],
    widths: Widths,
    budget: Mixed,
    points_of: Callable[[Widths], float],
) -> dict[str, Operands]:
    """Return the widths with the fewest of `order`, from the first on, at 8 bits that keep the loss.

    Raises:
        ConfigError: 8 bits everywhere lose more.
    """
    assert budget.points is not None
    if points_of(widths) <= budget.points:
        return dict(widths)
    low, high = 0, len(order)
    found = points_of(raised(widths, order))
    if found > budget.points:
        raise ConfigError(
            Fault(
                f"mixed points={budget.points:g}: 8 bits in all layers lose {found:.2f} points on the calibration"
                " set",
                remedy=f"give at least points={np.ceil(found * 100) / 100:g}, or better calibration samples",
            )
        )
    while high - low > 1:
        middle = (low + high) // 2
        if points_of(raised(widths, order[:middle])) <= budget.points:
            high = middle
        else:
            low = middle
    return raised(widths, order[:high])
