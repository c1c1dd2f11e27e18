"""Classes: their names, and how often a network's highest scores hold the right one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tilewright.errors import DataError, Fault

_SYNSET = re.compile(r"n\d{8}\s+")


def read_class_names(path: str | Path) -> list[str]:
    """Read one class name a line; the WordNet ids that open the lines of ImageNet's list are dropped.

    Raises:
        DataError: the file cannot be read, or holds no name.
    """
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        raise DataError(Fault(f"cannot be read ({error.strerror or error})", f"{path}")) from error
    except UnicodeDecodeError as error:
        raise DataError(Fault("is not UTF-8 text", f"{path}", "give one class name a line")) from error
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(Fault("holds no class names", f"{path}", "give one class name a line"))
    if all(_SYNSET.match(line) for line in lines):
        lines = [_SYNSET.sub("", line, count=1) for line in lines]
    return lines


def ranks(scores: npt.ArrayLike, labels: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """How many classes come before the right one; 0 is the highest score.

    Of equal scores the class with the lower index comes first, as `argmax` has it: quantised networks
    produce equal scores often, and counting them as hits would flatter them.

    Shapes: scores (N, ...) with all but the first dimension flattened to classes, labels (N,) -> (N,).

    Raises:
        DataError: the shapes differ, a score is NaN, or a label is no class.
    """
    table = np.asarray(scores)
    wanted = np.asarray(labels)
    if table.ndim < 2 or wanted.ndim != 1 or len(table) != len(wanted) or not len(table):
        raise DataError(f"expected scores (N, classes) and N labels, found {table.shape} and {wanted.shape}")
    table = table.reshape(len(table), -1)
    if wanted.dtype.kind not in "ui":
        raise DataError(f"expected integer labels, found {wanted.dtype}")
    wanted = wanted.astype(np.int64)
    if wanted.min() < 0 or wanted.max() >= table.shape[1]:
        raise DataError(f"expected labels 0..{table.shape[1] - 1}, found {wanted.min()}..{wanted.max()}")
    if np.isnan(table).any():
        raise DataError(f"expected scores, found NaN for {int(np.isnan(table).any(axis=1).sum())} images")
    own = np.take_along_axis(table, wanted[:, np.newaxis], axis=1)
    before = np.arange(table.shape[1]) < wanted[:, np.newaxis]
    ahead = (table > own) | ((table == own) & before)
    return np.asarray(np.count_nonzero(ahead, axis=1), np.int64)


def topk(scores: npt.ArrayLike, labels: npt.ArrayLike, k: int) -> float | None:
    """Share of images, in percent, whose right class is among the `k` highest scores; None below `k` classes.

    Shapes and errors: see :func:`ranks`.

    >>> topk([[0.1, 0.7, 0.2], [0.5, 0.4, 0.1]], [1, 1], k=1)
    50.0
    """
    if k < 1:
        raise DataError(f"expected k of at least 1, found {k}")
    table = np.asarray(scores)
    hits = ranks(table, labels) < k
    return None if table[0].size < k else float(hits.mean() * 100)
