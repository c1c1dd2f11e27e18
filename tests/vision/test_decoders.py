"""Decoders, on outputs made by hand, and drawing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tilewright.errors import ConfigError, DataError
from tilewright.frontend.preprocess import Preprocess
from tilewright.vision import Classes, DetectionRows, Detections, Geometry, SsdBoxes, TopClasses, draw
from tilewright.vision.boxes import decode_boxes, prior_boxes
from tilewright.vision.decoders import decoder_for

SHAPE = (1, 3, 32, 64)
GEOMETRY = Geometry.of(Preprocess(), (640, 160), SHAPE)  # ten times as wide, five times as high
PRIORS = ((16, (8.0,)),)


def _package(outputs: dict[str, tuple[int, ...]], labels: tuple[str, ...] | None = None) -> Any:
    """What a decoder looks at of a package."""
    tensors = [SimpleNamespace(name=name, shape=shape) for name, shape in outputs.items()]
    return SimpleNamespace(inputs=[SimpleNamespace(shape=SHAPE)], outputs=tensors, labels=labels)


def test_likeliest_classes() -> None:
    package = _package({"prob": (1, 4, 1, 1)}, ("a", "b", "c"))
    decode = decoder_for(TopClasses(3), package)
    found = decode({"prob": np.array([0.1, 0.3, 0.3, 0.3], np.float32).reshape(1, 4, 1, 1)}, GEOMETRY)
    assert found.indices.tolist() == [1, 2, 3], "equal scores by index"
    assert found.lines() == ("b 0.30", "c 0.30", "class 3 0.30")


def test_ssd_boxes() -> None:
    """Two cells see the same object, one another; the fourth is below the score."""
    decode = decoder_for(
        SsdBoxes(priors=PRIORS, labels=("background", "cat", "dog")),
        _package({"b": (1, 8, 4), "s": (1, 8, 3)}),
    )
    regression = np.zeros((1, 8, 4), np.float32)
    regression[0, 1, 0] = -16 / 8 / 0.1  # moved onto the first cell
    scores = np.zeros((1, 8, 3), np.float32)
    scores[0, :, 1] = [0.8, 0.9, 0.7, 0, 0, 0, 0, 0]
    scores[0, 5, 2] = 0.95
    scores[0, 0, 2] = 0.75  # the same place, another class
    found = decode({"b": regression, "s": scores}, GEOMETRY)
    assert found.lines() == ("dog 0.95", "cat 0.90", "dog 0.75")
    # Centres at 24, 24 and 8, 8 of the input, 8 x 8; the image has 10 and 5 times as many pixels.
    assert np.abs(found.boxes - [[200, 100, 280, 140], [40, 20, 120, 60], [40, 20, 120, 60]]).max() < 1e-4
    assert len(decode({"b": regression, "s": scores * 0}, GEOMETRY)) == 0


def test_ssd_sizes_are_exponential() -> None:
    priors = prior_boxes(32, 64, PRIORS)
    boxes = decode_boxes(np.tile([0.0, 0, np.log(2) / 0.2, 0], (8, 1)), priors, (0.1, 0.2))
    assert np.abs(boxes[:, 2] - boxes[:, 0] - 16 / 64).max() < 1e-12
    assert np.abs(boxes[:, 3] - boxes[:, 1] - 8 / 32).max() < 1e-12


def test_rows_of_detection_output() -> None:
    decode = decoder_for("detection_output", _package({"d": (1, 1, -1, 7)}, ("none", "cat")))
    rows = np.array([[0, 1, 0.6, 0.1, 0.2, 0.3, 0.4], [0, 1, 0.9, 0, 0, 1, 1], [0, 1, 0.4, 0, 0, 1, 1]])
    found = decode({"d": rows[None, None].astype(np.float32)}, GEOMETRY)
    assert found.lines() == ("cat 0.90", "cat 0.60")
    assert np.abs(found.boxes - [[0, 0, 640, 160], [64, 32, 192, 64]]).max() < 1e-4
    nothing = np.array([0, -1, -1, -1, -1, -1, -1], np.float32)
    assert len(decode({"d": nothing.reshape(1, 1, 1, 7)}, GEOMETRY)) == 0
    rows[1, 3] = np.nan
    with pytest.raises(DataError, match="expected finite boxes, found NaN or Inf"):
        decode({"d": rows[None, None]}, GEOMETRY)


@pytest.mark.parametrize(
    ("decoder", "outputs", "message"),
    [
        (
            TopClasses(0),
            {"a": (1, 3, 8, 8), "b": (1, 2)},
            "count: expected at least 1 class, found 0\n"
            "decoder classes: expected one output, found a, b\n"
            "output a: expected scores of classes, found 1x3x8x8",
        ),
        (
            SsdBoxes(priors=PRIORS, score=2, overlap=-1, most=0),
            {"b": (1, 8, 4), "s": (1, 9, 2)},
            "score: expected 0 to 1, found 2\n"
            "overlap: expected 0 to 1, found -1\n"
            "most: expected at least 1 box, found 0\n"
            "decoder ssd: expected an output of 1x8xclasses for the scores, found b of 1x8x4, s of 1x9x2; "
            "name it, and give the priors that the network was trained with",
        ),
        (
            DetectionRows(1.5),
            {"d": (1, 7)},
            "score: expected 0 to 1, found 1.5\n"
            "decoder detection_output: expected one output of 1x1xNx7, found d of 1x7",
        ),
    ],
)
def test_decoders_that_do_not_fit(decoder: Any, outputs: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decoder_for(decoder, _package(outputs))
    assert str(caught.value) == message


def test_a_function_is_a_decoder() -> None:
    def largest(outputs: Any, geometry: Geometry) -> float:
        return float(outputs["x"].max())

    assert decoder_for(largest, _package({"x": (1, 2)})) is largest


def _changed(image: Image.Image, picture: Image.Image) -> Any:
    return (np.asarray(picture) != np.asarray(image.convert("RGB"))).any(axis=2)


def test_boxes_and_landmarks_are_drawn_where_they_are() -> None:
    image = Image.new("RGB", (100, 80), "#204060")
    boxes, points = np.array([[20.0, 30, 70, 60]]), np.array([[[40.0, 45], [50, 45]]])
    found = Detections.of(boxes, np.array([0.5]), None, points, ("face",))
    changed = _changed(image, draw(image, found))
    assert np.asarray(image)[0, 0].tolist() == [0x20, 0x40, 0x60] and not _changed(image, image).any()
    below = changed[32:]  # the text is above
    rows, columns = np.nonzero(below)
    assert (columns.min(), columns.max(), rows.max() + 32) == (20, 70, 60)
    assert changed[45, 40] and changed[45, 50] and not changed[45, 45] and not changed[55, 45]
    assert changed[18:30, 20:40].any(), "the text"


def test_drawing_takes_any_box_and_label_and_nothing_else() -> None:
    image = Image.new("L", (30, 20))
    wild = np.array([[-1e30, -5.0, 1e30, 400.0], [9, 9, 3, 3], [25, 1, 29, 4]])
    found = Detections.of(wild, np.array([0.9, 0.8, 0.7]), np.array([0, 1, 7]), None, ("лицо", "b"))
    assert draw(image, found).size == (30, 20)
    classes = Classes(np.array([0, 1]), np.array([0.9, 0.1]), ("cat\u200b", ""))
    assert _changed(image, draw(image, classes)).any()
    with pytest.raises(DataError) as caught:
        draw(image, 3)
    assert str(caught.value) == "expected Classes or Detections to draw, found int"
