"""PriorBox and DetectionOutput against OpenCV, and against the rules of `detection_function` written in
NumPy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .nets import Array, both, header, layer, load, noise, relative_error, run_cv2, run_onnx

Wide = npt.NDArray[np.float64]


@pytest.mark.parametrize(
    "params",
    [
        "min_size: 30 clip: true variance: 0.1",
        "min_size: 30 max_size: 60 clip: false variance: 0.1",
        "min_size: 30 max_size: 60 aspect_ratio: 2 flip: true clip: false variance: 0.2",
        "min_size: 30 max_size: 60 aspect_ratio: 2 aspect_ratio: 3 flip: false clip: true variance: 0.1",
        "min_size: 30 aspect_ratio: 2 aspect_ratio: 1 aspect_ratio: 2 clip: false variance: 0.1 variance: "
        "0.1 "
        "variance: 0.2 variance: 0.3",
        "min_size: 10 min_size: 40 max_size: 20 max_size: 50 aspect_ratio: 2 clip: false variance: 0.2",
        "min_size: 30 step: 12 offset: 0 clip: false variance: 0.1",
        "min_size: 30 step_h: 12 step_w: 9 offset: 0.25 clip: false variance: 0.1",
    ],
)
def test_prior_box(tmp_path: Path, params: str) -> None:
    text = header(x=(1, 2, 4, 5), x2=(1, 3, 60, 48))
    text += layer("PriorBox", f"prior_box_param {{ {params} }}", ["x", "x2"])
    feeds = {"x": noise((1, 2, 4, 5)), "x2": noise((1, 3, 60, 48))}
    net = load(tmp_path, text)
    ours = run_onnx(net.model, {})["y"]
    weights = tmp_path / "empty.caffemodel"
    weights.write_bytes(b"")
    reference = run_cv2(tmp_path / "net.prototxt", weights, feeds, "y")["y"]
    # Coordinates of order one from float32 sizes: 1e-6 is 8 roundings.
    assert relative_error(ours, reference) < 1e-6


def test_prior_box_takes_the_image_size_from_the_file(tmp_path: Path) -> None:
    text = header(x=(1, 2, 1, 1), x2=(1, 3, 60, 48))
    text += layer("PriorBox", "prior_box_param { min_size: 20 img_h: 40 img_w: 80 }", ["x", "x2"])
    boxes = run_onnx(load(tmp_path, text).model, {})["y"]
    assert boxes.tolist() == [[[0.375, 0.25, 0.625, 0.75], [np.float32(0.1)] * 4]]


def decode(location: Wide, prior: Wide, variance: Wide, code: str) -> Wide:
    """Boxes (P, 4) from one set of predictions (P, 4)."""
    size = prior[:, 2:] - prior[:, :2]
    if code == "CENTER_SIZE":
        centre = (prior[:, :2] + prior[:, 2:]) / 2 + variance[:, :2] * location[:, :2] * size
        half = size * np.exp(variance[:, 2:] * location[:, 2:]) / 2
        return np.concatenate([centre - half, centre + half], 1)
    scale = np.concatenate([size, size], 1) if code == "CORNER_SIZE" else 1.0
    return np.asarray(prior + variance * location * scale)


def overlap(a: Wide, b: Wide) -> float:
    inner = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if min(inner) <= 0:
        return 0.0
    both_areas = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]))
    return float(np.prod(inner)) / (both_areas - float(np.prod(inner)))


def detect(location: Wide, confidence: Wide, prior: Wide, p: dict[str, float], code: str) -> Wide:
    """The function's docstring, step by step. location (P, L, 4), confidence (P, C), prior (2, P, 4)."""
    variance = np.ones_like(prior[1]) if p["encoded"] else prior[1]
    rows = []
    for label in range(confidence.shape[1]):
        if label == p["background"]:
            continue
        boxes = decode(location[:, min(label, location.shape[1] - 1)], prior[0], variance, code)
        order = sorted(range(len(boxes)), key=lambda i: (-confidence[i, label], i))
        if p["top_k"] >= 0:
            order = order[: int(p["top_k"])]
        kept: list[int] = []
        for i in order:
            if confidence[i, label] > p["threshold"] and all(
                overlap(boxes[i], boxes[k]) <= p["nms"] for k in kept
            ):
                kept.append(i)
        rows += [(confidence[i, label], label, i, boxes[i]) for i in kept]
    rows.sort(key=lambda r: (-r[0], r[1], r[2]))
    if p["keep"] >= 0:
        rows = rows[: int(p["keep"])]
    found = [[0, label, score, *box] for score, label, _, box in rows] or [[0] + [-1] * 6]
    return np.array(found, np.float64)[np.newaxis, np.newaxis]


def detection_net(priors: int, classes: int, params: str, share: bool = True) -> str:
    sets = 1 if share else classes
    shapes = header(x=(1, priors * sets * 4), x2=(1, priors * classes), x3=(1, 2, priors * 4))
    block = (
        f"detection_output_param {{ num_classes: {classes} share_location: {str(share).lower()} {params} }}"
    )
    return shapes + layer("DetectionOutput", block, ["x", "x2", "x3"])


