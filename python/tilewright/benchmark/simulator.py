"""Speed of the fast simulator on a layer of ResNet-50, one thread.

The layer is the 3x3 convolution of 256 to 256 channels on 14x14 (He et al., "Deep Residual Learning for
Image Recognition", table 1, conv4_x), as a stream: double-buffered tiles, MATRIX and VECTOR on alternating
halves of ACC, all checks on. Beside it, on the same numbers and in the same run: the same loop over tiles
written plainly and vectorised by the compiler (`plain_tile_loop.cc`, -O3 -march=native), and ONNX Runtime's
ConvInteger. Neither of the two requantises. The results of all three are compared bit for bit.

Then single instructions and a network's blocks on overlays of 8, 4 and 1 bits (`low_bit.py`), beside the
figure published for VTA's simulator.

Then whole networks, regions only, all checks on: the fast simulator alone, and the timing simulator
after it on the same streams.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tilewright.benchmark import low_bit as low_bits
from tilewright.benchmark.networks import NETWORKS, QUICK, Case, find_data
from tilewright.benchmark.report import choose
from tilewright.errors import ConfigError, DataError, Fault
from tilewright.targets.arithmetic import Requant, requantisation
from tilewright.targets.config import Overlay, overlay
from tilewright.targets.isa.codec import encode_stream
from tilewright.targets.isa.spec import (
    Base,
    Finish,
    Instruction,
    Load,
    Matrix,
    Memory,
    Source,
    Store,
    Unit,
    Vector,
)
from tilewright.targets.sim import timing
from tilewright.targets.sim.fast import FastSimulator, SimdLevel, simd_levels
from tilewright.targets.sim.memory import pack
from tilewright.targets.sim.program import DramImage, Program
from tilewright.targets.sim.testing import record

SIZE, CHANNELS, KERNEL = 14, 256, 3
MACS = SIZE * SIZE * CHANNELS * CHANNELS * KERNEL * KERNEL
OC_TILE, IC_TILE = 2, 4
"""Output and input blocks of a MATRIX instruction; fewer of these where half of WGT holds less."""
I32 = NDArray[np.int32]
OVERLAYS = ("ultra96-w8", "pynq-z1-w8", "ultra96-a8w4", "ultra96-w4")
"""Those with the plain loop beside them: bipolar products are not the same loop."""
DEFAULT = ("squeezenet_v1.1", "mobilenet_v2", "light_inception_v1", "light_resnet50")
CALIBRATION = 2
"""Images: only the instructions matter."""


@dataclass(frozen=True)
class Layer:
    """The layer's numbers, of the overlay's widths. Shapes: x (14, 14, 256), w (256, 256, 3, 3)."""

    overlay: Overlay
    x: NDArray[np.uint8]
    w: NDArray[np.int8]
    pad: int
    requant: Requant

    def tiles(self) -> NDArray[np.int8]:
        """Weights as tiles. Shape: (oc, ic, ky, kx, block_out, block_in)."""
        o = self.overlay
        w = self.w.reshape(
            CHANNELS // o.block_out, o.block_out, CHANNELS // o.block_in, o.block_in, KERNEL, KERNEL
        )
        return np.ascontiguousarray(w.transpose(0, 2, 4, 5, 1, 3))


def make_layer(o: Overlay, seed: int = 0) -> Layer:
    """Random values over the whole range of the overlay's operands."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, o.inp_max + 1, (SIZE, SIZE, CHANNELS), np.uint8)
    top = 1 << (o.wgt_bits - 1)
    w = rng.integers(-top, top, (CHANNELS, CHANNELS, KERNEL, KERNEL), np.int8)
    middle = (o.inp_max + 1) // 2
    # The zero point is taken off, and three deviations of the sums fill the range of the result.
    bias = -middle * w.sum(axis=(1, 2, 3), dtype=np.int64)
    deviation = float(np.sqrt(w[0].size)) * float(np.std(x)) * float(np.std(w))
    ratio = o.inp_max / (6 * deviation) * rng.uniform(0.5, 1, CHANNELS)
    return Layer(o, x, w, middle, requantisation(ratio, bias, middle))


