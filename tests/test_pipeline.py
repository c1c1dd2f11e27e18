"""Load, quantise and compile from Python."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

import tilewright as tw
from tests.cli.commands import DEMO, node, small_model, write_model
from tilewright.errors import DataError
from tilewright.quantize import Mixed, QuantizeOptions

IMAGES = np.random.default_rng(2).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def small(tmp_path: Path) -> tw.Model:
    return tw.load(small_model(tmp_path / "net.onnx"), preprocess=tw.Preprocess(mean=128, std=64))


def prepared() -> NDArray[np.float32]:
    """The images as inputs, by the formula."""
    scaled: NDArray[np.float32] = ((IMAGES.astype(np.float32) - 128) / 64).astype(np.float32)
    return scaled.transpose(0, 3, 1, 2)[:, np.newaxis]


def test_load_takes_the_file_for_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes((DEMO / "digits.onnx").read_bytes())
    (tmp_path / "b.deploy").write_bytes((DEMO / "digits.prototxt").read_bytes())
    assert tw.load(tmp_path / "a.bin").name == "a"
    model = tw.load(tmp_path / "b.deploy", DEMO / "digits.caffemodel")
    assert model.input_shapes == {"data": (1, 1, 32, 32)}
    assert model.output_shapes == {"prob": (1, 10)}
    assert (model.classes, model.is_quantised, model.random_weights) == (10, False, False)
    assert next(n.op for n in model.nodes if n.name == "conv1_bn") == "BatchNormalization"


def test_random_weights_are_seeded() -> None:
    def first(seed: int) -> bytes:
        model = tw.load(DEMO / "digits.prototxt", f"random:{seed}")
        assert model.random_weights
        return model.proto.SerializeToString()

    assert first(1) == first(1) != first(2)
    assert tw.load(DEMO / "digits.prototxt", 1).proto.SerializeToString() == first(1)


def test_load_reads_class_names(tmp_path: Path) -> None:
    names = ("tench", "goldfish", "great white shark", "tiger shark", "hammerhead")
    text = "".join(f"n0144076{i} {name}\n" for i, name in enumerate(names))
    (tmp_path / "names.txt").write_text(text, encoding="utf-8")
    model = small_model(tmp_path / "net.onnx")
    assert tw.load(model, labels=tmp_path / "names.txt").labels == names
    assert tw.load(model, labels=names).labels == names
    assert tw.load(model, labels=names[1:], label_offset=1).labels == ("", *names[1:])


def test_class_names_that_do_not_fit(tmp_path: Path) -> None:
    model = small_model(tmp_path / "net.onnx")
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n", encoding="utf-8")
    with pytest.raises(DataError) as raised:
        tw.load(model, labels=tmp_path / "names.txt")
    assert str(raised.value) == (
        f"{tmp_path}/names.txt: expected names of 5 classes, found 4; give one name a line in the order of the classes; "
        "a network with a first class for background takes --label-offset 1"
    )
    with pytest.raises(DataError) as raised:
        tw.load(model, labels=["a"] * 7)
    assert str(raised.value) == (
        "labels: expected names of 5 classes, found 7; give one name a line in the order of the classes"
    )


def test_every_form_of_calibration_gives_the_same_model(small: tw.Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=IMAGES)
    np.save(tmp_path / "set.npy", IMAGES)

    def images() -> Iterator[NDArray[np.uint8]]:
        yield from IMAGES

    forms: list[Any] = [
        IMAGES,
        tmp_path / "set.npz",
        str(tmp_path / "set.npy"),
        images(),
        list(prepared()),
        [{"x": sample} for sample in prepared()],
        tw.open_dataset(IMAGES, input_shapes=small.input_shapes, preprocess=small.preprocess),
    ]
    made = [tw.quantize(small, form) for form in forms]
    assert {m.proto.SerializeToString() for m in made} == {made[0].proto.SerializeToString()}
    assert made[0].is_quantised and made[0].float_proto is small.proto
    assert not made[0].random_calibration
    assert tw.quantize(small, "random:1").random_calibration


def test_quantize_tells_how_far_it_is(small: tw.Model) -> None:
    seen: list[tuple[int, int]] = []
    tw.quantize(small, IMAGES, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] >= 12
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (None, "model net is float and needs a calibration set; "
               "give --calibration DIR or NPZ, or random:1 for studies of speed"),
        ([], "the calibration set is empty: expected at least one sample"),
        ([{"y": np.zeros(1)}], "calibration sample 0: the model has no input 'y': expected x"),
        ([3], "calibration sample 0: expected a mapping with arrays for x, found int"),
        ("random:x", "random:x: expected a number as seed, found 'x'; give random:1"),
    ],
)  # fmt: skip
def test_calibration_that_is_none(small: tw.Model, calibration: Any, message: str) -> None:
    with pytest.raises(tw.TilewrightError) as caught:
        tw.quantize(small, calibration)
    assert str(caught.value) == message


def test_a_float_model_is_not_compiled(small: tw.Model) -> None:
    with pytest.raises(tw.TilewrightError) as caught:
        tw.compile(small)
    assert str(caught.value) == (
        "model net: expected a quantised model, found a float one; "
        "quantise it first: tilewright.quantize(model, calibration=...)"
    )


def test_package_equals_onnx_runtime_on_the_quantised_model(small: tw.Model) -> None:
    """One convolution and a mean: the same integers, so the same floats."""
    quantised = tw.quantize(small, IMAGES)
    package = tw.Package.from_bytes(tw.compile(quantised, tw.overlay("pynq-z1-w8")).to_bytes())
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(quantised.proto.SerializeToString(), options)
    graph = quantised.proto.graph
    last = next(n for n in graph.node if "y" in n.output)
    assert last.op_type == "DequantizeLinear"
    (scale,) = (float(onnx.numpy_helper.to_array(t)) for t in graph.initializer if t.name == last.input[1])
    for sample in prepared()[:4]:
        expected = session.run(None, {"x": sample})[0]
        found = package.run({"x": sample})["y"]
        reference = package.run({"x": sample}, backend="reference")["y"]
        np.testing.assert_array_equal(found, reference)
        # At most one step, where a tie falls the other way; 1 % for the rounding of the product by the scale.
        assert np.abs(found - expected).max() <= 1.01 * scale


def test_equal_input_gives_equal_packages(small: tw.Model) -> None:
    quantised = tw.quantize(small, IMAGES)
    assert tw.compile(quantised).to_bytes() == tw.compile(quantised).to_bytes()


def test_relax_is_what_tvm_takes(small: tw.Model) -> None:
    module = tw.quantize(small, IMAGES).relax()
    assert [str(p.name) for p in module["main"].params] == ["x"]


def test_layers_on_the_host_are_told(tmp_path: Path) -> None:
    """A softmax in the middle keeps the layers behind it on the accelerator and itself on the host."""
    rng = np.random.default_rng(3)
    weights = {name: rng.standard_normal((6, 6, 1, 1)).astype(np.float32) for name in ("a", "b")}
    nodes = [
        node("Conv", ["x", "a"], ["first"], kernel_shape=[1, 1]),
        node("Softmax", ["first"], ["soft"], axis=1),
        node("Conv", ["soft", "b"], ["second"], kernel_shape=[1, 1]),
        node("Identity", ["second"], ["y"]),
    ]
    model = tw.load(write_model(tmp_path / "net.onnx", nodes, weights, {"x": (1, 6, 4, 4)}, ["y"]))
    found = tw.supported(model, "ultra96-w8")
    rows = {row.name: row for row in found.layers}
    assert list(rows) == ["first", "soft", "second", "y"]
    assert [rows[n].place for n in ("first", "soft", "second")] == ["accelerator", "host", "accelerator"]
    assert rows["soft"].reason
    assert (rows["y"].place, rows["y"].macs) == ("accelerator", 0)
    assert rows["y"].reason.startswith("folded into ")
    assert (found.accelerator_macs, found.host_macs) == (2 * 36 * 16, 0)
    package = tw.compile(tw.quantize(model, "random:1"))
    assert package.report["regions"] == 2
    assert package.report["accelerator_macs"] == found.accelerator_macs


def test_tvm_compile_takes_it_as_written(tmp_path: Path) -> None:
    """In a process that has imported nothing else; the package gives the same integers."""
    code = f"""
