"""What the passes decided about each quantised tensor, carried in an attribute of `main`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from tvm import relax

from tilewright.integer.predicate import Reject

PLACEMENT = "tilewright.placement"


@dataclass
class Row:
    """An accelerated cone: its layer name and the variables of its float operators, outermost first."""

    layer: str
    members: list[str]


@dataclass
class Placement:
    """Decisions by the variable of the quantised tensor.

    Attributes:
        accelerated: cones that became integer operators.
        refused: cones that stay in float on the host, with the reason.
        evicted: integer operators that go to the host, with the reason.
    """

    accelerated: dict[str, Row] = field(default_factory=dict)
    refused: dict[str, Reject] = field(default_factory=dict)
    evicted: dict[str, Reject] = field(default_factory=dict)

    def note(self, variable: str, layer: str, members: Sequence[str]) -> None:
        """Record an accelerated cone."""
        self.accelerated[variable] = Row(layer, list(members))

    def put(self, function: relax.Function) -> relax.Function:
        """The function with this as its attribute."""
        return function.with_attr(PLACEMENT, json.dumps(asdict(self)))

    @staticmethod
    def of(function: relax.Function) -> Placement:
        """Read from a function; empty where it has none."""
        if function.attrs is None or PLACEMENT not in function.attrs:
            return Placement()
        data = json.loads(str(function.attrs[PLACEMENT]))
        return Placement(
            {k: Row(**v) for k, v in data["accelerated"].items()},
            {k: Reject(**v) for k, v in data["refused"].items()},
            {k: Reject(**v) for k, v in data["evicted"].items()},
        )
