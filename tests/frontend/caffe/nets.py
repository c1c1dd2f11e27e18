"""Small networks, and the two programs that run them: ONNX Runtime (ours) and OpenCV (the reference)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from tilewright.frontend.caffe import CaffeNet, read_caffe, write_caffemodel

Array = npt.NDArray[np.float32]

TOLERANCE = 1e-4
"""Largest relative error max|a - b| / max|b|. Float32 sums of n terms in another order differ by about
sqrt(n) * 6e-8 of the largest term: 6e-6 for the 25088 terms of VGG-16's widest layer, times some ten
layers.
"""


def header(**shapes: Sequence[int]) -> str:
    """Input fields of a prototxt."""
    return "".join(
        f'input: "{name}" input_shape {{ {" ".join(f"dim: {d}" for d in shape)} }}\n'
        for name, shape in shapes.items()
    )


def layer(kind: str, params: str = "", bottoms: Sequence[str] = ("x",), name: str = "y") -> str:
    """One layer whose single top has its name."""
    inputs = " ".join(f'bottom: "{b}"' for b in bottoms)
    return f'layer {{ name: "{name}" type: "{kind}" {inputs} top: "{name}" {params} }}\n'


def load(folder: Path, text: str, seed: int = 1) -> CaffeNet:
    """Convert a prototxt text with random weights."""
    path = folder / "net.prototxt"
    path.write_text(text, encoding="utf-8")
    return read_caffe(path, seed)


def noise(shape: Sequence[int], seed: int = 0) -> Array:
    """Normal noise."""
    return np.random.default_rng(seed).standard_normal(tuple(shape), dtype=np.float32)


def input_shape(model: onnx.ModelProto, index: int = 0) -> tuple[int, ...]:
    """Static shape of an input."""
    return tuple(d.dim_value for d in model.graph.input[index].type.tensor_type.shape.dim)


def run_onnx(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs by name, from ONNX Runtime without its own rewriting beyond the basic level."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in model.graph.output], session.run(None, dict(feeds)), strict=True))


def run_cv2(prototxt: Path, caffemodel: Path, feeds: Mapping[str, Array], *names: str) -> dict[str, Array]:
    """Outputs of layers by name (default: those that nobody reads), from OpenCV."""
    net = cv2.dnn.readNetFromCaffe(str(prototxt), str(caffemodel))
    for name, values in feeds.items():
        net.setInput(values, name)
    wanted = list(names) or list(net.getUnconnectedOutLayersNames())
    return dict(zip(wanted, (np.asarray(v, np.float32) for v in net.forward(wanted)), strict=True))


def both(folder: Path, text: str, feeds: Mapping[str, Array], seed: int = 1) -> tuple[Array, Array]:
    """Output `y` of a generated net with random weights: ours, and OpenCV's on the same weights."""
    net = load(folder, text, seed)
    weights = folder / "net.caffemodel"
    write_caffemodel(weights, net.blobs)
    ours = run_onnx(net.model, feeds)["y"]
    return ours, run_cv2(folder / "net.prototxt", weights, feeds, "y")["y"]


def relative_error(found: Array, reference: Array) -> float:
    """max|found - reference| / max|reference|; infinite where the shapes differ."""
    if found.shape != reference.shape:
        return float("inf")
    scale = float(np.abs(reference).max(initial=0.0))
    return float(np.abs(found - reference).max(initial=0.0)) / (scale or 1.0)
