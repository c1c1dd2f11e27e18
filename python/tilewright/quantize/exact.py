"""Scales with which the float32 sums of a QDQ model are exact, and so equal to the machine's integer sums.

ONNX Runtime multiplies and adds dequantised values. With `x = sx (qx - zx)`, `w = sw qw`, a bias that is a multiple of
`sx sw`, and `sx = X 2^a`, `sw = W 2^b` for integers X and W, every product and every partial sum is `X W n 2^(a+b)`
with an integer n. float32 holds it without rounding, in whatever order it is added up, while `|X W n| < 2^24`. Scales
as they come out of a range have 24 bits each, and then the sums are rounded; now and then one ends on the other side
of a half, and from there on the networks differ. So scales get short mantissas:

* Activations get powers of two, X = 1. That costs no range: every tensor between convolutions may be multiplied by a
  factor c > 0, as equalisation does channel by channel (`equalise.py`), until its range fits. Tensors that an
  addition, pooling, concat, clamp or layout joins have one factor, so that not all of them fit at once: X of 3 bits is
  allowed for those that MAC units make, and c is where the least resolution is lost. The factor is 1, and X has 5 bits,
  for graph inputs, for what functions other than f(c x) = c f(x) read or make, and for what the host reads in 8 bits.
* Weights get `W = t Y`, t of 5 bits, where `sy = Y 2^c` is the scale of the result. At most a sixteenth, on average
  2 %, of their resolution goes, and `X Y n` has 19 bits of room.

What is left is one division and rounding, `rint(y / sy) + zy`, with halves to even. They are no rare case now: the
sums form a lattice. The machine's `rne((acc m + B) / 2^s)` treats them alike where

* its multiplier `sx sw / sy = X t 2^k` is exact in 24 bits: hence the factor Y in W; an addition needs Y = 1,
* zy is even, for it is added before rounding.

A mean over n values has the multiplier `sx / (n sy)`, in lowest terms p / q: exact if q is a power of two, and no mean
is a half if q is odd, so `sy` is the smallest scale with one or the other. Where there is none, and where the result of
an addition or product has no factor of its own, the scale keeps its full mantissa; halves are as rare there as before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import numpy_helper

from tilewright.quantize.affine import Affine
from tilewright.quantize.graph import Graph
from tilewright.quantize.grouping import Scheme, read_in_float
from tilewright.quantize.units import Unit, attribute

# Mantissas, divided by the last one: from a half, itself a power of two, to 1.
_POWERS = (1, 2)
_SHORT = (4, 5, 6, 7, 8)
_LONGER = tuple(range(16, 33))
_BITS = 5
# One step of 8 bits may be lost at the end of a range, as 1 in 0..1 at the scale 1/256.
_ONE_STEP = 1 / 255
# Float rounding of scales and factors.
_NOTHING = 2.0**-30
# What a power of two is worth over another short scale, in bits of resolution: sums have more room.
_PREFERENCE = 0.02


def odd_part(scale: np.float32) -> int:
    """Return Y of `scale = Y 2^c`, Y odd, where Y has at most 5 bits; 1 for all longer ones."""
    fraction, _ = np.frexp(np.float64(scale))
    value = float(np.ldexp(fraction, _BITS))
    if not value.is_integer():
        return 1
    return int(value) // (int(value) & -int(value))


def weight_scales(least: NDArray[np.float64], result: np.float32) -> NDArray[np.float64]:
    """Return the smallest scales `t Y 2^k`, t of 5 bits, that are not below `least`; Y is that of `result`."""
    odd = odd_part(result)
    return odd * _round_up(least / odd, _LONGER, _NOTHING)


def _round_up(values: ArrayLike, mantissas: tuple[int, ...], slack: float) -> NDArray[np.float64]:
    """Return the smallest scales with one of `mantissas` that are less than `slack`, relatively, below `values`."""
    fraction, exponent = np.frexp(np.asarray(values, np.float64) * (1 - slack))
    steps = np.array(mantissas, np.float64) / mantissas[-1]
    return np.asarray(np.ldexp(steps[np.searchsorted(steps, fraction)], exponent))


def short_scales(graph: Graph, units: list[Unit], scheme: Scheme) -> tuple[Scheme, dict[str, float]]:
    """Return the scheme with short scales, and the factor c of each tensor, for `multiply`.

    Args:
        graph: the float network.
        units: all units of it.
        scheme: the parameters that the tensors' ranges ask for.
    """
    mantissas = _mantissas(graph, units, scheme)
    even = {group: _with_even_zero(affine) for group, affine in scheme.parameters.items()}
    factors: dict[str, float] = {}
    # Where neither a factor nor a longer mantissa helps, the range keeps all its resolution.
    parameters = dict(scheme.parameters)
    unchanged: set[str] = set()
    for names, fixed in _tied(graph, units, scheme):
        groups = dict.fromkeys(scheme.group[name] for name in names)
        factor = 1.0 if fixed else _best_factor([(float(even[g].scale), mantissas[g]) for g in groups])
        factors |= dict.fromkeys(names, factor)
        for group in groups:
            if fixed and even[group].bits <= 8:
                if mantissas[group] == _POWERS:
                    unchanged.add(group)
                    continue
                mantissas[group] = _LONGER
            scale = _round_up(factor * float(even[group].scale), mantissas[group], _ONE_STEP)
            parameters[group] = replace(even[group], scale=np.float32(scale))
    for unit in units:
        source, group = scheme.group[unit.inputs[0]], scheme.group[unit.outputs[0]]
        if unit.kind == "average" and source != group and group not in unchanged:
            needed = factors[group] * float(even[group].scale)
            counts = _counts(graph, unit)
            smallest = _mean_scale(needed, mantissas[group], parameters[source].scale, counts)
            parameters[group] = replace(parameters[group], scale=np.float32(smallest))
    return Scheme(scheme.group, parameters), factors


def _mantissas(graph: Graph, units: list[Unit], scheme: Scheme) -> dict[str, tuple[int, ...]]:
    """Return the mantissas that each group's scale may have."""
    result: dict[str, tuple[int, ...]] = {
        group: _SHORT if affine.bits <= 8 else _POWERS for group, affine in scheme.parameters.items()
    }
    for unit in units:
        source, group = scheme.group[unit.inputs[0]], scheme.group[unit.outputs[0]]
        requantised = unit.kind == "concat" and any(scheme.group[name] != group for name in unit.inputs)
        if unit.kind == "binary" or requantised:
            result[group] = _POWERS
        elif unit.kind == "average":
            uneven = any(count & (count - 1) for count in _counts(graph, unit))
            result[source if uneven else group] = _POWERS
    return result