import numpy as np, tvm
import tilewright as tw
model = tw.load({str(DEMO / "digits.prototxt")!r}, {str(DEMO / "digits.caffemodel")!r})
qmodel = tw.quantize(model, calibration="random:1", bits=8)
x = np.random.default_rng(1).standard_normal((1, 1, 32, 32)).astype(np.float32)
ex = tvm.compile(qmodel.relax(), target=tw.target("ultra96-w8"), relax_pipeline="tilewright")
vm = tvm.relax.VirtualMachine(ex, tvm.cpu())
native = vm["main"](tvm.runtime.tensor(x)).numpy()
packaged = tw.compile(qmodel, target="ultra96-w8").run({{"data": x}})["prob"]
# The two differ in the softmax only, whose sum of ten floats has an order of its own.
assert np.abs(native - packaged).max() < 1e-6 and native.max() > 0.1
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=200, cwd=tmp_path)


def test_quantize_tells_what_each_step_is_worth(small: tw.Model) -> None:
    images = np.concatenate([IMAGES, IMAGES[:, ::-1]])
    low = tw.quantize(small, images, 4, activation_bits=8, mixed="width=8", measure=True)
    assert [step.name for step in low.steps][-2:] == ["+ adaptive rounding", "+ mixed precision"]
    assert all(step.snr > 40 and step.agreement is not None for step in low.steps)
    again = tw.quantize(small, images, options=QuantizeOptions(4, activation_bits=8, mixed=Mixed(width=8)))
    assert again.proto == low.proto and again.steps == ()


def test_quantise_for_an_overlay(small: tw.Model) -> None:
    wide = tw.quantize(small, IMAGES)
    assert tw.quantize(small, IMAGES, target="ultra96-w8").proto == wide.proto
    narrow = tw.quantize(small, IMAGES, target="ultra96-w4")
    whole = QuantizeOptions(score_bits=8, accumulator_bits=tw.overlay("ultra96-w4").acc_bits)
    assert narrow.proto == tw.quantize(small, IMAGES, options=whole).proto != wide.proto


def test_the_quantisers_options_are_the_only_source_of_defaults() -> None:
    options = QuantizeOptions()
    for function, names in ((tw.quantize, ("bits", "method")), (tw.supported, ("bits",))):
        defaults = inspect.signature(function).parameters
        assert {name: defaults[name].default for name in names} == {
            name: getattr(options, name) for name in names
        }
