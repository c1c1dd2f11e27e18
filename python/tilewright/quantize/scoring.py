"""What a quantised network's scores have lost against the float network's, on calibration samples.

Scores are a network's outputs; of one that a softmax makes, its input, for a softmax hides differences of small
probabilities and exaggerates those of large ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from tilewright.quantize.observe import run_session
from tilewright.quantize.samples import Sample

Scores = list[NDArray[np.float64]]
"""One array (samples, elements) for each output."""
_SOFTMAX = frozenset({"Softmax", "LogSoftmax"})
_LARGEST_RATIO_DB = 200.0


def score_names(model: onnx.ModelProto) -> list[str]:
    """Return the tensors that hold the scores, one for each output."""
    softmax = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type in _SOFTMAX}
    return [softmax.get(item.name, item.name) for item in model.graph.output]


def scores_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its scores as outputs."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.graph.ClearField("output")
    result.graph.output.extend(onnx.ValueInfoProto(name=name) for name in score_names(model))
    return result


def run_scores(session: ort.InferenceSession, samples: Iterable[Sample]) -> Scores:
    """Return all outputs of a session on the samples."""
    rows: list[list[NDArray[Any]]] = [run_session(session, None, sample) for sample in samples]
    return [
        np.stack([np.asarray(row[k], np.float64).reshape(-1) for row in rows]) for k in range(len(rows[0]))
    ]


def noise(exact: Scores, found: Scores) -> float:
    """Return the power of the differences over that of the exact scores, the mean over the outputs."""
    ratios = [
        float(((a - b) ** 2).sum()) / max(float((a**2).sum()), 1e-30)
        for a, b in zip(exact, found, strict=True)
    ]
    return float(np.mean(ratios))


def decibels(ratio: float) -> float:
    """Return a noise-to-signal ratio as signal-to-noise ratio in dB."""
    return min(-10.0 * float(np.log10(max(ratio, 1e-30))), _LARGEST_RATIO_DB)


def is_classifier(scores: Scores) -> bool:
    """Return whether there is one output with several elements: scores of classes, as far as one can tell."""
    return len(scores) == 1 and scores[0].shape[1] > 1


def agreement(exact: Scores, found: Scores) -> float:
    """Return the percentage of samples with the same largest score, of a classifier."""
    return 100.0 * float(np.mean(exact[0].argmax(axis=1) == found[0].argmax(axis=1)))


def certainty_lost(exact: Scores, found: Scores) -> float:
    """Return how much less probable, in percent on average, the float network's class is to the quantised one.

    Where probabilities are calibrated, that is the accuracy lost; unlike images that change their class, it
    does not come in steps of one over the number of samples.
    """
    rows = np.arange(len(exact[0]))
    best = exact[0].argmax(axis=1)
    before, after = (_softmax(scores[0])[rows, best] for scores in (exact, found))
    return 100.0 * float(np.mean(before - after))


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
