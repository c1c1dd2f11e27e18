"""Coordinates of a network's input and of the image: checked by what is seen there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tilewright.frontend.preprocess import Preprocess
from tilewright.vision.geometry import Geometry

SIZES = st.tuples(st.integers(20, 90), st.integers(20, 90))


def _marked(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    image = Image.new("L", (width, height))
    image.paste(255, box)
    return image


def _edges(plane: np.ndarray[Any, Any]) -> list[float]:
    """x1, y1, x2, y2 of a bright box by its mass: its sides are sums, and its middle is a mean."""
    columns, rows = plane.max(axis=0) / 255, plane.max(axis=1) / 255
    found = []
    for line in (columns, rows):
        length = line.sum()
        middle = (line * (np.arange(len(line)) + 0.5)).sum() / length
        found.append((middle - length / 2, middle + length / 2))
    return [found[0][0], found[1][0], found[0][1], found[1][1]]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(size=SIZES, kind=st.sampled_from(["stretch", "shorter", "crop"]), data=st.data())
def test_a_box_in_the_image_is_found_where_the_network_sees_it(
    size: tuple[int, int], kind: str, data: st.DataObject
) -> None:
    width, height = size
    preprocess, shape = {
        "stretch": (Preprocess(), (1, 1, 48, 64)),
        "shorter": (Preprocess(resize=60, crop=56), (1, 1, 56, 56)),
        "crop": (Preprocess(crop=20), (1, 1, 20, 20)),
    }[kind]
    # In the middle, so that a crop does not cut it.
    w, h = data.draw(st.integers(4, 8)), data.draw(st.integers(4, 8))
    box = (width // 2 - w, height // 2 - h, width // 2 + w, height // 2 + h)
    plane = preprocess.apply(_marked(width, height, box), shape)[0, 0]
    geometry = Geometry.of(preprocess, (width, height), shape)
    seen = np.array(_edges(plane))
    # Bilinear filtering spreads an edge over a pixel of the input and one of the image.
    blur = 1 + max(geometry.scale)
    assert np.abs(geometry.to_input(np.array(box, float)) - seen).max() < blur
    if kind == "crop":
        assert np.array_equal(geometry.to_image(seen), np.array(box))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(image=SIZES, size=SIZES)
def test_fitting_keeps_proportions_and_fills_one_side(image: tuple[int, int], size: tuple[int, int]) -> None:
    geometry = Geometry.fitting(image, size)
    inner = geometry.to_input(np.array(image, float))
    assert np.abs(inner - np.round(inner)).max() < 1e-9, "whole pixels"
    inner = np.round(inner)
    assert (inner >= 1).all() and (inner <= np.array(size)).all()
    assert (inner == np.array(size)).any()
    # Rounding one side to a pixel changes its scale by half a pixel in its length.
    assert abs(geometry.scale[0] - geometry.scale[1]) <= 0.5 / min(image) + 1e-12


@settings(max_examples=40, deadline=None, derandomize=True)
@given(size=SIZES, seed=st.integers(0, 1000))
def test_there_and_back(size: tuple[int, int], seed: int) -> None:
    geometry = Geometry.of(Preprocess(resize=40, crop=32), size, (1, 3, 32, 32))
    points = np.random.default_rng(seed).uniform(-50, 150, (3, 5, 2))
    assert np.abs(geometry.to_input(geometry.to_image(points)) - points).max() < 1e-9
    boxes = points.reshape(3, 10)[:, :4]
    assert np.array_equal(geometry.to_image(boxes), geometry.to_image(boxes.reshape(3, 2, 2)).reshape(3, 4))
    assert geometry.from_parts(np.array([0.5, 0.25])) == pytest.approx(
        geometry.to_image(np.array([16.0, 8.0]))
    )
