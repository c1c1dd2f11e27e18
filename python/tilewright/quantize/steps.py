"""What each step of the quantiser is worth: the same network quantised with one step more at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tilewright.quantize.observe import open_session
from tilewright.quantize.options import QuantizeOptions
from tilewright.quantize.quantizer import quantize_onnx
from tilewright.quantize.scoring import (
    agreement,
    certainty_lost,
    decibels,
    is_classifier,
    noise,
    run_scores,
    scores_model,
)

Samples = Sequence[Mapping[str, NDArray[np.generic]]]
PLAIN = "plain"
SWITCHES: tuple[tuple[str, str, Any], ...] = (
    ("+ clipping", "clipping", False),
    ("+ equalisation", "equalise", False),
    ("+ bias correction", "bias_correction", False),
    ("+ adaptive rounding", "adaptive_rounding", False),
    ("+ mixed precision", "mixed", None),
)
"""Steps in the order in which they are added: name, option, and the value with which it is off."""


@dataclass(frozen=True)
class Step:
    """Loss on the calibration set after a step.

    Attributes:
        name: of the step, PLAIN for ranges from minimum to maximum and nearest weights.
        snr: of the scores against the float network's, in dB.
        agreement: percent of the samples with the float network's class; None for other networks than classifiers.
        certainty_lost: percent (`scoring.certainty_lost`); None likewise.
    """

    name: str
    snr: float
    agreement: float | None
    certainty_lost: float | None


def variants(options: QuantizeOptions) -> list[tuple[str, QuantizeOptions]]:
    """Return the steps that `options` ask for, each with the options up to it; the last one has all."""
    idle = set() if options.is_low_bit else {"clipping"}
    idle |= set() if options.adapts else {"adaptive_rounding"}
    used = [row for row in SWITCHES if row[1] not in idle and getattr(options, row[1]) != row[2]]
    found = [(PLAIN, replace(options, **{option: off for _, option, off in SWITCHES}))]
    for name, option, _ in used:
        found.append((name, replace(found[-1][1], **{option: getattr(options, option)})))
    return found


def quantize_in_steps(
    model: onnx.ModelProto,
    calibration: Samples,
    options: QuantizeOptions,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[onnx.ModelProto, tuple[Step, ...]]:
    """Quantise as `quantize_onnx` does, once for each step, and measure each result.

    Args:
        model: the float model.
        calibration: all samples; the first `statistics_samples` are measured on.
        options: of the last step.
        progress: called with the steps done and their number.

    Raises:
        As `quantize_onnx`.
    """
    measured = calibration[: options.statistics_samples]
    exact = None
    steps = []
    result = model
    chosen = variants(options)
    for done, (name, variant) in enumerate(chosen, 1):
        result = quantize_onnx(model, calibration, variant)
        exact = exact or run_scores(open_session(scores_model(model)), measured)
        found = run_scores(open_session(scores_model(result)), measured)
        classifies = is_classifier(exact)
        steps.append(
            Step(
                name,
                decibels(noise(exact, found)),
                agreement(exact, found) if classifies else None,
                certainty_lost(exact, found) if classifies else None,
            )
        )
        if progress is not None:
            progress(done, len(chosen))
    return result, tuple(steps)
