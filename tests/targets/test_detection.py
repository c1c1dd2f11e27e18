"""DetectionOutput of the C++ interpreter against a plain NumPy version of its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tilewright.errors import PackageError
from tilewright.runtime.operator import run_operator

F32 = NDArray[np.float32]
BASE: dict[str, Any] = {
    "num_classes": 4,
    "share_location": 1,
    "background_label_id": 0,
    "nms_threshold": 0.45,
    "top_k": 20,
    "keep_top_k": 15,
    "confidence_threshold": 0.3,
    "code_type": 2,
    "variance_encoded_in_target": 0,
}


def _decode(code: int, prior: F32, variance: F32, delta: F32) -> F32:
    low, high = prior[:, :2], prior[:, 2:]
    size, centre = high - low, (low + high) / 2
    d = delta * variance
    if code == 2:
        middle, half = centre + d[:, :2] * size, np.exp(d[:, 2:]) * size / 2
        return np.concatenate([middle - half, middle + half], 1)
    return np.asarray(
        prior + d * (np.concatenate([size, size], 1) if code == 3 else np.float32(1)), np.float32
    )


def _overlap(a: F32, b: F32) -> float:
    a, b = (np.concatenate([np.minimum(v[:2], v[2:]), np.maximum(v[:2], v[2:])]) for v in (a, b))
    both = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    areas = [np.prod(v[2:] - v[:2]) for v in (a, b)]
    return 0.0 if min(areas) <= 0 else float(both / (sum(areas) - both))


def _detect(location: F32, confidence: F32, prior: F32, p: dict[str, Any]) -> F32:
    boxes, variance = prior.reshape(2, -1, 4)
    count = len(boxes)
    if p["variance_encoded_in_target"]:
        variance = np.ones_like(variance)
    scores = confidence.reshape(count, p["num_classes"])
    deltas = location.reshape(count, -1, 4)
    rows: list[tuple[float, ...]] = []
    for label in range(p["num_classes"]):
        if label == p["background_label_id"]:
            continue
        decoded = _decode(p["code_type"], boxes, variance, deltas[:, 0 if p["share_location"] else label])
        order = sorted(range(count), key=lambda i: (-scores[i, label], i))
        if p["top_k"] >= 0:
            order = order[: p["top_k"]]
        kept: list[int] = []
        for i in order:
            if scores[i, label] > np.float32(p["confidence_threshold"]) and all(
                _overlap(decoded[i], decoded[k]) <= np.float32(p["nms_threshold"]) for k in kept
            ):
                kept.append(i)
        rows += [(-scores[i, label], label, i, *decoded[i]) for i in kept]
    rows.sort(key=lambda r: r[:3])
    if p["keep_top_k"] >= 0:
        rows = rows[: p["keep_top_k"]]
    table = [(0, r[1], -r[0], *r[3:]) for r in rows] or [(0, *[-1] * 6)]
    return np.array(table, np.float32).reshape(1, 1, -1, 7)


def _feeds(seed: int, classes: int, share: int, count: int = 30) -> tuple[F32, F32, F32]:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.6, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.4, (count, 2))], 1)
    prior = np.stack([boxes, np.tile([0.1, 0.1, 0.2, 0.2], (count, 1))]).reshape(1, 2, -1)
    location = rng.normal(0, 1, (1, count * 4 * (1 if share else classes)))
    # Few different values, so that there are ties within and between classes.
    confidence = rng.integers(0, 10, (1, count * classes)) / 10
    return tuple(a.astype(np.float32) for a in (location, confidence, prior))  # type: ignore[return-value]


@pytest.mark.parametrize("code", [1, 2, 3])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"share_location": 0, "background_label_id": -1},
        {"variance_encoded_in_target": 1, "background_label_id": 2},
        {"top_k": -1, "keep_top_k": -1, "confidence_threshold": -3.4e38},
        {"top_k": 3, "keep_top_k": 4, "nms_threshold": 0.0},
        {"confidence_threshold": 0.95},
        {"num_classes": 1, "background_label_id": -1},
    ],
)
def test_equals_the_definition(code: int, changes: dict[str, Any]) -> None:
    parameters = BASE | changes | {"code_type": code}
    for seed in range(5):
        feeds = _feeds(seed, parameters["num_classes"], parameters["share_location"])
        expected = _detect(*feeds, parameters)
        (found,) = run_operator("detection_output", feeds, [("float32", (1, 1, -1, 7))], **parameters)
        assert found.shape == expected.shape
        np.testing.assert_array_equal(found[..., :3], expected[..., :3])
        # Corners: four products and sums and one exp in float32, in another order, of values up to about 4.
        np.testing.assert_allclose(found[..., 3:], expected[..., 3:], rtol=0, atol=4 * 8 * 2.0**-24)


def test_without_priors_nothing_is_found() -> None:
    feeds = [np.zeros((1, 0), np.float32), np.zeros((1, 0), np.float32), np.zeros((1, 2, 0), np.float32)]
    (found,) = run_operator("detection_output", feeds, [("float32", (1, 1, -1, 7))], **BASE)
    assert found.tolist() == [[[[0, -1, -1, -1, -1, -1, -1]]]]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"code_type": 4}, "expected code_type 1, 2 or 3, found 4"),
        ({"num_classes": 5}, "expected 120 locations and 150 confidences, found 120 and 120"),
        ({"num_classes": 1 << 40}, "num_classes 1099511627776"),
        ({"share_location": 0}, "expected 480 locations"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(PackageError, match=text):
        run_operator("detection_output", _feeds(0, 4, 1), [("float32", (1, 1, -1, 7))], **(BASE | changes))
