"""Top-k with ties, and names of classes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.errors import DataError
from tilewright.frontend.labels import ranks, read_class_names, topk


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_ranks_are_places_in_a_stable_sort(images: int, classes: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(-3, 4, (images, classes)).astype(np.int8)  # many ties, as after quantising
    labels = generator.integers(0, classes, images)
    order = np.argsort(-scores.astype(int), axis=1, kind="stable")
    assert [order[i].tolist().index(labels[i]) for i in range(images)] == ranks(scores, labels).tolist()
    assert topk(scores, labels, 1) == pytest.approx(100 * (scores.argmax(axis=1) == labels).mean())


def test_percent_and_too_few_classes() -> None:
    scores = np.array([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]])
    labels = [3, 2, 4, 0]
    assert topk(scores, labels, 1) == 25.0
    assert topk(scores, labels, 3) == 75.0
    assert topk(scores, labels, 5) == 100.0
    assert topk(scores[:, :4], [0] * 4, 5) is None
    assert topk(scores.reshape(4, 5, 1, 1), labels, 1) == 25.0


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros(3), [0], "expected scores (N, classes) and N labels, found (3,) and (1,)"),
        (np.zeros((0, 3)), [], "expected scores (N, classes) and N labels, found (0, 3) and (0,)"),
        (np.zeros((2, 3)), [0, 3], "expected labels 0..2, found 0..3"),
        (np.zeros((2, 3)), [-1, 0], "expected labels 0..2, found -1..0"),
        (np.zeros((1, 3)), [0.5], "expected integer labels, found float64"),
        (np.full((2, 3), np.nan), [0, 1], "expected scores, found NaN for 2 images"),
    ],
)
def test_faults(scores: np.ndarray, labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        topk(scores, labels, 1)
    with pytest.raises(DataError, match=r"^expected k of at least 1, found 0$"):
        topk([[1.0]], [0], 0)


def test_names(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("zero\none\n\nthree\n\n", encoding="utf-8")
    assert read_class_names(path) == ["zero", "one", "", "three"]
    path.write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish\n", encoding="utf-8")
    assert read_class_names(path) == ["tench, Tinca tinca", "goldfish"]
    path.write_text("\n\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"names\.txt: holds no class names; give one class name a line$"):
        read_class_names(path)
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match=r"names\.txt: is not UTF-8 text"):
        read_class_names(path)
    with pytest.raises(DataError, match=r"none\.txt: cannot be read \(No such file or directory\)$"):
        read_class_names(tmp_path / "none.txt")


def test_imagenets_names(shared_data: Path) -> None:
    names = read_class_names(shared_data / "images" / "synset_words.txt")
    assert len(names) == 1000
    assert names[0] == "tench, Tinca tinca"
