"""The host part of a package as data, and the bytes of programs and regions.

All numbers little-endian; text = u16 length + UTF-8; list = u32 count + items unless said otherwise; type = position in
HOST_DTYPES + 1. The C++ reader is `board/native/src/program.cc`.

| program | |
|---|---|
| magic | `TWHP` and u16 2 |
| batch | u32: images of a run (1 to 16); regions take all at once, every other step runs for each |
| tensors | list of: text name, u8 type, u8 rank (<= 8), i64 dims; -1: known at run time only |
| constants | list of: u32 tensor, u64 size, bytes (row-major) |
| inputs, outputs | list of u32 tensor, each |
| steps | list of: text operator, u8 count + u32 operands, u8 count + u32 results, u8 count + attributes |
| attribute | text name, u8 type (ATTRIBUTE_TYPES + 1), then i64, or u32 count + i64s, or f64 |

| region | |
|---|---|
| magic | `TWRG` and u16 5 |
| name | text |
| machine | i32 for each of MACHINE_FIELDS |
| overlay | list of u32: the CONFIG registers of a device that runs it (`registers.py`) |
| sizes | u64 workspace, input, output bytes |
| batch | u32: images that a launch works on |
| layers | list of text |
| layer_of | list of u32 |
| products | list of u64 offsets, list of u32 counts; only compilers read them |
| inputs, outputs | list of: text name, u8 type, u8 rank, i64 dims, u64 offset, u8 bits, list of i32 lanes, packing |
| packing | u8 0: none; 1: i32 columns, rows, taps, stride, dilation, offset, top, fill |

A region's stream and constants are byte strings beside it. Every tensor is defined once (input, constant or result of a
step) before it is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from typing import cast

import numpy as np
from numpy.typing import NDArray

from tilewright.errors import FaultList, PackageError
from tilewright.targets.binary import Reader, Writer
from tilewright.targets.config import Overlay
from tilewright.targets.host_ops import ATTRIBUTE_TYPES, BY_NAME, HOST_DTYPES, AttributeValue, HostDType
from tilewright.targets.region import MOST_IMAGES, REGION_DTYPES, CompiledRegion, MapLayout, Packing
from tilewright.targets.registers import config_words
from tilewright.targets.storage import WIDTHS

PROGRAM_MAGIC = b"TWHP\x02\x00"
REGION_MAGIC = b"TWRG\x05\x00"
MAX_RANK = 8
MACHINE_FIELDS = (
    "block_in",
    "block_out",
    "inp_bits",
    "wgt_bits",
    "acc_bits",
    "act_half_words",
    "wgt_tiles",
    "acc_vectors",
    "param_records",
    "disp_entries",
    "displacement_min",
    "displacement_max",
)
"""What of an overlay decides results, in the order of the C++ `tilewright::Overlay`."""


@dataclass(frozen=True)
class HostTensor:
    """A tensor of the host part; a dimension of -1 is known at run time only."""

    name: str
    shape: tuple[int, ...]
    dtype: HostDType


@dataclass(frozen=True)
class HostStep:
    """One operator call; operands and results are numbers of tensors."""

    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)

    @staticmethod
    def of(op: str, inputs: Sequence[int], outputs: Sequence[int], **attributes: AttributeValue) -> HostStep:
        """A step with its attributes given in any order; the table's order is the one that counts."""
        names = [a.name for a in BY_NAME[op].attributes] if op in BY_NAME else []
        ordered = {name: attributes.pop(name) for name in names if name in attributes} | attributes
        return HostStep(op, tuple(inputs), tuple(outputs), ordered)


