"""Boards and overlays: checked, frozen data read from `boards/*.toml` and `overlays/*.toml`.

A board is what is soldered down, an overlay one configuration of the accelerator on it; options of the
compiler are in neither. Sizes that follow from others are properties. Every fault of a file is reported at
once.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from tilewright.errors import ConfigError, Fault, FaultList
from tilewright.targets.isa.spec import RECORD_BYTES, Bits, Instruction, Load, Matrix, Vector, layout
from tilewright.targets.resources import resources

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent
ACC_HALVES = 2
ACC_HALF_VECTORS = 512
BANK_KIB_PER_LANE = 2
"""A lane of an ACT bank is one BRAM18 column: 2048 x 8, 4096 x 4 .. 16384 x 1 bits."""
DRAM_READ_PORTS = 4
"""Most read ports: what a Zynq has of high-performance AXI ports."""

T = TypeVar("T", "Board", "Overlay")


@dataclass(frozen=True, kw_only=True)
class Board:
    """The physical facts of a board. DRAM figures are per cycle of the accelerator's clock.

    Raises ConfigError, with all faults, when constructed with figures that cannot be.
    """

    name: str
    part: str
    lut: int
    ff: int
    bram36: int
    dsp: int
    dram_read_ports: int
    dram_read_bytes_per_cycle: int  # of a port
    dram_write_bytes_per_cycle: int
    dram_bytes_per_cycle: int  # both ways together
    dram_burst_bytes: int
    dram_outstanding: int
    dram_latency_cycles: int
    description: str = ""

    def __post_init__(self) -> None:
        _check(self, _board_faults)

    @property
    def dram_most_read_bytes_per_cycle(self) -> int:
        """What all read ports bring together in a cycle, in the long run."""
        return min(self.dram_read_ports * self.dram_read_bytes_per_cycle, self.dram_bytes_per_cycle)

    def to_dict(self) -> dict[str, Any]:
        """All fields, as `from_dict` takes them."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any], source: str = "the given board") -> Board:
        """Build a checked board; `source` names the file in messages. Raises ConfigError."""
        return _build(Board, dict(values), source)


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """One configuration of the accelerator. Raises ConfigError, with all faults, when it contradicts itself.

    Attributes:
        block_in, block_out: lanes that MATRIX reads and writes a step.
        inp_bits, wgt_bits, acc_bits: width of an activation, a weight, a sum.
        vector_lanes: results VECTOR makes a cycle.
        act_kib .. param_kib: sizes of the scratchpads; acc_kib counts both halves.
        disp_entries: rows of the displacement table; 0: no displaced reads.
        displacement_min, displacement_max: what an entry may hold.
        dsp_pumping: times that a DSP multiplies in a cycle: 2 where they run at twice the clock. What an overlay does
            and how fast is the same; the part that it needs differs (`resources.py`).
    """

    name: str
    board: Board
    block_in: int
    block_out: int
    inp_bits: int
    wgt_bits: int
    acc_bits: int
    vector_lanes: int
    act_kib: int
    wgt_kib: int
    acc_kib: int
    param_kib: int
    disp_entries: int
    displacement_min: int
    displacement_max: int
    mhz: int
    dsp_pumping: int = 1
    description: str = ""

    def __post_init__(self) -> None:
        _check(self, _overlay_faults)

    @property
    def half_word_bytes(self) -> int:
        """Bytes of a half word: an ACT row, and the unit of DRAM alignment."""
        return self.block_in * self.inp_bits // 8

    @property
    def tile_bytes(self) -> int:
        """Bytes of a WGT tile."""
        return self.block_out * self.block_in * self.wgt_bits // 8

    @property
    def entry_bytes(self) -> int:
        """Bytes of a displacement entry."""
        return self.block_in

    @property
    def record_alignment(self) -> int:
        """What DRAM addresses of records are multiples of: a half word may be longer than a record."""
        return min(self.half_word_bytes, RECORD_BYTES)

    @property
    def act_half_words(self) -> int:
        """Rows of ACT."""
        return self.act_kib * 1024 // self.half_word_bytes

    @property
    def wgt_tiles(self) -> int:
        """Rows of WGT."""
        return self.wgt_kib * 1024 // self.tile_bytes

    @property
    def param_records(self) -> int:
        """Rows of PARAM."""
        return self.param_kib * 1024 // RECORD_BYTES

    @property
    def acc_half_vectors(self) -> int:
        """Vectors of one ACC half."""
        return ACC_HALF_VECTORS

    @property
    def acc_vectors(self) -> int:
        """Vectors of ACC, both halves."""
        return ACC_HALVES * ACC_HALF_VECTORS

    @property
    def halves_per_vector(self) -> int:
        """R: half words of lanes in an ACC vector, 1 or 2."""
        return self.block_out // self.block_in

    @property
    def inp_max(self) -> int:
        """Largest stored activation."""
        return (1 << self.inp_bits) - 1

    @cached_property
    def identity(self) -> Mapping[str, int | str]:
        """All fields but the descriptions, the board's as `board.lut`: what the hash covers and a device shows."""
        values = self.to_dict()
        flat = {k: v for k, v in values.items() if k not in ("description", "board")}
        return flat | {f"board.{k}": v for k, v in values["board"].items() if k != "description"}

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the canonical JSON of all fields but the descriptions.

        The clock and the board count: equal hashes mean equal results and equal reports.
        """
        values = self.identity
        return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def differences(self, other: Overlay) -> list[str]:
        """Name the fields in which two overlays differ, `block_out: 16 here, 32 there`."""
        mine, theirs = self.identity, other.identity
        return [f"{k}: {mine[k]} here, {theirs[k]} there" for k in mine if mine[k] != theirs[k]]

    def to_dict(self) -> dict[str, Any]:
        """All fields, the board's under `board`, as `from_dict` takes them."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any], source: str = "the given overlay") -> Overlay:
        """Build a checked overlay; `source` names the file in messages. Raises ConfigError."""
        values = dict(values)
        found = values.get("board")
        if isinstance(found, Mapping):
            values["board"] = Board.from_dict(found, source)
        elif found is not None and not isinstance(found, Board):
            raise ConfigError(f"board={found!r}: must be a table of the board's figures in {source}")
        return _build(Overlay, values, source)


