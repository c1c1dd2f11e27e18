"""The host's share of a run: an estimate from the package's list of host operators, or a time that the user measured.

A package's host part runs before, between and after the accelerator's regions, one after the other. No board is at
hand when a report is made, so its time is estimated: elements of each operator (the larger of operand and result) times
cycles an element on one core of the board. The cycles are judgement for plain scalar loops on an in-order core, good
to a factor of two; a measured time replaces the estimate (`--host-ms`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tilewright.targets.package import Package
from tilewright.targets.program import HostProgram, HostStep

HOST_MHZ = 1000
"""Clock of the assumed core: between the Zynq-7000's Cortex-A9 (667 MHz) and the ZU3EG's Cortex-A53 (1200 MHz)."""

MOVE, ARITHMETIC, CONVERT, FUNCTION, ORDER = 2, 4, 12, 40, 60
"""Cycles an element: copies; one operation; divide, round and clip; exponential and the like; sorting and boxes."""

_CYCLES = {
    "region": MOVE,  # operands and results are brought into the accelerator's order of lanes
    "quantize": CONVERT,
    "dequantize": ARITHMETIC,
    "divide": CONVERT,
    "sqrt": CONVERT,
    "rsqrt": CONVERT,
    "topk": ORDER,
    "non_max_suppression": ORDER,
    "detection_output": ORDER,
    **dict.fromkeys(("reshape", "transpose", "concat", "slice", "pad", "expand", "gather", "cast"), MOVE),
    **dict.fromkeys(("softmax", "log_softmax", "sigmoid", "tanh", "exp", "log", "erf", "power"), FUNCTION),
}
"""Every other operator counts as arithmetic."""


@dataclass(frozen=True)
class HostWork:
    """An operator of the host part.

    Attributes:
        op: its name in `targets/host_ops.py`; `region`: the layout at an accelerator region's edges.
        elements: the larger of operands and results; of a region both.
        ms: estimated milliseconds.
    """

    op: str
    elements: int
    ms: float


@dataclass(frozen=True)
class HostShare:
    """Time of the host part.

    Attributes:
        ms: milliseconds a run.
        measured: whether the user gave them.
        source: where they come from, in words.
        work: the operators in order, with their estimates.
    """

    ms: float
    measured: bool
    source: str
    work: tuple[HostWork, ...]


def host_share(package: Package, measured_ms: float | None = None, mhz: int = HOST_MHZ) -> HostShare:
    """The host's time, measured where it is given, else estimated at a core's clock."""
    work = tuple(_work(step, package.program, mhz) for step in package.program.steps)
    if measured_ms is not None:
        return HostShare(measured_ms, True, "measured, as given by --host-ms", work)
    source = f"estimated from its operators for one core at {mhz} MHz, plain loops; not measured"
    return HostShare(math.fsum(w.ms for w in work), False, source, work)


def _work(step: HostStep, program: HostProgram, mhz: int) -> HostWork:
    def elements(numbers: tuple[int, ...]) -> int:
        # A length that is known at run time only counts as one.
        shapes = [program.tensors[n].shape for n in numbers]
        return sum(math.prod(d for d in shape if d > 0) for shape in shapes)

    before, after = elements(step.inputs), elements(step.outputs)
    count = program.batch * (before + after if step.op == "region" else max(before, after))
    return HostWork(step.op, count, count * _CYCLES.get(step.op, ARITHMETIC) / (mhz * 1e3))
