"""What the quantiser can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from tilewright.errors import ConfigError, FaultList, UnsupportedModel

Method = Literal["minmax", "percentile", "entropy"]

SUPPORTED_BITS = (8,)
SCORE_BITS = (8, 16)


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of :func:`tilewright.quantize.quantize_onnx`.

    Attributes:
        bits: width of activations and weights.
        score_bits: width of activations that only float operators of the host read or that are graph outputs,
            where a sum makes them (`scores.py`).
        method: ONNX Runtime's calibrator that chooses activation ranges.
        percentile: share of the values, in percent, that the range keeps; only for `percentile`.
        bias_correction: add the mean error of each output channel of convolutions and dense layers on the
            calibration set to the bias.
        equalise: rescale channels between convolutions so that narrow ones use more of their tensor's range,
            without a change of the network's function (cross-layer equalisation).
        share_ratio: a tensor that other operators read too joins the scale of a concat or average
            pooling only where its range becomes at most this many times wider.
        share_average: whether average pooling shares its input's scale (within `share_ratio`).
        accumulator_bits: width that sums of products with the bias must fit, sign included.
        statistics_samples: how many samples, the first ones, equalisation and bias correction run on.
        exact_sums: choose scales with which ONNX Runtime's float sums are exact, so that it and the machine agree
            (`exact.py`).

    Raises:
        UnsupportedModel: `bits` is not supported.
        ConfigError: another value is out of range.
    """

    bits: int = 8
    score_bits: Literal[8, 16] = 16
    method: Method = "minmax"
    percentile: float = 99.999
    bias_correction: bool = True
    equalise: bool = True
    share_ratio: float = 8.0
    share_average: bool = False
    accumulator_bits: int = 32
    statistics_samples: int = 64
    exact_sums: bool = True

    def __post_init__(self) -> None:
        if self.bits not in SUPPORTED_BITS:
            widths = ", ".join(map(str, SUPPORTED_BITS))
            raise UnsupportedModel(f"bits={self.bits}: post-training quantisation supports {widths} bit")
        faults = FaultList()
        if self.score_bits not in SCORE_BITS:
            widths = " or ".join(map(str, SCORE_BITS))
            faults.add(f"score_bits={self.score_bits}: expected {widths}")
        if self.method not in get_args(Method):
            faults.add(f"method={self.method!r}: expected one of {', '.join(get_args(Method))}")
        if not 50.0 < self.percentile <= 100.0:
            faults.add(f"percentile={self.percentile}: expected more than 50 and at most 100")
        if not (self.share_ratio >= 1.0 and math.isfinite(self.share_ratio)):
            faults.add(f"share_ratio={self.share_ratio}: expected a finite number of at least 1")
        if not 2 * self.bits < self.accumulator_bits <= 32:
            faults.add(
                f"accumulator_bits={self.accumulator_bits}: expected more than 2*bits={2 * self.bits} and at"
                " most 32, the width of a bias in ONNX"
            )
        if self.statistics_samples < 1:
            faults.add(f"statistics_samples={self.statistics_samples}: expected at least 1")
        faults.raise_if_any(ConfigError)