def detection_feeds(priors: int, classes: int, seed: int, share: bool = True) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.6, (priors, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.4, (priors, 2))], 1)
    variance = rng.uniform(0.1, 0.3, (priors, 4))
    sets = 1 if share else classes
    # Confidences in steps of 1/16: equal ones are common, and their order is part of the contract.
    confidence = rng.integers(0, 17, (1, priors * classes)) / 16
    return {
        "x": rng.normal(0, 0.3, (1, priors * sets * 4)).astype(np.float32),
        "x2": confidence.astype(np.float32),
        "x3": np.stack([boxes.ravel(), variance.ravel()])[np.newaxis].astype(np.float32),
    }


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    priors=st.integers(1, 25),
    classes=st.integers(2, 5),
    code=st.sampled_from(["CORNER", "CENTER_SIZE", "CORNER_SIZE"]),
    share=st.booleans(),
    encoded=st.booleans(),
    background=st.integers(-1, 1),
    nms=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    top_k=st.sampled_from([-1, 1, 5, 100]),
    keep=st.sampled_from([-1, 1, 7, 200]),
    threshold=st.sampled_from([-1.0, 0.3, 0.5, 2.0]),
)
def test_detection_output_follows_its_rules(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    priors: int,
    classes: int,
    code: str,
    share: bool,
    encoded: bool,
    background: int,
    nms: float,
    top_k: int,
    keep: int,
    threshold: float,
) -> None:
    params = (
        f"code_type: {code} variance_encoded_in_target: {str(encoded).lower()} background_label_id: "
        f"{background} "
        f"keep_top_k: {keep} confidence_threshold: {threshold} nms_param {{ nms_threshold: {nms} top_k: "
        f"{top_k} }}"
    )
    feeds = detection_feeds(priors, classes, seed, share)
    net = load(tmp_path_factory.mktemp("ssd"), detection_net(priors, classes, params, share))
    found = run_onnx(net.model, feeds)["y"]
    values = {
        "encoded": encoded,
        "background": background,
        "nms": nms,
        "top_k": top_k,
        "keep": keep,
        "threshold": threshold,
    }
    expected = detect(
        feeds["x"].reshape(priors, -1, 4).astype(np.float64),
        feeds["x2"].reshape(priors, classes).astype(np.float64),
        feeds["x3"].reshape(2, priors, 4).astype(np.float64),
        values,
        code,
    )
    assert found.shape == expected.shape
    assert np.array_equal(
        found[..., :3], expected[..., :3].astype(np.float32)
    )  # labels, scores and their order
    # A dozen float32 operations on coordinates of order one.
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE"])
@pytest.mark.parametrize("share", [True, False])
def test_detection_output_agrees_with_opencv(tmp_path: Path, code: str, share: bool) -> None:
    params = (
        f"code_type: {code} background_label_id: 0 keep_top_k: 20 confidence_threshold: 0.2 "
        "nms_param { nms_threshold: 0.4 top_k: 12 }"
    )
    feeds = detection_feeds(40, 4, 5, share)
    feeds["x2"] = (
        np.random.default_rng(1).uniform(0, 1, feeds["x2"].shape).astype(np.float32)
    )  # no equal ones
    ours, reference = both(tmp_path, detection_net(40, 4, params, share), feeds)
    assert len(ours[0, 0]) == 20

    def ordered(rows: Array) -> Array:
        return rows[np.lexsort((-rows[:, 2], rows[:, 1]))]

    assert relative_error(ordered(ours[0, 0]), ordered(reference[0, 0])) < 1e-5


def test_detection_output_is_one_node_with_attributes(tmp_path: Path) -> None:
    net = load(tmp_path, detection_net(5, 3, "nms_param { nms_threshold: 0.5 } keep_top_k: 9"))
    (node,) = net.model.graph.node
    assert (node.domain, node.op_type, node.name) == ("tilewright", "DetectionOutput", "y")
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    lowest = attributes.pop("confidence_threshold")
    assert lowest == np.finfo(np.float32).min
    assert attributes == {
        "num_classes": 3,
        "share_location": 1,
        "background_label_id": 0,
        "nms_threshold": 0.5,
        "top_k": -1,
        "keep_top_k": 9,
        "code_type": b"CORNER",
        "variance_encoded_in_target": 0,
    }
    (function,) = net.model.functions
    assert {n.domain for n in function.node} == {""}
    assert set(function.attribute) == set(attributes) | {"confidence_threshold"}
    dims = net.model.graph.output[0].type.tensor_type.shape.dim
    assert [d.dim_value or d.dim_param for d in dims] == [1, 1, "y_detections", 7]


def test_corners_in_reverse_order_are_put_in_order_for_the_overlap(tmp_path: Path) -> None:
    """Two predictions of one box, one with its corners exchanged: the better suppresses the other."""
    params = "background_label_id: -1 nms_param { nms_threshold: 0.5 } variance_encoded_in_target: true"
    feeds = {
        "x": np.array([[0, 0, 0, 0, 0.5, 0.5, -0.5, -0.5]], np.float32),
        "x2": np.array([[0.25, 0.75]], np.float32),
        "x3": np.array([[[0, 0, 0.5, 0.5] * 2, [0.1] * 8]], np.float32),
    }
    found = run_onnx(load(tmp_path, detection_net(2, 1, params)).model, feeds)["y"]
    assert found.tolist() == [[[[0, 0, 0.75, 0.5, 0.5, 0, 0]]]]