def _with_even_zero(affine: Affine) -> Affine:
    """Return parameters with an even zero point that cover the range of `affine`."""
    zero, largest = affine.zero_point, affine.largest
    if zero % 2 == 0:
        return affine
    candidates = [
        (max(zero / even, (largest - zero) / (largest - even)), even)
        for even in (zero - 1, zero + 1)
        if 0 < even < largest
    ]
    wider, even = min(candidates)
    return replace(affine, scale=np.float32(float(affine.scale) * wider), zero_point=even)


def _tied(graph: Graph, units: list[Unit], scheme: Scheme) -> list[tuple[list[str], bool]]:
    """Return the sets of tensors that have one factor, with whether it must be 1."""
    parent = {name: name for name in scheme.group}

    def find(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    made = {name for unit in units for name in unit.outputs}
    fixed = read_in_float(graph, units) | (scheme.group.keys() - made)
    for name, group in scheme.group.items():
        parent[find(name)] = find(group)
    for unit in units:
        names = (*unit.inputs, *unit.outputs)
        if unit.kind == "table" or unit.head.op_type == "Mul":
            fixed |= {*names}
        elif unit.kind != "mac":
            for name in names[1:]:
                parent[find(name)] = find(names[0])
    sets: dict[str, list[str]] = {}
    for name in scheme.group:
        sets.setdefault(find(name), []).append(name)
    return [(names, not fixed.isdisjoint(names)) for names in sets.values()]


def _best_factor(members: list[tuple[float, tuple[int, ...]]]) -> float:
    """Return the c of 1..2 with which scales and their mantissas lose least when rounded up."""

    by_mantissas: dict[tuple[int, ...], list[float]] = {}
    for scale, mantissas in members:
        by_mantissas.setdefault(mantissas, []).append(scale)

    def cost(factor: float) -> float:
        total = 0.0
        for mantissas, scales in by_mantissas.items():
            needed = factor * np.array(scales)
            rounded = _round_up(needed, mantissas, _ONE_STEP)
            longer = np.count_nonzero(np.frexp(rounded)[0] != 0.5)
            total += float(np.log2(rounded / needed).sum()) + _PREFERENCE * longer
        return total

    # Each member in turn becomes a power of two.
    candidates = {float(_round_up(scale, _POWERS, 0.0)) / scale for scale, _ in members}
    return min(candidates, key=lambda factor: (round(cost(factor), 6), factor))


def _counts(graph: Graph, unit: Unit) -> set[int]:
    """Return how many values the means are over."""
    node = unit.head
    if node.op_type == "GlobalAveragePool":
        return {int(np.prod(graph.shapes[node.input[0]][2:]))}
    # Windows that reach past the border may be of any smaller size.
    kernel = attribute(node, "kernel_shape")
    assert isinstance(kernel, list)
    counts = {1}
    for length in kernel:
        counts = {count * part for count in counts for part in range(1, length + 1)}
    return counts


def _mean_scale(needed: float, mantissas: tuple[int, ...], source: np.float32, counts: set[int]) -> float:
    """Return the smallest scale from `needed` up that rounds means as floats do, or `needed` if twice that does not."""
    scale = float(_round_up(needed, mantissas, _ONE_STEP))
    while scale <= 2 * needed:
        ratio = Fraction(float(source)) / Fraction(scale)
        divisors = [(ratio / count).denominator for count in counts]
        if all(divisor % 2 == 1 or divisor & (divisor - 1) == 0 for divisor in divisors):
            return scale
        scale = float(_round_up(scale * (1 + 2 * _NOTHING), mantissas, _NOTHING))
    return needed


def multiply(graph: Graph, units: list[Unit], factors: Mapping[str, float]) -> Graph:
    """Return the network with each tensor `name` times `factors[name]`, by its weights and clamps alone.

    Tensors that differ from those of their neighbours by a factor are joined by MAC units, which hold it; what the host
    reads has the factor 1, so that the network's function is the same but for float rounding.
    """
    result = onnx.ModelProto()
    result.CopyFrom(graph.model)
    constants = {item.name: item for item in result.graph.initializer}
    for unit in units:
        factor = factors[unit.outputs[0]]
        for node in unit.nodes:
            copy = result.graph.node[graph.index[id(node)]]
            changes = {}
            if unit.kind == "mac" and node is unit.head:
                changes = {1: factor / factors[unit.inputs[0]], 2: factor}
            elif node.op_type == "Clip":
                changes = {1: factor, 2: factor}
            for place, change in changes.items():
                if change == 1.0 or place >= len(copy.input) or not copy.input[place]:
                    continue
                item = constants[copy.input[place]]
                if len(graph.consumers[item.name]) > 1:
                    item = result.graph.initializer.add()
                    item.CopyFrom(constants[copy.input[place]])
                    item.name = graph.unique(f"{node.name}_input{place}")
                    copy.input[place] = item.name
                value = np.asarray(numpy_helper.to_array(item), np.float64) * change
                item.CopyFrom(numpy_helper.from_array(np.asarray(value, np.float32), item.name))
    return Graph(result)