@dataclass(frozen=True)
class HostProgram:
    """The host part: tensors, constants by tensor number, graph inputs and outputs, steps in order.

    `batch`: images of a run. Tensors are those of one image; inputs and outputs get the batch as first dimension.
    """

    tensors: tuple[HostTensor, ...]
    constants: Mapping[int, NDArray[np.generic]]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    steps: tuple[HostStep, ...]
    batch: int = 1

    def check(self, regions: int) -> None:
        """Compare with the operator table.

        Raises PackageError with every unknown operator, wrong attribute, tensor number or order, and region number.
        """
        faults = FaultList()
        if not 1 <= self.batch <= MOST_IMAGES:
            faults.add(f"expected a batch from 1 to {MOST_IMAGES}, found {self.batch}", where="program")
        defined = set(self.inputs) | set(self.constants)
        for number in sorted(defined):
            if number >= len(self.tensors):
                faults.add(f"tensor {number} does not exist, there are {len(self.tensors)}", where="program")
        for position, step in enumerate(self.steps):
            where = f"program step {position} ({step.op})"
            spec = BY_NAME.get(step.op)
            if spec is None:
                faults.add(
                    f"unknown host operator {step.op!r}",
                    where=f"program step {position}",
                    remedy="a newer Tilewright made this package: update, or compile again",
                )
                continue
            found = tuple((name, _attribute_type(value)) for name, value in step.attributes.items())
            expected = tuple((a.name, a.type) for a in spec.attributes)
            if found != expected:
                faults.add(f"expected attributes {expected}, found {found}", where=where)
            elif step.op == "region" and not 0 <= cast(int, step.attributes["index"]) < regions:
                faults.add(
                    f"region {step.attributes['index']} does not exist, there are {regions}", where=where
                )
            for kind, numbers, limits in (
                ("operands", step.inputs, spec.inputs),
                ("results", step.outputs, spec.outputs),
            ):
                if not limits[0] <= len(numbers) <= limits[1]:
                    faults.add(f"expected {limits[0]}..{limits[1]} {kind}, found {len(numbers)}", where=where)
            for number in step.inputs:
                if number not in defined or number >= len(self.tensors):
                    faults.add(f"operand {number} is used before it is defined", where=where)
            first = step.inputs[0] if step.inputs else len(self.tensors)
            if first < len(self.tensors) and self.tensors[first].dtype not in spec.types:
                found_type = self.tensors[first].dtype
                faults.add(
                    f"expected an operand of {' or '.join(spec.types)}, found {found_type}", where=where
                )
            for number in step.outputs:
                if number in defined or number >= len(self.tensors):
                    faults.add(f"result {number} is defined already or does not exist", where=where)
                defined.add(number)
        for number in self.outputs:
            if number not in defined:
                faults.add(f"output {number} is never defined", where="program")
        faults.raise_if_any(PackageError)


def _attribute_type(value: AttributeValue) -> str:
    if isinstance(value, tuple):
        return "ints"
    return "float" if isinstance(value, float) else "int"


def encode_program(program: HostProgram) -> bytes:
    """The bytes of a program, see the module's table. Raises PackageError where :meth:`HostProgram.check` does."""
    w = Writer()
    w.raw(PROGRAM_MAGIC)
    w.u32(program.batch)
    w.u32(len(program.tensors))
    for tensor in program.tensors:
        w.text(tensor.name)
        w.u8(HOST_DTYPES.index(tensor.dtype) + 1)
        w.u8(len(tensor.shape))
        w.pack(f"{len(tensor.shape)}q", *tensor.shape)
    w.u32(len(program.constants))
    for number in sorted(program.constants):
        array, tensor = program.constants[number], program.tensors[number]
        if array.shape != tensor.shape or array.dtype.name != tensor.dtype:
            raise PackageError(
                f"constant {tensor.name}: expected {tensor.dtype} {tensor.shape}, found {array.dtype} {array.shape}"
            )
        data = array.astype(array.dtype.newbyteorder("<")).tobytes()
        w.u32(number)
        w.u64(len(data))
        w.raw(data)
    w.array("I", program.inputs)
    w.array("I", program.outputs)
    w.u32(len(program.steps))
    for step in program.steps:
        w.text(step.op)
        for numbers in (step.inputs, step.outputs):
            w.u8(len(numbers))
            w.pack(f"{len(numbers)}I", *numbers)
        w.u8(len(step.attributes))
        for name, value in step.attributes.items():
            w.text(name)
            w.u8(ATTRIBUTE_TYPES.index(_attribute_type(value)) + 1)
            if isinstance(value, tuple):
                w.array("q", value)
            elif isinstance(value, float):
                w.f64(value)
            else:
                w.i64(value)
    return w.bytes()


def _shape(r: Reader, least: int) -> tuple[int, ...]:
    rank = r.u8()
    if rank > MAX_RANK:
        raise PackageError(f"program: expected a rank of at most {MAX_RANK}, found {rank}")
    shape = tuple(r.i64() for _ in range(rank))
    if any(d < least for d in shape):
        raise PackageError(f"program: expected dimensions of at least {least}, found {shape}")
    return shape


def decode_program(data: bytes) -> HostProgram:
    """Read the bytes of a program. Raises PackageError for anything that is not one."""
    r = Reader(data, "program")
    r.expect(PROGRAM_MAGIC)
    batch = r.u32()
    tensors: list[HostTensor] = []
    for _ in range(r.u32()):
        name = r.text()
        dtype = cast(HostDType, r.choice(HOST_DTYPES, "tensor type"))
        tensors.append(HostTensor(name, _shape(r, -1), dtype))
    constants: dict[int, NDArray[np.generic]] = {}
    for _ in range(r.u32()):
        number, size = r.u32(), r.u64()
        raw = r.raw(size)
        if number >= len(tensors) or number in constants:
            raise PackageError(
                f"program: constant for tensor {number}, which does not exist or has one already"
            )
        tensor = tensors[number]
        dtype_np = np.dtype(tensor.dtype).newbyteorder("<")
        if any(d < 0 for d in tensor.shape) or math.prod(tensor.shape) * dtype_np.itemsize != size:
            raise PackageError(f"program: constant {tensor.name} of shape {tensor.shape} has {size} bytes")
        constants[number] = np.frombuffer(raw, dtype_np).astype(tensor.dtype).reshape(tensor.shape)
    inputs, outputs = r.array("I"), r.array("I")
    steps: list[HostStep] = []
    for _ in range(r.u32()):
        op = r.text()
        operands = tuple(r.u32() for _ in range(r.u8()))
        results = tuple(r.u32() for _ in range(r.u8()))
        attributes: dict[str, AttributeValue] = {}
        for _ in range(r.u8()):
            name = r.text()
            kind = r.choice(ATTRIBUTE_TYPES, "attribute type")
            attributes[name] = r.array("q") if kind == "ints" else r.f64() if kind == "float" else r.i64()
        steps.append(HostStep(op, operands, results, attributes))
    r.end()
    return HostProgram(tuple(tensors), constants, inputs, outputs, tuple(steps), batch)


