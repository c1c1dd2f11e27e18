"""The overlays that a board's part has room for.

Everything that an overlay file holds is a choice here but four: the clock, whether DSPs run at twice of it, and the
width of sums, which are those of the board's installed overlays; and PARAM, whose width alone takes the BRAMs of its
32 KiB (`targets/README.md`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tilewright.errors import ConfigError
from tilewright.targets.config import BANK_KIB_PER_LANE, Board, Overlay, overlays
from tilewright.targets.resources import resources

Widths = tuple[int, int]
"""Bits of an activation and of a weight."""

HALF_WORD_BITS = (64, 128, 256)
LANES = (8, 16, 32, 64)
WGT_KIB = (32, 64, 128, 256)
ACT_PARTS = (1.0, 0.75, 0.5, 0.25)
"""Sizes of ACT, as parts of the largest that fits."""
PARAM_KIB = 32
DEFAULT_SHARE = 0.9
"""Of LUTs, registers and block RAM that may be used: above it placing and routing gets hard."""
_LIMITED = ("lut", "ff", "bram36")


@dataclass(frozen=True)
class Family:
    """Overlays with the same lanes, which differ in their memories: the largest first."""

    members: tuple[Overlay, ...]

    @property
    def first(self) -> Overlay:
        """The one with the largest memories."""
        return self.members[0]


def fits(overlay: Overlay, share: float) -> bool:
    """Whether an overlay takes at most this share of LUTs, registers and block RAM, and no more DSPs than there are."""
    found = resources(overlay).shares
    return found["dsp"] <= 1 and all(found[name] <= share for name in _LIMITED)


def known_widths() -> tuple[Widths, ...]:
    """Widths that installed overlays have, widest first."""
    return tuple(sorted({(o.inp_bits, o.wgt_bits) for o in overlays().values()}, reverse=True))


def clock(board: Board) -> int | None:
    """MHz of the board's installed overlays; None where it has none."""
    return max((o.mhz for o in overlays().values() if o.board.name == board.name), default=None)


def dsp_pumping(board: Board, widths: Widths) -> int:
    """Of the board's installed overlays of these widths, the least; 1 where it has none."""
    known = [o for o in overlays().values() if o.board.name == board.name]
    return min((o.dsp_pumping for o in known if (o.inp_bits, o.wgt_bits) == widths), default=1)


def acc_bits(widths: Widths) -> int:
    """Bits of a sum: of installed overlays of these widths, else enough for 2^17 products of the largest values."""
    known = [o.acc_bits for o in overlays().values() if (o.inp_bits, o.wgt_bits) == widths]
    return max(known, default=min(32, sum(widths) + 17))


def families(
    board: Board, widths: Iterable[Widths], mhz: int, share: float, known: Sequence[Overlay] = ()
) -> list[Family]:
    """All overlays that fit, by lanes, but for those that differ from `known` ones in their name only."""
    found = []
    for inp, wgt in widths:
        for block_in in (bits // inp for bits in HALF_WORD_BITS if bits // inp <= 128):
            for block_out in (block_in, 2 * block_in):
                for lanes in (n for n in LANES if block_in // 4 <= n <= 2 * block_in):
                    lanes_only = {
                        "board": board, "block_in": block_in, "block_out": block_out, "inp_bits": inp,
                        "wgt_bits": wgt, "acc_bits": acc_bits((inp, wgt)), "vector_lanes": lanes, "mhz": mhz,
                        "dsp_pumping": dsp_pumping(board, (inp, wgt)),
                    }  # fmt: skip
                    members = tuple(
                        o
                        for o in _members(lanes_only, share)
                        if not any(len(o.differences(k)) == 1 for k in known)  # the name
                    )
                    if members:
                        found.append(Family(members))
    return found


def _members(lanes_only: Mapping[str, object], share: float) -> Iterator[Overlay]:
    made: dict[tuple[int, int], Overlay] = {}
    for wgt_kib in reversed(WGT_KIB):
        pair = 2 * BANK_KIB_PER_LANE * _int(lanes_only["block_in"])
        sizes = range(pair, 2048 + 1, pair)
        largest = _largest(lanes_only, wgt_kib, sizes, share)
        for part in ACT_PARTS:
            act_kib = max(int(largest * part) // pair, 1) * pair if largest else 0
            if act_kib and (act_kib, wgt_kib) not in made:
                made[act_kib, wgt_kib] = _make(lanes_only, act_kib, wgt_kib)
    order = sorted(made, key=lambda sizes: (-sum(sizes), -sizes[0]))
    yield from (made[sizes] for sizes in order)


def _largest(lanes_only: Mapping[str, object], wgt_kib: int, sizes: Sequence[int], share: float) -> int:
    """The largest ACT that fits; 0 where none does. What an overlay takes grows with ACT."""
    low, high = 0, len(sizes)
    while low < high:
        middle = (low + high) // 2
        try:
            ok = fits(_make(lanes_only, sizes[middle], wgt_kib), share)
        except ConfigError:  # beyond an instruction's address space, or a tile is larger than WGT
            ok = False
        low, high = (middle + 1, high) if ok else (low, middle)
    return sizes[low - 1] if low else 0


def _make(lanes_only: Mapping[str, object], act_kib: int, wgt_kib: int) -> Overlay:
    block_in, block_out, acc = (_int(lanes_only[name]) for name in ("block_in", "block_out", "acc_bits"))
    board = lanes_only["board"]
    assert isinstance(board, Board)
    bits = f"{lanes_only['inp_bits']}x{lanes_only['wgt_bits']}"
    name = f"{board.name}-{bits}-{block_in}x{block_out}-v{lanes_only['vector_lanes']}-a{act_kib}-w{wgt_kib}"
    values = dict(lanes_only) | {
        "name": name,
        "act_kib": act_kib,
        "wgt_kib": wgt_kib,
        "acc_kib": block_out * acc // 8,
        "param_kib": PARAM_KIB,
        "disp_entries": 64,
        "displacement_min": -1,
        "displacement_max": 1,
    }
    return Overlay.from_dict(values, "the search")


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
