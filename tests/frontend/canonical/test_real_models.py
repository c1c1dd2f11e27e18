"""Whole networks agree with their files in ONNX Runtime, and hold only operators of the canonical form.

Float: folded BatchNormalization and LRN as a matrix round anew in every layer; through up to 60 layers
that grows to a few 1e-5 of the largest output, so 1e-4 is asked for. QDQ models must be equal bit for bit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from tilewright.frontend import canonicalise, folded_nodes, load_onnx
from tilewright.frontend.canonical import PASSES
from tilewright.frontend.graph import Graph
from tilewright.zoo import LIGHT_MODELS, light

from .models import assert_equal, graph_of

FLOAT = (
    "espcn/nn_resize_float.onnx",
    "espcn/subpixel_float.onnx",
    "mlperf_tiny/ad01_fp32_fp32.onnx",
    "mlperf_tiny/kws_ref_model_float32_fp32.onnx",
    "mlperf_tiny/pretrainedResnet_fp32.onnx",
    "mlperf_tiny/vww_96_float_fp32.onnx",
    "mnist/mnist.onnx",
    "mnist/qonnx_model.onnx",
    "mobilenet_v1_0.25_coral/mobilenet_v1_0.25_128_quant_fp32.onnx",
    "resnet20_cifar10/resnet20_cifar10.onnx",
    "shufflenetv2_cifar10/shufflenetv2_cifar10.onnx",
)
QUANTISED = (
    "mlperf_tiny/ad01_int8_qdq.onnx",
    "mlperf_tiny/kws_ref_model_qdq.onnx",
    "mlperf_tiny/pretrainedResnet_quant_qdq.onnx",
    "mlperf_tiny/vww_96_int8_qdq.onnx",
    "mobilenet_v1_0.25_coral/mobilenet_v1_0.25_128_quant_qdq.onnx",
    "mobilenet_v2_coral/mobilenet_v2_1.0_224_quant_qdq.onnx",
)
CANONICAL = {
    *("Conv", "Gemm", "MaxPool", "AveragePool", "GlobalAveragePool", "Add", "Mul", "Pow", "Relu", "Clip"),
    *("Concat", "Slice", "Split", "Reshape", "Transpose", "Resize", "DepthToSpace", "Pad", "Softmax"),
}
NETWORK_TOLERANCE = 1e-4


def check(original: ModelProto, loaded: ModelProto, tolerance: float) -> Graph:
    """The canonical form equals the file, is complete and a fixed point; every node's fate is known."""
    canonical = canonicalise(loaded, debug=True)
    assert_equal(original, canonical, tolerance)
    graph = graph_of(canonical)
    assert not any(p(graph) for p in PASSES if p.on_quantised or not graph.is_quantised())
    names = {n.name for n in canonical.graph.node}
    folded = folded_nodes(canonical)
    assert {n.name for n in loaded.graph.node} <= names | set(folded)
    assert set(folded.values()) <= names | {""}
    return graph


def fixed_batch(model: ModelProto) -> ModelProto:
    """The file's model with a symbolic batch set to 1, for ONNX Runtime's input."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.WhichOneof("value") == "dim_param":
                dim.dim_value = 1
    constants = {t.name for t in copy.graph.initializer}
    real = [v for v in copy.graph.input if v.name not in constants]
    del copy.graph.input[:]
    copy.graph.input.extend(real)
    copy.ir_version = max(copy.ir_version, 4)
    return copy


@pytest.mark.parametrize("name", FLOAT)
def test_float(shared_data: Path, name: str) -> None:
    path = shared_data / "onnx" / name
    graph = check(fixed_batch(onnx.load(path)), load_onnx(path), NETWORK_TOLERANCE)
    assert {n.op for n in graph.nodes} <= CANONICAL
    assert all(len(n.inputs) == 3 for n in graph.of("Conv", "Gemm"))


@pytest.mark.parametrize("name", QUANTISED)
def test_quantised_is_equal_bit_for_bit(shared_data: Path, name: str) -> None:
    path = shared_data / "onnx" / name
    loaded = load_onnx(path)
    graph = check(fixed_batch(onnx.load(path)), loaded, 0.0)
    before = [n.name for n in loaded.graph.node if n.op_type.endswith("Linear")]
    assert [n.name for n in graph.nodes if n.op.endswith("Linear")] == before


def test_mnist_against_its_test_pair(shared_data: Path) -> None:
    folder = shared_data / "onnx" / "mnist"
    graph = graph_of(canonicalise(load_onnx(folder / "mnist.onnx")))
    assert [n.op for n in graph.nodes] == [*("Conv", "Relu", "MaxPool") * 2, "Reshape", "Gemm"]
    assert graph.resolved_folds() == {
        "Plus30": "Convolution28",
        "Plus112": "Convolution110",
        "Times212_reshape1": "Times212",
        "Plus214": "Times212",
    }


SMALL = ("squeezenet", "inception_v1", "shufflenet")


@pytest.mark.parametrize(
    "name", [n if n in SMALL else pytest.param(n, marks=pytest.mark.slow) for n in LIGHT_MODELS]
)
def test_light(name: str) -> None:
    model = light(name, seed=1)
    graph = check(model, model, NETWORK_TOLERANCE)
    assert {n.op for n in graph.nodes} <= CANONICAL


@pytest.mark.parametrize(
    "name", ["squeezenet", "shufflenet", pytest.param("densenet121", marks=pytest.mark.slow)]
)
def test_light_as_shipped(name: str) -> None:
    """Loading itself, with ConstantOfShape, old opsets and initialised inputs, changes nothing."""
    path = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx"
    assert_equal(fixed_batch(onnx.load(path)), load_onnx(path))


def test_densenet_keeps_one_convolution_for_each_batch_norm_after_a_concat() -> None:
    path = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_densenet121.onnx"
    graph = graph_of(canonicalise(load_onnx(path)))
    count = {op: sum(1 for _ in graph.of(op)) for op in ("Conv", "Mul", "Add", "BatchNormalization")}
    # 121 convolutions; 59 BatchNormalizations follow another one and fold, 62 follow Concat or pooling
    assert count == {"Conv": 121 + 62, "Mul": 0, "Add": 0, "BatchNormalization": 0}
    assert np.all([len(n.inputs) == 3 for n in graph.of("Conv")])
