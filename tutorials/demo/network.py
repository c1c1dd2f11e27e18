"""The demo's network as one table, and what is made of it: ONNX, Caffe prototxt and Caffe weights.

A stem, a residual block, an inception block with pooling, two wide convolutions and a global average: one of
each thing that a network of that time has. `train.py` trains what the same table describes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[np.float32]
Weights = Mapping[str, Array]

EPSILON = 1e-5  # of every BatchNorm: Caffe's default and ONNX's
INPUT_SHAPE = (1, 1, 32, 32)
CLASSES = 10


@dataclass(frozen=True)
class Conv:
    """Convolution without bias, BatchNorm, and ReLU if `relu`; the padding keeps the size."""

    name: str
    bottom: str
    channels: int
    kernel: int
    relu: bool = True


@dataclass(frozen=True)
class MaxPool:
    """Maximum of a window; the size is rounded up, as Caffe does."""

    name: str
    bottom: str
    kernel: int
    stride: int
    pad: int = 0


@dataclass(frozen=True)
class Add:
    """Sum of two maps, then ReLU."""

    name: str
    bottoms: tuple[str, str]


@dataclass(frozen=True)
class Concat:
    """Maps one after the other along the channels."""

    name: str
    bottoms: tuple[str, ...]


@dataclass(frozen=True)
class GlobalAverage:
    """Mean of each channel."""

    name: str
    bottom: str


@dataclass(frozen=True)
class Dense:
    """Fully connected, with bias."""

    name: str
    bottom: str
    outputs: int


@dataclass(frozen=True)
class Softmax:
    """Probabilities."""

    name: str
    bottom: str


Layer = Conv | MaxPool | Add | Concat | GlobalAverage | Dense | Softmax

LAYERS: tuple[Layer, ...] = (
    Conv("conv1", "data", 16, 3),
    MaxPool("pool1", "conv1", 2, 2),
    Conv("res_a", "pool1", 16, 3),
    Conv("res_b", "res_a", 16, 3, relu=False),
    Add("res", ("pool1", "res_b")),
    Conv("mix_1x1", "res", 16, 1),
    Conv("mix_3x3_reduce", "res", 16, 1),
    Conv("mix_3x3", "mix_3x3_reduce", 24, 3),
    MaxPool("mix_pool", "res", 3, 1, pad=1),
    Conv("mix_pool_proj", "mix_pool", 16, 1),
    Concat("mix", ("mix_1x1", "mix_3x3", "mix_pool_proj")),
    MaxPool("pool2", "mix", 3, 2),
    Conv("conv2", "pool2", 64, 3),
    Conv("conv3", "conv2", 64, 3),
    GlobalAverage("average", "conv3"),
    Dense("score", "average", CLASSES),
    Softmax("prob", "score"),
)


def channels() -> dict[str, int]:
    """Number of channels of every map."""
    found = {"data": INPUT_SHAPE[1]}
    for layer in LAYERS:
        match layer:
            case Conv():
                found[layer.name] = layer.channels
            case Dense():
                found[layer.name] = layer.outputs
            case Concat():
                found[layer.name] = sum(found[bottom] for bottom in layer.bottoms)
            case Add():
                found[layer.name] = found[layer.bottoms[0]]
            case _:
                found[layer.name] = found[layer.bottom]
    return found


# Weights by name: `<conv>.weight` (O, I, K, K), `<conv>.gamma|beta|mean|variance` (O,);
# `<dense>.weight` (O, I), `<dense>.bias` (O,).


def to_onnx(weights: Weights) -> onnx.ModelProto:
    """The network as ONNX with BatchNormalization nodes, opset 21."""
    nodes: list[onnx.NodeProto] = []
    used: list[str] = []

    def node(op: str, inputs: list[str], output: str, **attributes: object) -> None:
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        used.extend(name for name in inputs if name in weights)

    for layer in LAYERS:
        name = layer.name
        match layer:
            case Conv():
                last = f"{name}_bn" if layer.relu else name
                node(
                    "Conv",
                    [layer.bottom, f"{name}.weight"],
                    f"{name}_conv",
                    kernel_shape=[layer.kernel] * 2,
                    pads=[layer.kernel // 2] * 4,
                )
                statistics = [f"{name}.{part}" for part in ("gamma", "beta", "mean", "variance")]
                node("BatchNormalization", [f"{name}_conv", *statistics], last, epsilon=EPSILON)
                if layer.relu:
                    node("Relu", [last], name)
            case MaxPool():
                node(
                    "MaxPool",
                    [layer.bottom],
                    name,
                    kernel_shape=[layer.kernel] * 2,
                    strides=[layer.stride] * 2,
                    pads=[layer.pad] * 4,
                    ceil_mode=1,
                )
            case Add():
                node("Add", list(layer.bottoms), f"{name}_sum")
                node("Relu", [f"{name}_sum"], name)
            case Concat():
                node("Concat", list(layer.bottoms), name, axis=1)
            case GlobalAverage():
                node("GlobalAveragePool", [layer.bottom], name)
            case Dense():
                node("Flatten", [layer.bottom], f"{name}_flat")
                node("Gemm", [f"{name}_flat", f"{name}.weight", f"{name}.bias"], name, transB=1)
            case Softmax():
                node("Softmax", [layer.bottom], name, axis=1)
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, INPUT_SHAPE)],
        [helper.make_tensor_value_info(LAYERS[-1].name, TensorProto.FLOAT, (1, CLASSES))],
        [numpy_helper.from_array(weights[name], name) for name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _layer(name: str, kind: str, bottoms: tuple[str, ...], top: str, *parameters: str) -> str:
    lines = [f'  name: "{name}"', f'  type: "{kind}"']
    lines += [f'  bottom: "{bottom}"' for bottom in bottoms]
    lines += [f'  top: "{top}"', *(f"  {parameter}" for parameter in parameters)]
    return "layer {\n" + "\n".join(lines) + "\n}"


def to_prototxt() -> str:
    """The network as Caffe's deploy text: BatchNorm + Scale after each convolution, in place as usual."""
    dims = " ".join(f"dim: {size}" for size in INPUT_SHAPE)
    layers = [_layer("data", "Input", (), "data", f"input_param {{ shape {{ {dims} }} }}")]
    for layer in LAYERS:
        name = layer.name
        match layer:
            case Conv():
                pad = f" pad: {layer.kernel // 2}" if layer.kernel > 1 else ""
                window = f"num_output: {layer.channels} kernel_size: {layer.kernel}{pad} bias_term: false"
                layers += [
                    _layer(name, "Convolution", (layer.bottom,), name, f"convolution_param {{ {window} }}"),
                    _layer(
                        f"{name}_bn", "BatchNorm", (name,), name, f"batch_norm_param {{ eps: {EPSILON:g} }}"
                    ),
                    _layer(f"{name}_scale", "Scale", (name,), name, "scale_param { bias_term: true }"),
                ]
                if layer.relu:
                    layers.append(_layer(f"{name}_relu", "ReLU", (name,), name))
            case MaxPool():
                pad = f" pad: {layer.pad}" if layer.pad else ""
                window = f"pool: MAX kernel_size: {layer.kernel} stride: {layer.stride}{pad}"
                layers.append(_layer(name, "Pooling", (layer.bottom,), name, f"pooling_param {{ {window} }}"))
            case Add():
                layers.append(
                    _layer(name, "Eltwise", layer.bottoms, name, "eltwise_param { operation: SUM }")
                )
                layers.append(_layer(f"{name}_relu", "ReLU", (name,), name))
            case Concat():
                layers.append(_layer(name, "Concat", layer.bottoms, name))
            case GlobalAverage():
                window = "pooling_param { pool: AVE global_pooling: true }"
                layers.append(_layer(name, "Pooling", (layer.bottom,), name, window))
            case Dense():
                outputs = f"inner_product_param {{ num_output: {layer.outputs} }}"
                layers.append(_layer(name, "InnerProduct", (layer.bottom,), name, outputs))
            case Softmax():
                layers.append(_layer(name, "Softmax", (layer.bottom,), name))
    head = "# Digits 0 to 9, 32x32 gray: (pixel - 128) / 128. Trained by train.py.\n"
    return head + 'name: "digits"\n' + "\n".join(layers) + "\n"


def to_caffe_blobs(weights: Weights) -> dict[str, list[Array]]:
    """Layer name -> blobs in Caffe's order. BatchNorm's third blob divides the first two, and is 1 here."""
    blobs: dict[str, list[Array]] = {}
    for layer in LAYERS:
        name = layer.name
        match layer:
            case Conv():
                blobs[name] = [weights[f"{name}.weight"]]
                one = np.ones(1, np.float32)
                blobs[f"{name}_bn"] = [weights[f"{name}.mean"], weights[f"{name}.variance"], one]
                blobs[f"{name}_scale"] = [weights[f"{name}.gamma"], weights[f"{name}.beta"]]
            case Dense():
                blobs[name] = [weights[f"{name}.weight"], weights[f"{name}.bias"]]
            case _:
                pass
    return blobs
