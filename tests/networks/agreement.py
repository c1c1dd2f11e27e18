"""A package on the fast simulator beside its quantised model in ONNX Runtime, both running freely."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

import tilewright as tw
from tilewright.evaluation import onnx_session, package_feeds
from tilewright.runtime import Session

Array = NDArray[np.generic]


@dataclass(frozen=True)
class TopClasses:
    """Best classes over a set of images.

    Attributes:
        images: how many.
        same: images of which both name the same class. Eight bits leave few steps between a thousand scores, so
            several classes may share the best one; those are all best, and one in common is the same.
        first: images with the same class of the lowest index among the best.
    """

    images: int
    same: int
    first: int


def compare_top1(package: tw.Package, images: tw.Dataset) -> TopClasses:
    """Compare best classes on every image."""
    session = Session(package)
    exact = _exact(package)
    output = package.outputs[0].name
    same = first = 0
    for feeds, _ in images:
        inputs = package_feeds(package, feeds)
        expected = _best(np.asarray(exact.run([output], dict(inputs))[0]))
        found = _best(session.run(inputs).outputs[output])
        same += not expected.isdisjoint(found)
        first += min(expected) == min(found)
    return TopClasses(len(images), same, first)


def _best(scores: Array) -> set[int]:
    flat = scores.reshape(-1)
    return {int(i) for i in np.flatnonzero(flat == flat.max())}


def noise_ratios(package: tw.Package, images: tw.Dataset) -> tuple[float, float]:
    """Signal-to-noise ratios in dB of all outputs on all images, by the sums of squares.

    Returns:
        of the simulated network, and of ONNX Runtime with its optimisations, each against ONNX Runtime without.
    """
    session = Session(package)
    exact = _exact(package)
    _, quantised = package.require_models("compare")
    optimised = onnx_session(quantised, exact=False)
    names = [tensor.name for tensor in package.outputs]
    rows: list[tuple[Mapping[str, Array], Mapping[str, Array], Mapping[str, Array]]] = []
    for feeds, _ in images:
        inputs = dict(package_feeds(package, feeds))
        rows.append(
            (
                dict(zip(names, exact.run(names, inputs), strict=True)),
                session.run(inputs).outputs,
                dict(zip(names, optimised.run(names, inputs), strict=True)),
            )
        )
    expected, simulated, fused = (
        [np.concatenate([r[i][n].reshape(-1) for r in rows for n in names])] for i in range(3)
    )
    return _decibels(expected[0], simulated[0]), _decibels(expected[0], fused[0])


def _exact(package: tw.Package) -> onnxruntime.InferenceSession:
    return onnx_session(package.require_models("compare")[1], exact=True)


def _decibels(expected: Array, found: Array) -> float:
    wide = expected.astype(np.float64)
    noise = float(np.square(wide - found.astype(np.float64)).sum())
    return float("inf") if noise == 0 else 10 * np.log10(float(np.square(wide).sum()) / noise)
