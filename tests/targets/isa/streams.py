"""Random instructions."""

from __future__ import annotations

from hypothesis import strategies as st

from tilewright.targets.isa.spec import INSTRUCTIONS, Instruction, Matrix, layout


@st.composite
def instructions(draw: st.DrawFn, kinds: tuple[type[Instruction], ...] = INSTRUCTIONS) -> Instruction:
    """Any legal instruction, all fields random."""
    kind = draw(st.sampled_from(kinds))
    values: dict[str, int] = {}
    for spec in layout(kind):
        if spec.bits.kind is not None:
            values[spec.name] = int(draw(st.sampled_from(list(spec.bits.kind))))
        else:
            values[spec.name] = draw(st.integers(spec.bits.lo, spec.bits.hi))
    own = 15 if kind.unit is None else 1 << kind.unit
    values["wait"] &= ~own
    values["give"] &= ~own
    if kind is Matrix:
        values |= {f"order_{i}": v for i, v in enumerate(draw(st.permutations(range(6))))}
    return kind(**values)
