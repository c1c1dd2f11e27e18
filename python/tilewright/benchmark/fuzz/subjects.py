"""What reads files, each with valid seeds, what damages them, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tilewright.benchmark.fuzz.caffe_seeds import PROTOTXTS
from tilewright.benchmark.fuzz.draw import FloatSink, draw_feeds, draw_network, write_float
from tilewright.benchmark.fuzz.mutate import (
    Mutator,
    Rng,
    change_bytes,
    change_json,
    change_onnx,
    change_text,
)
from tilewright.codegen.network import compile_regions, plan_regions
from tilewright.codegen.plan import Plan
from tilewright.errors import EncodingError, PackageError, SimError
from tilewright.frontend.caffe import CaffeWarning, read_caffe, write_caffemodel
from tilewright.frontend.caffe.weights import read_caffemodel
from tilewright.frontend.canonical import canonicalise
from tilewright.frontend.mean import read_mean
from tilewright.frontend.model import Model, load
from tilewright.frontend.onnx_loader import load_onnx
from tilewright.pipeline import compile, quantize
from tilewright.quantize.options import QuantizeOptions
from tilewright.relay_passes.regions import find_regions
from tilewright.runtime.session import Session
from tilewright.targets.config import FOLDER, overlay, read_board, read_overlay
from tilewright.targets.isa.codec import decode_stream, encode_stream
from tilewright.targets.isa.listing import listing, parse_listing
from tilewright.targets.package import Package, _join, _split
from tilewright.targets.sim import fast, reference
from tilewright.targets.sim.program import DramImage, Program
from tilewright.tune.log import LogWarning, best_plan, read

TARGET = "ultra96-w8"
WARNINGS = (CaffeWarning, LogWarning)
"""Warnings that reading a file may give."""
QONNX = "qonnx.custom_op.general"


@dataclass(frozen=True)
class Subject:
    """A kind of input.

    Attributes:
        suffix: of its files.
        seeds: valid files.
        mutators: what damages them.
        read: reads a file; gives its bytes for kinds that are read from memory.
    """

    suffix: str
    seeds: Callable[[], Sequence[bytes]]
    mutators: Sequence[Mutator]
    read: Callable[[Path], object]


def _written(write: Callable[[Path], object]) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        write(path)
        return path.read_bytes()


@cache
def _caffe_folder() -> Path:
    """A folder with the first prototxt, which stays until the process ends."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="tilewright-fuzz-"))
    (folder / "net.prototxt").write_bytes(PROTOTXTS[0])
    return folder


def _caffemodels() -> list[bytes]:
    rng = np.random.default_rng(1)
    shapes: Mapping[str, Sequence[tuple[int, ...]]] = {
        "conv": [(8, 3, 3, 1)],
        "bn": [(8,), (8,), (1,)],
        "scale": [(8,), (8,)],
        "fc": [(5, 48), (5,)],
    }
    blobs = {n: [np.abs(rng.normal(1, 0.3, s)) for s in found] for n, found in shapes.items()}
    return [_written(partial(write_caffemodel, blobs=blobs, legacy=old)) for old in (False, True)]


def _read_caffemodel(path: Path) -> None:
    read_caffemodel(path)
    read_caffe(_caffe_folder() / "net.prototxt", path)


@cache
def _floats() -> tuple[onnx.ModelProto, ...]:
    rng = np.random.default_rng(2)
    return tuple(write_float(draw_network(rng)) for _ in range(12))


def _onnx_seeds() -> list[bytes]:
    texts = (
        """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,2,8,8] x) => (float[N,36] y) {
            c = Conv <auto_pad = "SAME_UPPER", strides = [2,2]> (x, w)
            r = Relu (c)
            l = LRN <size = 3> (r)
            p = MaxPool <kernel_shape = [2,2], ceil_mode = 1> (l)
            t = Shape (p)
            zero = Constant <value = int64[1] {0}> ()
            one = Constant <value = int64[1] {1}> ()
            u = Slice (t, zero, one)
            m = Constant <value = int64[1] {-1}> ()
            f = Concat <axis = 0> (u, m)
            e = Reshape (p, f)
            y = Softmax <axis = -1> (e) }""",
        """<ir_version: 10, opset_import: ["" : 21]>
        g (float[1,4,6,6] x) => (float[1,2,12,12] y, float[1,4] z) {
            a = Pad (x, pads)
            b = AveragePool <kernel_shape = [3,3], strides = [1,1]> (a)
            c, d = Split <axis = 1, num_outputs = 2> (b)
            e = Resize <mode = "nearest"> (c, , scales)
            f = Sigmoid (e)
            y = Clip (f, low, high)
            g1 = ReduceMean <keepdims = 0> (x, axes)
            z = HardSwish (g1) }""",
    )
    constants = {
        "w": np.random.default_rng(0).normal(size=(4, 2, 3, 3)).astype(np.float32),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "low": np.float32(0),
        "high": np.float32(6),
        "axes": np.array([2, 3]),
    }
    found = [m.SerializeToString() for m in _floats()]
    for text in texts:
        model = onnx.parser.parse_model(text)
        read_names = {name for node in model.graph.node for name in node.input}
        for name, value in constants.items():
            if name in read_names:
                model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        found.append(model.SerializeToString())
    return found


