from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, numpy_helper

from tilewright.errors import ConfigError
from tilewright.frontend.seeded import seed_weights
from tilewright.zoo import light

TEXT = """<ir_version: 8, opset_import: ["" : 9]>
    g (float[1,2,12,12] x) => (float[1,5] y) {
        w = ConstantOfShape <value = float[1] {0.5}> (ws)
        s = ConstantOfShape <value = float[1] {0.5}> (four)
        t = ConstantOfShape <value = float[1] {0.5}> (four)
        m = ConstantOfShape <value = float[1] {0.5}> (four)
        v = ConstantOfShape <value = float[1] {0.5}> (four)
        k = ConstantOfShape <value = float[1] {0.5}> (ks)
        c = Conv (x, w, fixed)
        n = BatchNormalization (c, s, t, m, v)
        r = Relu (n)
        p = GlobalAveragePool (r)
        f = Flatten (p)
        y = Gemm <transB = 1> (f, k, bias) }"""


def _model() -> ModelProto:
    model = onnx.parser.parse_model(TEXT)
    shapes = {"ws": [4, 2, 3, 3], "four": [4], "ks": [5, 4]}
    for name, shape in shapes.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), name))
    for name, count in (("fixed", 4), ("bias", 5)):
        model.graph.initializer.append(numpy_helper.from_array(np.full(count, 0.25, np.float32), name))
    return model


def _weights(model: ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def test_layers_have_deviation_one_and_statistics_fit() -> None:
    seeded = seed_weights(_model(), 3)
    for name in ("c", "n"):
        seeded.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, [1, 4, 10, 10]))
    session = onnxruntime.InferenceSession(seeded.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(9).standard_normal((1, 2, 12, 12), dtype=np.float32)
    result, conv, norm = session.run(None, {"x": x})
    weights = _weights(seeded)
    # another input than the one that was measured: 100 values a channel, so within about 30 %
    assert np.allclose(conv.std(axis=(2, 3)), 1.0, atol=0.35)
    assert np.allclose(norm.std(axis=(2, 3)), weights["s"], rtol=0.35)
    assert result.std() > 0.1
    assert ((weights["s"] >= 0.5) & (weights["s"] <= 1.5)).all()
    assert (weights["fixed"] == 0.25).all(), "weights of the file stay"


def test_the_seed_decides() -> None:
    first, again, other = (seed_weights(_model(), s).SerializeToString(deterministic=True) for s in (1, 1, 2))
    assert first == again != other


def test_the_model_given_is_not_changed() -> None:
    model = _model()
    before = model.SerializeToString(deterministic=True)
    seed_weights(model, 0)
    assert model.SerializeToString(deterministic=True) == before


def test_light_model_is_alive() -> None:
    model = light("squeezenet")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = []
    for seed in (0, 1):
        x = np.random.default_rng(seed).standard_normal((1, 3, 224, 224), dtype=np.float32)
        outputs.append(session.run(None, {model.graph.input[0].name: x})[0].reshape(-1))
    assert outputs[0].std() > outputs[0].mean() / 10, "the classes differ"
    assert np.abs(outputs[0] - outputs[1]).max() > outputs[0].mean() / 10, "the input matters"


def test_unknown_light_model() -> None:
    with pytest.raises(ConfigError) as caught:
        light("resnet51")
    assert str(caught.value) == (
        "zoo: there is no light model 'resnet51'; choose one of bvlc_alexnet, densenet121, inception_v1, "
        "inception_v2, resnet50, shufflenet, squeezenet, vgg19, zfnet512"
    )
