"""Overlap, suppression, priors."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tilewright.runtime.operator import run_operator
from tilewright.vision.boxes import areas, decode_boxes, match, nms, overlaps, prior_boxes, squares
from tilewright.vision.decoders import ULTRAFACE_PRIORS

Array = np.ndarray[Any, Any]
SIDE = 12


def _random_boxes(seed: int, count: int, side: int = SIDE) -> Array:
    corners = np.random.default_rng(seed).integers(0, side + 1, (count, 2, 2))
    return np.sort(corners, axis=1).reshape(count, 4).astype(np.float64)


def _raster(box: Array) -> Array:
    """The box as pixels."""
    x1, y1, x2, y2 = box.astype(int)
    cells = np.zeros((SIDE, SIDE), bool)
    cells[y1:y2, x1:x2] = True
    return cells


@pytest.mark.parametrize("seed", range(3))
def test_overlap_is_that_of_pixels(seed: int) -> None:
    a, b = _random_boxes(seed, 12), _random_boxes(seed + 100, 15)
    for measure in ("union", "smaller"):
        found = overlaps(a, b, measure)
        for (i, p), (j, q) in itertools.product(enumerate(a), enumerate(b)):
            first, second = _raster(p), _raster(q)
            common = (first & second).sum()
            whole = (first | second).sum() if measure == "union" else min(first.sum(), second.sum())
            assert found[i, j] == pytest.approx(common / whole if whole else 0, abs=1e-15)
    assert areas(np.array([[3.0, 3, 1, 5]])) == 0, "corners in reverse order"


def _onnx_nms(boxes: Array, scores: Array, threshold: float, limit: int) -> list[int]:
    """What ONNX Runtime's NonMaxSuppression selects."""
    node = helper.make_node("NonMaxSuppression", ["boxes", "scores", "limit", "overlap"], ["chosen"])
    n = len(boxes)
    graph = helper.make_graph(
        [node],
        "nms",
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, (1, n, 4)),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, (1, 1, n)),
        ],
        [helper.make_tensor_value_info("chosen", TensorProto.INT64, (None, 3))],
        [
            helper.make_tensor("limit", TensorProto.INT64, (1,), [limit]),
            helper.make_tensor("overlap", TensorProto.FLOAT, (1,), [threshold]),
        ],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 21)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"boxes": boxes[None].astype(np.float32), "scores": scores[None, None].astype(np.float32)}
    (chosen,) = session.run(None, feeds)
    return list(chosen[:, 2])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 60),
    percent=st.integers(1, 98),
    limit=st.integers(1, 70),
)
def test_suppression_is_onnx_runtimes(seed: int, count: int, percent: int, limit: int) -> None:
    boxes = _random_boxes(seed, count)
    boxes[:, 2:] += 1  # ONNX leaves it open what overlaps a box without area
    scores = np.random.default_rng(seed + 1).permutation(count) / count
    # Overlaps are ratios of at most 169: none is within float32's rounding of these thresholds.
    threshold = percent / 100 + 0.0013
    assert nms(boxes, scores, threshold, limit=limit).tolist() == _onnx_nms(boxes, scores, threshold, limit)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 30), measure=st.sampled_from(["union", "smaller"]))
def test_suppression_by_its_definition(seed: int, count: int, measure: Any) -> None:
    """Kept is exactly what no better kept box overlaps; equal scores go by index."""
    boxes = _random_boxes(seed, count)
    scores = np.random.default_rng(seed + 1).integers(0, 4, count) / 4
    kept = nms(boxes, scores, 0.4, measure=measure).tolist()
    rank = sorted(range(count), key=lambda i: (-scores[i], i))
    assert kept == [i for i in rank if i in kept]
    between = overlaps(boxes, boxes, measure)
    for place, index in enumerate(rank):
        before = [k for k in kept if rank.index(k) < place]
        assert (index in kept) == all(between[k, index] <= 0.4 for k in before)


def test_matching_takes_each_box_once_and_the_best_first() -> None:
    first = np.array([[0.0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60]])
    second = np.array([[2.0, 0, 12, 10], [90, 90, 99, 99], [0, 0, 8, 10]])
    assert match(first, second) == [(1, 0, 1.0), (0, 2, 0.8)]
    assert match(first[:0], second) == []


def test_squares_keep_centre_and_longer_side() -> None:
    assert squares(np.array([[0.0, 0, 4, 2], [1, 1, 2, 5]])).tolist() == [[0, -1, 4, 3], [-0.5, 1, 3.5, 5]]


def test_priors() -> None:
    priors = prior_boxes(240, 320, ULTRAFACE_PRIORS)
    assert priors.shape == (4420, 4), "what the network has"
    assert priors[:4].tolist() == [
        [4 / 320, 4 / 240, 10 / 320, 10 / 240],
        [4 / 320, 4 / 240, 16 / 320, 16 / 240],
        [4 / 320, 4 / 240, 24 / 320, 24 / 240],
        [12 / 320, 4 / 240, 10 / 320, 10 / 240],
    ]
    assert priors[-1].tolist() == [4.5 * 64 / 320, 3.5 * 64 / 240, 256 / 320, 256 / 240]


def test_decoding_is_that_of_detection_output() -> None:
    """The same boxes as Caffe's layer, which the package's interpreter has of its own."""
    generator = np.random.default_rng(5)
    priors = prior_boxes(32, 48, ((16, (10.0, 20.0)),))
    count = len(priors)
    regression = generator.normal(0, 1, (count, 4))
    found = decode_boxes(regression, priors, (0.1, 0.2))
    corners = np.concatenate([priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2], axis=1)
    table = np.stack([corners.ravel(), np.tile([0.1, 0.1, 0.2, 0.2], count)])[None].astype(np.float32)
    scores = np.zeros((count, 2), np.float32)
    scores[:, 1] = np.arange(1, count + 1) / (2 * count)
    (rows,) = run_operator(
        "detection_output",
        [regression.astype(np.float32).reshape(1, -1), scores.reshape(1, -1), table],
        [("float32", (1, 1, -1, 7))],
        num_classes=2,
        share_location=1,
        background_label_id=0,
        nms_threshold=1.0,
        top_k=-1,
        keep_top_k=-1,
        confidence_threshold=0.0,
        code_type=2,
        variance_encoded_in_target=0,
    )
    # Rows by falling score are priors from the last to the first; float32 against float64.
    assert np.abs(rows[0, 0, ::-1, 3:] - found).max() < 1e-5