def board(name: str) -> Board:
    """The board of that name. Raises ConfigError, listing the known names, where there is none."""
    return _named(boards(), "board", name)


def overlay(name: str) -> Overlay:
    """The overlay of that name, or of that file if the name ends with .toml.

    Raises ConfigError: no overlay has the name (the message lists those that are known), or the file is wrong, see
    :func:`read_overlay`.
    """
    return read_overlay(Path(name)) if name.endswith(".toml") else _named(overlays(), "overlay", name)


@cache
def boards() -> Mapping[str, Board]:
    """All installed boards by name."""
    return MappingProxyType({p.stem: read_board(p) for p in sorted((FOLDER / "boards").glob("*.toml"))})


@cache
def overlays() -> Mapping[str, Overlay]:
    """All installed overlays by name."""
    return MappingProxyType({p.stem: read_overlay(p) for p in sorted((FOLDER / "overlays").glob("*.toml"))})


def read_board(path: Path) -> Board:
    """Read a board; its name is the file's. Raises ConfigError."""
    return Board.from_dict(_read(path), _short(path))


def read_overlay(path: Path) -> Overlay:
    """Read an overlay; its name is the file's. Its `board` is a file beside it, BOARD.toml, or an installed one.

    Raises ConfigError where the file contradicts itself, or takes more than the board's part has.
    """
    values, source = _read(path), _short(path)
    name = values.get("board")
    if isinstance(name, str):
        beside = path.with_name(f"{name}.toml")
        if beside.is_file():
            values["board"] = read_board(beside)
        elif name in boards():
            values["board"] = boards()[name]
        else:
            known = ", ".join(boards())
            raise ConfigError(
                Fault(
                    f"board={name!r}: must be one of {known}, or a file {beside.name} beside {source}",
                    remedy=f"write {beside}",
                )
            )
    found = Overlay.from_dict(values, source)
    faults = resources(found).faults()
    if faults:
        raise ConfigError(*(Fault(f"{f.message} in {source}", remedy=f.remedy) for f in faults))
    return found


