"""Which tensors get 16 bits: *scores*, which only the host's float operators or the caller read.

The largest scores of a classifier lie close together, so that rounding them to 8 bits makes ties where there
were none (README). The machine writes a 16-bit result as two planes of 8 bits, which costs one more write
of a small tensor, and none of its operations need read it again. The rule is one for a whole group of
tensors with one scale:

    score group = every tensor in it comes out of a sum (mac, binary or average unit, with no activation
                  function but a clamp) or out of a layout of the group's own tensors, and nothing but such
                  layouts and float operators reads it

Layouts are all `move` units but MaxPool, which compares, and shift, which MATRIX reads, and Concat where it needs no
requantisation. Tables have 256 entries, and a clamp alone or a slope reads integers of 8 bits: what they make or read
keeps 8 bits.
"""

from __future__ import annotations

from collections.abc import Mapping

from tilewright.quantize.units import Unit

_SUMS = frozenset({"mac", "binary", "average"})
_CLAMPS = frozenset({"Relu", "Clip"})


SCORE_HEADROOM = 4.0
"""How far past the calibrated range scores reach before they saturate: 16 bits have the room, and an image more
certain than those calibrated on is no exception. 2 of the 16 bits pay for it."""


def score_groups(units: list[Unit], group: Mapping[str, str]) -> set[str]:
    """Return the groups that hold scores.

    Args:
        units: all units of the graph.
        group: for each quantised tensor the name of its group.
    """
    producer = {name: unit for unit in units for name in unit.outputs}
    narrow = set()
    for name, its_group in group.items():
        made_by = producer.get(name)
        # Without a unit it is a graph input or comes from the host: integers that LOAD brings in 8 bits.
        if made_by is None or not (_is_sum(made_by) or _is_layout(made_by, group)):
            narrow.add(its_group)
    for unit in units:
        if not _is_layout(unit, group):
            narrow |= {group[name] for name in unit.inputs}
    return set(group.values()) - narrow


def _is_sum(unit: Unit) -> bool:
    return unit.kind in _SUMS and all(node.op_type in _CLAMPS for node in unit.nodes[1:])


def _is_layout(unit: Unit, group: Mapping[str, str]) -> bool:
    """Return whether integers pass through the unit as they are, but in another order."""
    return (
        unit.kind in ("move", "concat")
        and all(node.op_type not in ("MaxPool", "Conv") for node in unit.nodes)
        and len({group[name] for name in (*unit.inputs, *unit.outputs)}) == 1
    )
