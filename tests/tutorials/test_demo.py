"""The demo's files: the Caffe form equals the ONNX form, and the images are what the README says."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from tilewright.frontend.caffe import load_caffe, write_caffemodel
from tilewright.frontend.dataset import Dataset, open_dataset
from tilewright.frontend.labels import topk
from tilewright.frontend.preprocess import Preprocess

DEMO = Path(__file__).resolve().parents[2] / "tutorials" / "demo"
SHAPES = {"data": (1, 1, 32, 32)}
PREPROCESS = Preprocess(mean=128, std=128)


@pytest.fixture
def demo_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The scripts import each other as neighbours."""
    monkeypatch.syspath_prepend(str(DEMO))
    yield
    for name in ("data", "network"):
        sys.modules.pop(name, None)


def _open(name: str) -> Dataset:
    return open_dataset(
        DEMO / name, input_shapes=SHAPES, preprocess=PREPROCESS, labels_required=True, classes=10
    )


def _onnx_scores(data: Dataset) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(DEMO / "digits.onnx")
    return np.concatenate([session.run(None, feeds)[0] for feeds, _ in data])


def test_caffe_and_onnx_forms_agree() -> None:
    cv2 = pytest.importorskip("cv2")
    network = cv2.dnn.readNetFromCaffe(str(DEMO / "digits.prototxt"), str(DEMO / "digits.caffemodel"))
    data = _open("digits_test.npz")
    found = []
    for feeds, _ in data:
        network.setInput(feeds["data"])
        found.append(network.forward().copy())
    expected = _onnx_scores(data)
    # Float sums in another order: far below the 1e-4 that imported nets are held to.
    assert np.abs(np.concatenate(found) - expected).max() / np.abs(expected).max() < 1e-5


def test_imported_caffe_form_agrees_with_the_onnx_form() -> None:
    model = load_caffe(DEMO / "digits.prototxt", DEMO / "digits.caffemodel")
    session = onnxruntime.InferenceSession(model.SerializeToString())
    data = _open("digits_calibration.npz")
    found = np.concatenate([session.run(["prob"], feeds)[0] for feeds, _ in data])
    expected = _onnx_scores(data)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5


def test_float_accuracy_on_images_never_seen() -> None:
    data = _open("digits_test.npz")
    assert len(data) >= 300
    assert data.labels is not None
    accuracy = topk(_onnx_scores(data), data.labels, 1)
    assert accuracy is not None and accuracy >= 98
    text = (DEMO / "README.md").read_text(encoding="utf-8")
    assert f"({accuracy:g} %)" in text


def test_test_images_are_not_calibration_images() -> None:
    test, calibration = np.load(DEMO / "digits_test.npz"), np.load(DEMO / "digits_calibration.npz")
    assert {key: test[key].dtype for key in test} == {"images": np.uint8, "labels": np.uint8}
    assert not {i.tobytes() for i in test["images"]} & {i.tobytes() for i in calibration["images"]}
    assert np.bincount(test["labels"], minlength=10).tolist() == [40] * 10
    assert np.bincount(calibration["labels"], minlength=10).min() >= 9


@pytest.mark.usefixtures("demo_modules")
def test_images_are_scikit_learns_and_test_images_not_trained_on() -> None:
    pytest.importorskip("sklearn")
    data = importlib.import_module("data")
    training, calibration, test = data.split()
    assert {i.tobytes() for i in test.images}.isdisjoint(i.tobytes() for i in training.images)
    assert {i.tobytes() for i in calibration.images} <= {i.tobytes() for i in training.images}
    for part, name in ((calibration, "digits_calibration.npz"), (test, "digits_test.npz")):
        stored = np.load(DEMO / name)
        assert np.array_equal(part.labels, stored["labels"])
        # Pillow's filter may round a pixel to the other side in another release.
        assert np.abs(part.images.astype(int) - stored["images"]).max() <= 1


@pytest.mark.usefixtures("demo_modules")
def test_files_come_from_the_table(tmp_path: Path) -> None:
    network = importlib.import_module("network")
    model = onnx.load(DEMO / "digits.onnx")
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert network.to_onnx(weights) == model
    assert network.to_prototxt() == (DEMO / "digits.prototxt").read_text(encoding="utf-8")
    write_caffemodel(tmp_path / "again.caffemodel", network.to_caffe_blobs(weights))
    assert (tmp_path / "again.caffemodel").read_bytes() == (DEMO / "digits.caffemodel").read_bytes()


def test_the_network_has_what_the_demo_promises() -> None:
    kinds = re.findall(r'type: "(\w+)"', (DEMO / "digits.prototxt").read_text(encoding="utf-8"))
    count = {kind: kinds.count(kind) for kind in kinds}
    assert count["Convolution"] >= 6
    assert count["BatchNorm"] == count["Scale"] == count["Convolution"]
    assert count["Eltwise"] == count["Concat"] == 1
    text = (DEMO / "digits.prototxt").read_text(encoding="utf-8")
    assert "pool: MAX" in text and "pool: AVE global_pooling: true" in text
    model = onnx.load(DEMO / "digits.onnx")
    assert 50_000 <= sum(int(np.prod(t.dims)) for t in model.graph.initializer) <= 100_000
