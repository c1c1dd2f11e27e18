"""What a compiled network costs, and what it could cost at best."""

from tilewright.report.bound import LayerBound, Limits, NetworkBound, baseline, bound

__all__ = ["LayerBound", "Limits", "NetworkBound", "baseline", "bound"]