def _read_onnx(path: Path) -> None:
    canonicalise(load_onnx(path))


def _qonnx_seeds() -> list[bytes]:
    found = []
    for seed, (op, bits) in enumerate((("Quant", 4), ("Quant", 8), ("BipolarQuant", 1), ("Trunc", 4))):
        g = FloatSink((1, 3, 6, 6), seed)

        def quant(x: str, kind: str, width: int, g: FloatSink = g) -> str:
            rest = [g.const(0.0), g.const(float(width))] if kind != "BipolarQuant" else []
            if kind == "Trunc":
                rest.append(g.const(float(width // 2)))
            attrs: dict[str, Any] = {"rounding_mode": "FLOOR" if kind == "Trunc" else "ROUND"}
            if kind == "Quant":
                attrs |= {"signed": 1, "narrow": 0}
            if kind == "BipolarQuant":
                attrs = {}
            return g.op(kind, x, g.const(0.125), *rest, domain=QONNX, **attrs)

        x = quant("input", "Quant", 8)
        w = quant(g.weights((4, 3, 3, 3)), "Quant" if op == "Trunc" else op, bits)
        y = g.op("Relu", g.op("Conv", x, w, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        y = quant(y, "Quant", bits if bits > 1 else 2)
        if op == "Trunc":
            y = quant(g.op("AveragePool", y, kernel_shape=[2, 2]), "Trunc", 8)
        shape = [int(np.prod([4, 6, 6]))] if op != "Trunc" else [100]
        flat = g.op("Flatten", y)
        g.op("MatMul", flat, quant(g.weights((shape[0], 5)), "Quant", 4))
        model = g.model(g.nodes[-1].output[0], domains=(QONNX,))
        found.append(model.SerializeToString())
    return found


@cache
def _quantised() -> tuple[Model, ...]:
    found = []
    for i, proto in enumerate(_floats()[:6]):
        model = Model(canonicalise(proto), name=f"net{i}")
        options = QuantizeOptions(bits=(8, 8, 4)[i % 3], adaptive_rounding=False)
        found.append(quantize(model, draw_feeds(model.proto, i, 2), options=options))
    return tuple(found)


def _read_qdq(path: Path) -> None:
    """Down to the regions, as `tilewright supported` goes."""
    model = load(path)
    if model.is_quantised:
        find_regions(model.relax(), overlay(TARGET))


@cache
def _packages() -> tuple[Package, ...]:
    return tuple(compile(m, TARGET, strip=i % 2 == 0) for i, m in enumerate(_quantised()[:4]))


def _change_package(rng: Rng, data: bytes, others: Sequence[bytes]) -> bytes:
    """Damage a section and put its checksum right."""
    try:
        sections = _split(data)
    except PackageError:
        return change_bytes(rng, data, others)
    name = list(sections)[int(rng.integers(len(sections)))]
    match int(rng.integers(6)):
        case 0:
            del sections[name]
        case 1:
            sections[name] = sections[list(sections)[int(rng.integers(len(sections)))]]
        case _:
            text = sections[name][:1] in (b"{", b"[", b'"')
            change = change_json if text else change_bytes
            sections[name] = change(rng, sections[name], [sections[name]])
    return _join(sections)


def _read_package(path: Path) -> None:
    package = Package.load(path)
    if package.stripped or package.quantised_model is not None:
        session = Session(package)
        if sum(int(np.prod(t.shape)) for t in package.inputs) <= 1 << 20:
            session.run({t.name: np.ones(t.shape, t.dtype) for t in package.inputs})


@cache
def _graphs() -> tuple[object, ...]:
    return tuple(find_regions(_quantised()[1].relax(), overlay(TARGET)).graphs)


def _plans() -> list[bytes]:
    graphs = _graphs()
    return [plan_regions(graphs, overlay(TARGET)).text().encode()]  # type: ignore[arg-type]


def _read_plan(path: Path) -> None:
    machine = overlay(TARGET)
    compile_regions(_graphs(), machine, Plan.read(path, machine))  # type: ignore[arg-type]


def _logs() -> list[bytes]:
    import json

    machine = overlay(TARGET)
    head = {
        "schema": 1, "log": "tilewright tune", "version": "0.1.0", "overlay": machine.name,
        "overlay_hash": machine.hash, "model": "net", "regions": {"tilewright_0": "f" * 64}, "objective": "cycles",
        "backend": "timing", "seed": 1,
    }  # fmt: skip
    group = {"layers": ["conv"], "stripes": 2, "strips": 1, "slices": 1, "lag": 0, "keep": [], "images": 1}
    about = {"region": "tilewright_0", "origin": "default"}
    record = {"trial": 0, **about, "cycles": 91, "dram_bytes": 9, "energy_mj": 0.1}
    refusal = {"trial": 1, **about, "error": "does not fit"}
    lines = [
        head,
        *({**r, "groups": [group]} for r in (record, refusal, {**record, "trial": 2, "cycles": 80})),
    ]
    return ["".join(json.dumps(line) + "\n" for line in lines).encode()]


def _read_log(path: Path) -> None:
    read(path)
    best_plan(path, overlay(TARGET))


def _tables(folder: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((FOLDER / folder).glob("*.toml"))]


@cache
def _streams() -> tuple[Program, DramImage, tuple[str, ...]]:
    """A small region's stream, its segments and its listing."""
    region = min((r for p in _packages() for r in p.regions), key=lambda r: len(r.stream))
    layers = tuple(region.layers[i] for i in region.layer_of)
    inputs = np.random.default_rng(3).integers(0, 256, region.input_bytes).astype(np.uint8)
    constants = np.frombuffer(region.constants, np.uint8)
    dram = DramImage(constants, inputs, region.workspace_bytes, region.output_bytes)
    text = listing(decode_stream(region.stream), layers)
    return Program(region.stream, overlay(TARGET), layers), dram, (text,)


class Disagreement(AssertionError):
    """The two simulators take a stream differently."""


def _run_stream(stream: bytes) -> None:
    """Both simulators refuse a stream, or take it and give the same bytes."""
    program, dram, _ = _streams()
    outcomes: list[object] = []
    for simulator in (fast, reference):
        try:
            outcomes.append(simulator.run(Program(stream, program.overlay), dram).outputs)
        except (SimError, EncodingError) as error:
            outcomes.append(error)
    quick, slow = outcomes
    if isinstance(quick, np.ndarray) and isinstance(slow, np.ndarray):
        if not np.array_equal(quick, slow):
            raise Disagreement("the simulators' results differ")
    elif isinstance(quick, np.ndarray) or isinstance(slow, np.ndarray):
        raise Disagreement(f"fast: {quick}\nreference: {slow}")


def _read_listing(path: Path) -> None:
    instructions, _ = parse_listing(path.read_text(encoding="utf-8", errors="replace"))
    _run_stream(encode_stream(instructions))


def _change_stream(rng: Rng, data: bytes, others: Sequence[bytes]) -> bytes:
    """Flip a few bits, or drop, repeat or swap instructions of 16 bytes."""
    size = 16
    parts = [data[i : i + size] for i in range(0, len(data), size)]
    at, other = (int(rng.integers(len(parts))) for _ in range(2))
    match int(rng.integers(6)):
        case 0:
            del parts[at]
        case 1:
            parts.insert(at, parts[other])
        case 2:
            parts[at], parts[other] = parts[other], parts[at]
        case _:
            changed = bytearray(parts[at] or b"\0")
            changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
            parts[at] = bytes(changed)
    return b"".join(parts) or data


def _means() -> list[bytes]:
    values = np.random.default_rng(0).normal(size=(3, 4, 5))
    data = values.astype("<f4").tobytes()
    # A BlobProto: num, channels, height, width and packed data.
    sizes = b"".join(bytes([tag << 3, n]) for tag, n in zip((1, 2, 3, 4), (1, *values.shape), strict=True))
    return [sizes + bytes([5 << 3 | 2, 0x80 | (len(data) & 127), len(data) >> 7]) + data]


BINARY = (change_bytes,)
SUBJECTS: Mapping[str, Subject] = {
    "prototxt": Subject(
        ".prototxt", lambda: PROTOTXTS, (change_text, change_text, change_bytes), lambda p: load(p, "random:1")
    ),
    "caffemodel": Subject(".caffemodel", _caffemodels, BINARY, _read_caffemodel),
    "onnx": Subject(".onnx", _onnx_seeds, (change_onnx, change_onnx, change_onnx, change_bytes), _read_onnx),
    "qonnx": Subject(".onnx", _qonnx_seeds, (change_onnx, change_onnx, change_onnx, change_bytes), _read_onnx),
    "qdq": Subject(
        ".onnx", lambda: [m.proto.SerializeToString() for m in _quantised()], (change_onnx,), _read_qdq
    ),
    "package": Subject(
        ".twp", lambda: [p.to_bytes() for p in _packages()], (_change_package, _change_package, change_bytes),
        _read_package,
    ),
    "plan": Subject(".json", _plans, (change_json, change_json, change_text, change_bytes), _read_plan),
    "log": Subject(".jsonl", _logs, (change_json, change_json, change_text, change_bytes), _read_log),
    "overlay": Subject(".toml", lambda: _tables("overlays"), (change_text, change_text, change_bytes), read_overlay),
    "board": Subject(".toml", lambda: _tables("boards"), (change_text, change_text, change_bytes), read_board),
    "listing": Subject(
        ".txt", lambda: [t.encode() for t in _streams()[2]], (change_text, change_text, change_bytes), _read_listing
    ),
    "stream": Subject(
        ".bin", lambda: [_streams()[0].stream], (_change_stream,), lambda p: _run_stream(p.read_bytes())
    ),
    "mean": Subject(".binaryproto", _means, BINARY, read_mean),
}  # fmt: skip
"""Kinds by the name that `--kind` takes."""