def _named(known: Mapping[str, T], what: str, name: str) -> T:
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else ""
    raise ConfigError(Fault(f"unknown {what} {name!r}, known are {', '.join(known)}", remedy=hint))


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _read(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (
        OSError,
        UnicodeDecodeError,
        tomllib.TOMLDecodeError,
        RecursionError,
    ) as error:  # the last: nested deep
        raise ConfigError(f"{_short(path)} cannot be read: {error}") from error
    if "name" in values:
        raise ConfigError(
            f"name={values['name']!r}: unknown field, the file's name is the name, in {_short(path)}"
        )
    return {"name": path.stem, **values}


def _build(kind: type[T], values: dict[str, Any], source: str) -> T:
    """Check keys and types, construct, and put `source` behind every fault."""
    faults = FaultList()
    fields = {f.name: f for f in dataclasses.fields(kind)}
    types = {"str": str, "int": int, "Board": Board}
    for key in values.keys() - fields.keys():
        near = difflib.get_close_matches(key, fields, n=1)
        hint = f"did you mean {near[0]}?" if near else ""
        faults.add(f"{key}={values[key]!r}: unknown field in {source}", remedy=hint)
    for name, f in fields.items():
        wanted = types[str(f.type)]
        if name not in values:
            if f.default is dataclasses.MISSING:
                faults.add(f"{name}: missing in {source}")
        elif not isinstance(values[name], wanted) or isinstance(values[name], bool):
            kind_name = type(values[name]).__name__
            faults.add(f"{name}={values[name]!r}: must be of type {f.type}, not {kind_name}, in {source}")
    faults.raise_if_any(ConfigError)
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(
            *(Fault(f"{f.message} in {source}", f.where, f.remedy) for f in error.faults)
        ) from None


@dataclass(frozen=True)
class _Faults:
    """Gathers faults of the form `field=value: must be ...`."""

    config: Board | Overlay
    faults: FaultList

    def need(self, ok: bool, field: str, rule: str) -> None:
        if not ok:
            self.faults.add(f"{field}={getattr(self.config, field)!r}: must be {rule}")

    def need_multiple(self, field: str, divisor: int, meaning: str) -> None:
        value = getattr(self.config, field)
        if value <= 0 or value % divisor:
            self.faults.add(
                f"{field}={value}: must be a positive multiple of {meaning} = {divisor} "
                f"(got remainder {value % divisor})"
            )


def _check(config: T, check: Callable[[T, _Faults], None]) -> None:
    faults = _Faults(config, FaultList())
    check(config, faults)
    faults.faults.raise_if_any(ConfigError)


def _board_faults(b: Board, faults: _Faults) -> None:
    for f in dataclasses.fields(b):
        if str(f.type) == "int":
            faults.need(getattr(b, f.name) > 0, f.name, "positive")
    for field in ("dram_read_bytes_per_cycle", "dram_write_bytes_per_cycle"):
        if getattr(b, field) > b.dram_bytes_per_cycle:
            faults.need(
                False, field, f"at most dram_bytes_per_cycle = {b.dram_bytes_per_cycle} (both ways together)"
            )
    faults.need(b.dram_read_ports <= DRAM_READ_PORTS, "dram_read_ports", f"at most {DRAM_READ_PORTS}")
    faults.need(_is_power_of_two(b.dram_burst_bytes), "dram_burst_bytes", "a power of two")


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def _bits(kind: type[Instruction], name: str) -> Bits:
    (spec,) = (f for f in layout(kind) if f.name == name)
    return spec.bits


def _overlay_faults(o: Overlay, faults: _Faults) -> None:
    widths = (1, 2, 4, 8)
    faults.need(o.inp_bits in widths, "inp_bits", "1, 2, 4 or 8")
    faults.need(o.wgt_bits in widths, "wgt_bits", "1, 2, 4 or 8")
    if o.wgt_bits in widths and o.inp_bits in widths and (o.inp_bits == 1) != (o.wgt_bits == 1):
        rule = f"1 where inp_bits is and only there; inp_bits is {o.inp_bits}"
        faults.need(False, "wgt_bits", rule)
    faults.need(8 <= o.acc_bits <= 32, "acc_bits", "8..32")
    faults.need(_is_power_of_two(o.block_in) and o.block_in >= 8, "block_in", "a power of two from 8 up")
    faults.need(
        o.block_out in (o.block_in, 2 * o.block_in),
        "block_out",
        f"block_in or 2*block_in = {o.block_in} or {2 * o.block_in}",
    )
    bits = o.block_in * o.inp_bits
    faults.need(bits in (64, 128, 256), "block_in", f"such that block_in*inp_bits = {bits} is 64, 128 or 256")
    faults.need(
        _is_power_of_two(o.vector_lanes) and o.vector_lanes <= 2 * o.block_in,
        "vector_lanes",
        f"a power of two up to 2*block_in = {2 * o.block_in}",
    )
    faults.need(0 < o.mhz <= 1000, "mhz", "1..1000")
    faults.need(o.dsp_pumping in (1, 2), "dsp_pumping", "1 or 2")
    most = _bits(Matrix, "disp_base").hi + 1
    faults.need(0 <= o.disp_entries <= most, "disp_entries", f"0..{most}")
    faults.need(-8 <= o.displacement_min <= 0, "displacement_min", "-8..0")
    faults.need(0 <= o.displacement_max <= 7, "displacement_max", "0..7")
    if len(faults.faults):
        return  # the sizes below would divide by what was refused
    pair = 2 * BANK_KIB_PER_LANE * o.block_in
    faults.need_multiple("act_kib", pair, "2*2*block_in KiB, a pair of banks,")
    if o.wgt_kib <= 0 or o.wgt_kib * 1024 % o.tile_bytes:
        rest = o.wgt_kib * 1024 % o.tile_bytes
        faults.need(
            False, "wgt_kib", f"a positive multiple of a tile = {o.tile_bytes} bytes (got remainder {rest})"
        )
    acc_bytes = o.block_out * o.acc_bits * o.acc_vectors // 8
    rule = f"block_out*acc_bits/8*{o.acc_vectors} bytes = {acc_bytes / 1024:g} KiB"
    faults.need(o.acc_kib * 1024 == acc_bytes, "acc_kib", rule)
    faults.need(o.param_kib > 0, "param_kib", "positive")
    for field, rows, what, bits_of in (
        ("act_kib", o.act_half_words, "half words", _bits(Load, "address")),
        ("wgt_kib", o.wgt_tiles, "tiles", _bits(Matrix, "wgt_base")),
        ("param_kib", o.param_records, "records", _bits(Vector, "param_base")),
    ):
        most = bits_of.hi + 1
        faults.need(
            rows <= most, field, f"at most {most} {what}, the instruction's address space (found {rows})"
        )
