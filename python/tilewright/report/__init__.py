"""What a compiled network costs, and what it could cost at best."""

from tilewright.report.analysis import Assumptions, LayerReport, Report, analyse
from tilewright.report.bound import LayerBound, Limits, NetworkBound, baseline, bound
from tilewright.report.sweep import Sweep, SweepRow, parse_sweep, run_sweep

__all__ = [
    "Assumptions",
    "LayerBound",
    "LayerReport",
    "Limits",
    "NetworkBound",
    "Report",
    "Sweep",
    "SweepRow",
    "analyse",
    "baseline",
    "bound",
    "parse_sweep",
    "run_sweep",
]
