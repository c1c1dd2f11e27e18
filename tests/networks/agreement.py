"""A package on the fast simulator beside its quantised model in ONNX Runtime, both running freely."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

import tilewright as tw
from tilewright.evaluation import onnx_session, package_feeds
from tilewright.runtime import Session

Array = NDArray[np.generic]


@dataclass(frozen=True)
class TopClasses:
    """Best classes over a set of images.

    Attributes:
        images: how many.
        differ: images for which the two name different classes. Eight bits leave few steps between a thousand scores,
            so several classes may share the best one; those are all best, and one in common is no difference.
    """

    images: int
    differ: int


def compare_top1(package: tw.Package, images: tw.Dataset) -> TopClasses:
    """Compare best classes on every image."""
    session = Session(package)
    exact = _exact(package)
    output = package.outputs[0].name
    differ = 0
    for feeds, _ in images:
        inputs = dict(package_feeds(package, feeds))
        expected = np.asarray(exact.run([output], inputs)[0]).reshape(-1)
        differ += _best(session.run(inputs).outputs[output]).isdisjoint(_best(expected))
    return TopClasses(len(images), differ)


def _best(scores: Array) -> set[int]:
    flat = scores.reshape(-1)
    return {int(i) for i in np.flatnonzero(flat == flat.max())}


def up_to_dequantised(model: tw.Model) -> tw.Model:
    """A quantised model that ends at its last dequantised tensors: what the host makes of them is left out."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    made_by = {name: node for node in proto.graph.node for name in node.output}
    ends: dict[str, None] = {}
    open_names = [value.name for value in proto.graph.output]
    seen: set[str] = set()
    while open_names:
        name = open_names.pop(0)
        node = made_by.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type == "DequantizeLinear":
            ends[name] = None
        else:
            open_names.extend(node.input)
    needed, names = [], set(ends)
    for node in reversed(proto.graph.node):
        if names.intersection(node.output):
            needed.append(node)
            names.update(node.input)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(needed)]
    del proto.graph.node[:], proto.graph.output[:]
    proto.graph.node.extend(kept)
    proto.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ends
    )
    return dataclasses.replace(model, proto=onnx.shape_inference.infer_shapes(proto))


def noise_ratios(package: tw.Package, images: tw.Dataset) -> tuple[float, float]:
    """Signal-to-noise ratios in dB of all outputs on all images, by the sums of squares.

    Returns:
        of the simulated network, and of ONNX Runtime with its optimisations, each against ONNX Runtime without.
    """
    session = Session(package)
    exact = _exact(package)
    _, quantised = package.require_models("compare")
    optimised = onnx_session(quantised, exact=False)
    names = [tensor.name for tensor in package.outputs]
    rows: list[tuple[Mapping[str, Array], Mapping[str, Array], Mapping[str, Array]]] = []
    for feeds, _ in images:
        inputs = dict(package_feeds(package, feeds))
        rows.append(
            (
                dict(zip(names, exact.run(names, inputs), strict=True)),
                session.run(inputs).outputs,
                dict(zip(names, optimised.run(names, inputs), strict=True)),
            )
        )
    expected, simulated, fused = (
        [np.concatenate([r[i][n].reshape(-1) for r in rows for n in names])] for i in range(3)
    )
    return _decibels(expected[0], simulated[0]), _decibels(expected[0], fused[0])


def _exact(package: tw.Package) -> onnxruntime.InferenceSession:
    return onnx_session(package.require_models("compare")[1], exact=True)


def _decibels(expected: Array, found: Array) -> float:
    wide = expected.astype(np.float64)
    noise = float(np.square(wide - found.astype(np.float64)).sum())
    return float("inf") if noise == 0 else 10 * np.log10(float(np.square(wide).sum()) / noise)
