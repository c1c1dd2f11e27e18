"""Synthesise the parts of `targets/parts.v` and print the figures of the resource model (needs pyosys).

Yosys' `synth_xilinx` for UltraScale+, without DSPs; LUT RAM counts as the LUTs that it takes. Each figure stands
beside the one in `targets/resources.py`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilewright.benchmark.report import Report
from tilewright.errors import ConfigError, Fault
from tilewright.targets import resources
from tilewright.targets.config import FOLDER

SOURCE = FOLDER / "parts.v"
_RAM_LUTS = {"RAM32M16": 8, "RAM64M8": 8, "RAM32M": 4, "RAM64M": 4, "SRL16E": 1}


@dataclass(frozen=True)
class Part:
    """A part to synthesise.

    Attributes:
        module, sizes: of `parts.v`.
        unit: what the figure is for, with the number of them in the module.
        count: how many.
        model: the figure in the resource model, LUTs for one.
    """

    module: str
    sizes: Mapping[str, int]
    unit: str
    count: int
    model: float


def _parts() -> Iterator[Part]:
    for (a, w), figure in resources.LUT_OF_PRODUCT.items():
        lanes = 64 if a == 1 else 8
        sizes = {"N": lanes} if a == 1 else {"N": lanes, "A": a, "W": w}
        yield Part("dot_bipolar" if a == 1 else "dot", sizes, f"product, {a} x {w} bits", lanes, figure)
    for bits, lut in resources.LUT_OF_DEPTHWISE.items():
        sizes = {"A": bits, "W": resources.DEPTHWISE_WEIGHT_BITS}
        yield Part("multiply", sizes, f"depthwise product, {bits} bits", 1, lut)
    for acc, quarter, shift in ((32, 18, 8), (27, 12, 4), (16, 8, 1)):
        sizes = {"ACC": acc, "Q": quarter, "H": shift}
        yield Part("accumulate", sizes, f"ACC lane of {acc} bits", 1, resources.LUT_OF_ACCUMULATE_BIT * acc)
    for acc in (32, 27, 16):
        yield Part("window", {"ACC": acc}, f"window of {acc} bits", 1, resources.LUT_OF_WINDOW_BIT * acc)
    for product, result in ((58, 16), (53, 8), (42, 8)):
        figure = resources.lut_of_requantiser(product, result)
        yield Part("requantise", {"P": product, "O": result}, f"requantiser of {product} bits", 1, figure)
    for k, figure in resources.LUT_OF_COUNTERS.items():
        yield Part("counters", {"K": k}, f"counters, {k} addresses", 1, figure)
    yield Part("queue", {"W": 512, "D": 16}, "queue of instructions", 1, resources.LUT_OF_QUEUE)
    yield Part("table256", {"O": 8}, "table", 1, resources.LUT_OF_TABLE)
    for banks in (12, 6, 2):
        yield Part("bank_mux", {"B": banks, "W": 8}, f"bit read of {banks} banks", 8, -(-banks // 3))


_RUN = "import sys; from pyosys.libyosys import Design, run_pass; d = Design(); [run_pass(c, d) for c in sys.argv[1:]]"


def synthesise(module: str, sizes: Mapping[str, int]) -> tuple[int, int]:
    """LUTs and flip-flops of a module of `parts.v`. Raises ConfigError without pyosys, or where it fails.

    A process for each: what yosys makes of a module depends on what it did before.
    """
    if importlib.util.find_spec("pyosys") is None:
        raise ConfigError(Fault("synthesis needs pyosys", remedy="pip install pyosys"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "stat.json"
        commands = (
            f"read_verilog {SOURCE}",
            f"chparam {' '.join(f'-set {k} {v}' for k, v in sizes.items())} {module}",
            f"synth_xilinx -family xcup -nodsp -noiopad -noclkbuf -flatten -top {module}",
            f"tee -q -o {out} stat -json",
        )
        done = subprocess.run(
            [sys.executable, "-c", _RUN, *commands], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ConfigError(
                Fault(f"yosys failed: {done.stderr.strip()[-300:]}", f"{SOURCE.name}: {module}")
            )
        cells: Mapping[str, int] = json.loads(out.read_text())["design"]["num_cells_by_type"]
    lut = sum(n for kind, n in cells.items() if re.fullmatch(r"LUT[1-6]", kind))
    lut += sum(n * _RAM_LUTS.get(kind, 0) for kind, n in cells.items())
    return lut, sum(n for kind, n in cells.items() if kind.startswith("FD"))


def main(arguments: list[str]) -> int:
    """Synthesise all parts and print the table."""
    parser = argparse.ArgumentParser(
        prog="tilewright.benchmark parts", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    options = parser.parse_args(arguments)
    number: Callable[[float], str] = "{:,.1f}".format
    columns: list[tuple[str, Callable[[Any], str]]] = [
        ("part", str), ("module", str), ("LUT", str), ("FF", str), ("LUT for one", number), ("model", number),
    ]  # fmt: skip
    table = Report("parts, synthesised by yosys", columns, options.json)
    for part in _parts():
        lut, ff = synthesise(part.module, part.sizes)
        values = {"LUT": lut, "FF": ff, "LUT for one": lut / part.count, "model": part.model}
        table.add(part=part.unit, module=part.module, **values)
    table.finish()
    return 0