def make_program(layer: Layer) -> tuple[Program, DramImage]:
    """The layer as a stream, from INPUT to OUTPUT, both (y, x, channel)."""
    o = layer.overlay
    blocks_in, blocks_out, r = CHANNELS // o.block_in, CHANNELS // o.block_out, o.halves_per_vector
    half = o.half_word_bytes
    pixels, taps = SIZE * SIZE, KERNEL * KERNEL
    tiles = pack(layer.tiles().view(np.uint8) & np.uint8((1 << o.wgt_bits) - 1), o.wgt_bits).ravel()
    records = zip(layer.requant.m.tolist(), layer.requant.s.tolist(), layer.requant.b.tolist(), strict=True)
    parameters = np.frombuffer(b"".join(record(*p) for p in records), np.uint8)
    act_out, buffers = pixels * blocks_in, o.wgt_tiles // 2
    ic_tile = IC_TILE
    while OC_TILE * ic_tile * taps > buffers:
        ic_tile //= 2
    loads = [
        Load(base=Base.INPUT, memory=Memory.ACT, dram_stride2=half, n2=pixels * blocks_in),
        Load(
            memory=Memory.PARAM, dram_offset=len(tiles), dram_stride2=16, n2=CHANNELS, give=1 << Unit.VECTOR
        ),
    ]
    stream: list[Instruction] = list(loads)
    step = 0
    for first in range(0, blocks_out, OC_TILE):
        acc = (first // OC_TILE) % 2 * o.acc_half_vectors
        for ic in range(0, blocks_in, ic_tile):
            # A buffer is free when the MATRIX before the last one is done.
            stream.append(
                Load(memory=Memory.WGT, wait=1 << Unit.MATRIX if step >= 2 else 0, give=1 << Unit.MATRIX,
                     dram_offset=(first * blocks_in + ic) * taps * o.tile_bytes,
                     dram_stride1=blocks_in * taps * o.tile_bytes, dram_stride2=o.tile_bytes,
                     address=step % 2 * buffers, stride1=ic_tile * taps, n1=OC_TILE, n2=ic_tile * taps)
            )  # fmt: skip
            wait, give = 1 << Unit.LOAD, 1 << Unit.LOAD
            if ic == 0 and first >= 2 * OC_TILE:
                wait |= 1 << Unit.VECTOR  # for its half of ACC
            if ic + ic_tile == blocks_in:
                give |= 1 << Unit.VECTOR
            stream.append(
                Matrix(wait=wait, give=give, n_oc=OC_TILE, n_ic=ic_tile, n_ky=KERNEL, n_kx=KERNEL, n_y=SIZE,
                       n_x=SIZE,
                       wgt_base=step % 2 * buffers, wgt_oc=ic_tile * taps, wgt_ic=taps, wgt_ky=KERNEL,
                       wgt_kx=1, acc_base=acc, acc_oc=pixels, acc_y=SIZE, acc_x=1, act_row=SIZE * blocks_in,
                       act_x=blocks_in, act_ic=1, ic_first=ic, offset_y=-(KERNEL // 2),
                       offset_x=-(KERNEL // 2), height=SIZE, width=SIZE, pad=layer.pad, fresh=int(ic == 0))
            )  # fmt: skip
            step += 1
        last = first + OC_TILE >= blocks_out
        wait = 1 << Unit.MATRIX | (1 << Unit.LOAD if first == 0 else 0)
        give = 1 << Unit.STORE if last else (1 << Unit.MATRIX if first + 2 * OC_TILE < blocks_out else 0)
        stream.append(
            Vector(wait=wait, give=give, source=Source.ACC, n_c=OC_TILE * r, n_y=SIZE, n_x=SIZE, height=SIZE,
                   width=SIZE, src_base=acc, src_row=SIZE, src_x=1, src_c=pixels, hi=o.inp_max,
                   param_base=first * o.block_out, param_c=o.block_in, dst_base=act_out + first * r,
                   dst_row=SIZE * blocks_in, dst_x=blocks_in, dst_c=1)
        )  # fmt: skip
    # The last two MATRIX gave buffers that nothing fills any more.
    for i in [i for i, x in enumerate(stream) if isinstance(x, Matrix)][-2:]:
        x = stream[i]
        stream[i] = Matrix(**{**x.__dict__, "give": x.give & ~(1 << Unit.LOAD)})
    stream.append(
        Store(
            wait=1 << Unit.VECTOR, base=Base.OUTPUT, dram_stride2=half, address=act_out, n2=pixels * blocks_in
        )
    )
    stream.append(Finish())
    constants = np.concatenate([tiles, parameters])
    image = DramImage(constants, pack(layer.x, o.inp_bits).ravel(), 0, pixels * blocks_in * half)
    return Program(encode_stream(stream), o), image


def plain_loop(layer: Layer, folder: Path) -> tuple[Callable[[], I32], str]:
    """Compile the plain loop for this processor.

    Returns it and the compiler. Shape of its result: (256, 14, 14).
    """
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
    if not compiler:
        raise ConfigError(Fault("the benchmark found no C++ compiler", remedy="install one or set CXX"))
    o = layer.overlay
    source, library = Path(__file__).with_name("plain_tile_loop.cc"), folder / f"plain_{o.name}.so"
    flags = [
        "-O3",
        "-march=native",
        "-shared",
        "-fPIC",
        f"-DBLOCK_IN={o.block_in}",
        f"-DBLOCK_OUT={o.block_out}",
    ]
    built = subprocess.run(
        [compiler, *flags, str(source), "-o", str(library)], capture_output=True, text=True, check=False
    )
    if built.returncode:
        raise ConfigError(f"{compiler} cannot compile the plain loop: {built.stderr.strip()}")
    function = ctypes.CDLL(str(library)).plain_tile_loop
    function.restype = None
    tiles = layer.tiles()
    blocks_in, blocks_out = CHANNELS // o.block_in, CHANNELS // o.block_out
    acc = np.zeros((blocks_out, SIZE * SIZE, o.block_out), np.int32)

    def call() -> I32:
        acc[:] = 0
        pointers = (ctypes.c_void_p(a.ctypes.data) for a in (layer.x, tiles, acc))
        function(*pointers, SIZE, SIZE, blocks_in, blocks_out, KERNEL, ctypes.c_uint8(layer.pad))
        return acc.transpose(0, 2, 1).reshape(CHANNELS, SIZE, SIZE)

    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    return call, version.splitlines()[0] if version else compiler


def conv_integer(layer: Layer) -> Callable[[], I32]:
    """ONNX Runtime's ConvInteger on one thread. Shape of its result: (256, 14, 14)."""
    names = ["x", "w", "zero_point"]
    pads = [KERNEL // 2] * 4
    node = onnx.helper.make_node("ConvInteger", names, ["y"], kernel_shape=[KERNEL, KERNEL], pads=pads)
    shape_x, shape_y = [1, CHANNELS, SIZE, SIZE], [1, CHANNELS, SIZE, SIZE]
    # ConvInteger subtracts the zero point, so its padding of 0 stands for `pad`; `measure` corrects the sums.
    zero = np.array(layer.pad, np.uint8)
    graph = onnx.helper.make_graph(
        [node],
        "layer",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, shape_x)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT32, shape_y)],
        [onnx.numpy_helper.from_array(layer.w, "w"), onnx.numpy_helper.from_array(zero, "zero_point")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = np.ascontiguousarray(layer.x.transpose(2, 0, 1)[None])
    return lambda: np.asarray(session.run(["y"], {"x": x})[0][0], np.int32)


def best_seconds(functions: dict[str, Callable[[], object]], budget: float) -> dict[str, float]:
    """The shortest call of each function; `budget` seconds are for each of them.

    Processor time of this thread, on which all of them work alone, so that other processes do not count. They
    take turns, so that changes of the clock meet all of them.
    """
    best = dict.fromkeys(functions, float("inf"))
    end = time.perf_counter() + budget * len(functions)
    rounds = 0
    while rounds < 3 or time.perf_counter() < end:
        for name, function in functions.items():
            start = time.thread_time()
            function()
            best[name] = min(best[name], time.thread_time() - start)
        rounds += 1
    return best


@dataclass(frozen=True)
class Row:
    """One measurement; `seconds` of processor time."""

    what: str
    seconds: float

    @property
    def gmacs(self) -> float:
        """10^9 multiply-accumulates a second."""
        return MACS / self.seconds / 1e9


def measure(o: Overlay, budget: float, levels: list[SimdLevel]) -> tuple[list[Row], str]:
    """Measure an overlay. Raises DataError where the three results differ."""
    layer = make_layer(o)
    program, dram = make_program(layer)
    with tempfile.TemporaryDirectory() as folder:
        plain, compiler = plain_loop(layer, Path(folder))
        conv = conv_integer(layer)
        # ConvInteger's values are less the zero point, its sums by zero point * sum of weights.
        correction = layer.pad * layer.w.sum(axis=(1, 2, 3), dtype=np.int32)
        sums = plain()
        if not np.array_equal(sums, conv() + correction[:, None, None]):
            raise DataError("the plain loop and ONNX Runtime's ConvInteger give different sums")
        expected = layer.requant.apply(sums.transpose(1, 2, 0), 0, o.inp_max).astype(np.uint8)
        functions: dict[str, Callable[[], object]] = {}
        for level in levels:
            simulator = FastSimulator(o, level)
            outputs = simulator.run(program.stream, dram).outputs
            if not np.array_equal(outputs, pack(expected, o.inp_bits).ravel()):
                raise DataError(f"the simulator ({level.name}) and the plain loop give different results")
            functions[f"simulator, {level.name}"] = partial(simulator.run, program.stream, dram)
        functions |= {"plain tile loop": plain, "ONNX Runtime ConvInteger": conv}
        rows = [Row(name, seconds) for name, seconds in best_seconds(functions, budget).items()]
    return rows, compiler


@dataclass(frozen=True)
class NetworkRow:
    """A network's regions on random inputs; seconds of processor time.

    Attributes:
        network: its name.
        macs: its own products.
        cycles: of the machine.
        functional_s, timing_s: of the fast simulator, of the timing simulator.
    """

    network: str
    macs: float
    cycles: int
    functional_s: float
    timing_s: float

    @property
    def gmacs(self) -> float:
        """10^9 multiply-accumulates a second, without timing."""
        return self.macs / self.functional_s / 1e9

    @property
    def ratio(self) -> float:
        """A run with timing to one without."""
        return (self.functional_s + self.timing_s) / self.functional_s


def measure_network(case: Case, budget: float) -> NetworkRow:
    """Compile a network for its first overlay, run its regions with and without timing."""
    import tilewright as tw

    package = tw.compile(case.quantised(CALIBRATION, QUICK), case.row.overlays[0])
    rng, o = np.random.default_rng(0), package.overlay
    simulator = FastSimulator(o)
    runs: list[Callable[[], object]] = []
    programs = [Program(region.stream, o) for region in package.regions]
    for region in package.regions:
        inputs = rng.integers(0, 256, region.input_bytes, np.uint8)
        constants = np.frombuffer(region.constants, np.uint8)
        image = DramImage(constants, inputs, region.workspace_bytes, region.output_bytes)
        runs.append(partial(simulator.run, region.stream, image))
    cycles = sum(timing.run(program).cycles for program in programs)
    seconds = best_seconds(
        {
            "functional": lambda: [run() for run in runs],
            "timing": lambda: [timing.run(program) for program in programs],
        },
        budget,
    )
    assert package.report is not None
    macs = float(package.report["accelerator_macs"])
    return NetworkRow(case.row.name, macs, cycles, seconds["functional"], seconds["timing"])


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            s.partition(":")[2].strip()
            for s in cpuinfo.read_text().splitlines()
            if s.startswith("model name")
        ]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def main(arguments: list[str]) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tilewright.benchmark simulator", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each measurement (1)")
    parser.add_argument("--networks", nargs="*", metavar="NAME", help=f"default: {', '.join(DEFAULT)}")
    parser.add_argument("--data", help="folder of models and images (TILEWRIGHT_DATA, ../shared/data)")
    options = parser.parse_args(arguments)
    data = find_data(options.data)
    default = DEFAULT if options.networks is None else ()
    chosen = choose(options.networks or (), [NETWORKS[name] for name in default], data)
    levels = simd_levels()
    result = []
    compiler = ""
    for o in (overlay(name) for name in OVERLAYS):
        rows, compiler = measure(o, options.seconds, levels)
        result.append((o, rows))
    low_bit = [r for name in low_bits.OVERLAYS for r in low_bits.measure(overlay(name), options.seconds / 10)]
    networks = [measure_network(network.open(data), options.seconds) for network in chosen]
    console = Console()
    if options.json:
        document = {
            "schema": 1,
            "processor": _processor(),
            "compiler": compiler,
            "onnxruntime": onnxruntime.__version__,
            "simd": levels[-1].name,
            "layer": f"{KERNEL}x{KERNEL}, {CHANNELS} to {CHANNELS} channels, {SIZE}x{SIZE}",
            "macs": MACS,
            "overlays": {
                o.name: [
                    {"what": r.what, "seconds": r.seconds, "gmac_per_second": r.gmacs} for r in rows
                ]
                for o, rows in result
            },
            "low_bit": [asdict(r) | {"giga_per_second": r.giga} for r in low_bit],
            "networks": [asdict(n) | {"gmac_per_second": n.gmacs, "ratio": n.ratio} for n in networks],
        }  # fmt: skip
        console.file.write(json.dumps(document, indent=2) + "\n")
        return 0
    console.print(
        f"{_processor()}; {compiler}; ONNX Runtime {onnxruntime.__version__}; SIMD {levels[-1].name}"
    )
    for o, rows in result:
        table = Table(
            title=f"{o.name}: {KERNEL}x{KERNEL}, {CHANNELS} to {CHANNELS} channels, {SIZE}x{SIZE}, one thread"
        )
        for heading in ("", "ms", "GMAC/s", "x plain loop", "x ConvInteger"):
            table.add_column(heading, justify="left" if not heading else "right")
        plain, conv = rows[-2].seconds, rows[-1].seconds
        for r in rows:
            table.add_row(
                r.what,
                f"{r.seconds * 1e3:.2f}",
                f"{r.gmacs:.1f}",
                f"{plain / r.seconds:.2f}",
                f"{conv / r.seconds:.2f}",
            )
        console.print(table)
    console.print(low_bits.table(low_bit))
    if networks:
        table = Table(title="regions of whole networks, one thread, all checks on")
        for heading in ("", "ms", "GMAC/s", "timing ms", "with timing, x without", "timing ns/cycle"):
            table.add_column(heading, justify="left" if not heading else "right")
        for n in networks:
            table.add_row(
                n.network,
                f"{n.functional_s * 1e3:.2f}",
                f"{n.gmacs:.1f}",
                f"{n.timing_s * 1e3:.2f}",
                f"{n.ratio:.2f}",
                f"{n.timing_s / n.cycles * 1e9:.1f}",
            )
        console.print(table)
    return 0
