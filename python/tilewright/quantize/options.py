"""What the quantiser can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from tilewright.errors import ConfigError, Fault, FaultList, UnsupportedModel

Method = Literal["minmax", "percentile", "entropy"]

SUPPORTED_BITS = (1, 2, 4, 8)
WHOLE_BITS = 8
"""Width at which clipping, adaptive rounding and mixed precision are not needed."""
SCORE_BITS = (8, 16)


@dataclass(frozen=True)
class Mixed:
    """The budget of mixed precision: which layers may leave the low width for 8 bits. One of the two is given.

    Attributes:
        points: percent of its certainty that a classifier may lose on the calibration set (`steps.certainty_lost`);
            as few operations as possible get 8 bits.
        width: bits of the layers' operands on average, weighted with their MACs, first and last layers included;
            the most sensitive layers get 8 bits.

    Raises:
        ConfigError: none or both, or out of range.
    """

    points: float | None = None
    width: float | None = None

    def __post_init__(self) -> None:
        if (self.points is None) == (self.width is None):
            raise ConfigError(Fault("mixed: expected points or width, one of them", remedy=_MIXED_REMEDY))
        if self.points is not None and not 0.0 < self.points < 100.0:
            raise ConfigError(Fault(f"mixed points={self.points}: expected more than 0 and less than 100"))
        if self.width is not None and not 1.0 <= self.width <= WHOLE_BITS:
            raise ConfigError(Fault(f"mixed width={self.width}: expected from 1 to {WHOLE_BITS} bits"))

    @staticmethod
    def parse(text: str) -> Mixed:
        """Read `points=1.0` or `width=5`. Raises ConfigError."""
        name, _, value = text.partition("=")
        try:
            return Mixed(**{{"points": "points", "width": "width"}[name.strip()]: float(value)})
        except (KeyError, ValueError):
            raise ConfigError(
                Fault(f"mixed: expected points=P or width=W, found {text!r}", remedy=_MIXED_REMEDY)
            ) from None


_MIXED_REMEDY = "give points=1.0 for a loss of a point at most, or width=5 for 5 bits on average"


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of :func:`tilewright.quantize.quantize_onnx`.

    Attributes:
        bits: width of weights, and of activations that they are multiplied with: 8, 4, 2, or 1 (bipolar weights).
        activation_bits: width of those activations where it differs from `bits`.
        edge_bits: width of both operands of the first and last layers (`widths.py`); None: as all others.
        clipping: below 8 bits, cut ranges off where that makes the mean square error smallest (`clipping.py`).
        adaptive_rounding: below 8 bits, round weights up or down by what it does to the layer's result
            (`adaptive.py`).
        adaptive_mebibytes: memory that its calibration values may take; as many samples are used as fit.
        mixed: give layers 8 bits within a budget, by their sensitivity (`mixed.py`).
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
    activation_bits: int | None = None
    edge_bits: int | None = 8
    clipping: bool = True
    adaptive_rounding: bool = True
    adaptive_mebibytes: int = 1024
    mixed: Mixed | None = None
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
        faults = FaultList()
        offered = ", ".join(map(str, SUPPORTED_BITS))
        for name, bits in (
            ("bits", self.bits),
            ("activation_bits", self.activation_bits),
            ("edge_bits", self.edge_bits),
        ):
            if bits is not None and bits not in SUPPORTED_BITS:
                faults.add(
                    f"{name}={bits}: post-training quantisation supports {offered} bit",
                    remedy=f"give {_nearest(bits)}, the next width that an overlay has",
                )
        faults.raise_if_any(UnsupportedModel)
        if self.mixed is not None and not self.is_low_bit:
            faults.add(
                f"mixed: with bits={self.bits} there is nothing to choose",
                remedy="give bits=4, or leave mixed out",
            )
        if self.score_bits not in SCORE_BITS:
            widths = " or ".join(map(str, SCORE_BITS))
            faults.add(f"score_bits={self.score_bits}: expected {widths}")
        if self.method not in get_args(Method):
            faults.add(f"method={self.method!r}: expected one of {', '.join(get_args(Method))}")
        if not 50.0 < self.percentile <= 100.0:
            faults.add(f"percentile={self.percentile}: expected more than 50 and at most 100")
        if not (self.share_ratio >= 1.0 and math.isfinite(self.share_ratio)):
            faults.add(f"share_ratio={self.share_ratio}: expected a finite number of at least 1")
        widest = max(self.bits, self.activation_width, self.edge_bits or 0)
        if not 2 * widest < self.accumulator_bits <= 32:
            faults.add(
                f"accumulator_bits={self.accumulator_bits}: expected more than 2*bits={2 * widest} and at"
                " most 32, the width of a bias in ONNX"
            )
        if self.adaptive_mebibytes < 1:
            faults.add(f"adaptive_mebibytes={self.adaptive_mebibytes}: expected at least 1")
        if self.statistics_samples < 1:
            faults.add(f"statistics_samples={self.statistics_samples}: expected at least 1")
        faults.raise_if_any(ConfigError)

    @property
    def activation_width(self) -> int:
        """Width of the activations that layers read."""
        return self.bits if self.activation_bits is None else self.activation_bits

    @property
    def is_low_bit(self) -> bool:
        """Whether any operand may have fewer than 8 bits."""
        return min(self.bits, self.activation_width) < WHOLE_BITS

    @property
    def clips(self) -> bool:
        """Whether ranges are cut off."""
        return self.clipping and self.is_low_bit

    @property
    def adapts(self) -> bool:
        """Whether weights are rounded adaptively; between -1 and +1 there is no nearest."""
        return self.adaptive_rounding and 1 < self.bits < WHOLE_BITS


def _nearest(bits: int) -> int:
    """The next supported width from `bits` up, or the largest."""
    return min((width for width in SUPPORTED_BITS if width >= bits), default=SUPPORTED_BITS[-1])