def machine_of(overlay: Overlay) -> tuple[int, ...]:
    """The values of MACHINE_FIELDS."""
    return tuple(int(getattr(overlay, name)) for name in MACHINE_FIELDS)


def encode_region(region: CompiledRegion, overlay: Overlay) -> bytes:
    """The bytes of a region without its stream and constants, see the module's table."""
    w = Writer()
    w.raw(REGION_MAGIC)
    w.text(region.name)
    w.pack(f"{len(MACHINE_FIELDS)}i", *machine_of(overlay))
    w.array("I", config_words(overlay))
    w.pack("3Q", region.workspace_bytes, region.input_bytes, region.output_bytes)
    w.u32(region.batch)
    w.u32(len(region.layers))
    for layer in region.layers:
        w.text(layer)
    w.array("I", region.layer_of)
    w.array("Q", sorted(region.products))
    w.array("I", (region.products[offset] for offset in sorted(region.products)))
    for maps in (region.inputs, region.outputs):
        w.u32(len(maps))
        for m in maps:
            w.text(m.name)
            w.u8(HOST_DTYPES.index(m.dtype) + 1)
            w.u8(len(m.shape))
            w.pack(f"{len(m.shape)}q", *m.shape)
            w.u64(m.offset)
            w.u8(m.bits)
            w.array("i", m.lanes)
            w.u8(m.packing is not None)
            if m.packing is not None:
                w.pack("8i", *astuple(m.packing))
    return w.bytes()


def _packing(r: Reader) -> Packing | None:
    """A packing or none; what its numbers may be the runtime checks, as it checks lanes."""
    present = r.u8()
    if present > 1:
        raise PackageError(f"region: expected 0 or 1 before a packing, found {present}")
    return Packing(*(r.i32() for _ in fields(Packing))) if present else None


def decode_region(data: bytes, stream: bytes, constants: bytes, overlay: Overlay) -> CompiledRegion:
    """Read a region. Raises PackageError for anything that is not one, or was made for another overlay."""
    r = Reader(data, "region")
    r.expect(REGION_MAGIC)
    name = r.text()
    for field_name, value in zip(MACHINE_FIELDS, machine_of(overlay), strict=True):
        found = r.i32()
        if found != value:
            raise PackageError(
                f"region {name}: made for {field_name} {found}, overlay {overlay.name} has {value}"
            )
    if r.array("I") != config_words(overlay):
        raise PackageError(f"region {name}: made for another overlay than {overlay.name}")
    workspace, input_bytes, output_bytes = r.u64(), r.u64(), r.u64()
    batch = r.u32()
    layers = tuple(r.text() for _ in range(r.u32()))
    layer_of = r.array("I")
    offsets, counts = r.array("Q"), r.array("I")
    if len(offsets) != len(counts):
        raise PackageError(f"region {name}: {len(offsets)} offsets of products with {len(counts)} counts")
    maps: list[tuple[MapLayout, ...]] = []
    for _ in range(2):
        items: list[MapLayout] = []
        for _ in range(r.u32()):
            tensor = r.text()
            dtype = r.choice(HOST_DTYPES, "tensor type")
            if dtype not in REGION_DTYPES:
                expected = ", ".join(REGION_DTYPES)
                raise PackageError(f"region {name}: expected one of {expected} for {tensor}, found {dtype}")
            shape = _shape(r, 1)
            offset, bits = r.u64(), r.u8()
            if bits not in WIDTHS:
                raise PackageError(f"region {name}: expected 1, 2, 4, 8 or 16 bits of {tensor}, found {bits}")
            items.append(MapLayout(tensor, shape, dtype, offset, r.array("i"), _packing(r), bits))
        maps.append(tuple(items))
    r.end()
    if any(number >= len(layers) for number in layer_of):
        raise PackageError(f"region {name}: an instruction names a layer beyond the {len(layers)} there are")
    products = dict(zip(offsets, counts, strict=True))
    return CompiledRegion(
        name,
        stream,
        layers,
        layer_of,
        constants,
        workspace,
        input_bytes,
        output_bytes,
        maps[0],
        maps[1],
        batch,
        products,
    )
