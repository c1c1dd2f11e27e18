"""`python -m tilewright.zoo`: MACs and parameters of the networks; with a name, one of them as an ONNX file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import onnx
from rich.console import Console
from rich.table import Table

from tilewright.errors import TilewrightError
from tilewright.zoo import dirac_delta, shufflenet
from tilewright.zoo.build import build
from tilewright.zoo.form import Bits
from tilewright.zoo.layers import Network

NETWORKS: Mapping[str, Callable[[], Network]] = {
    "diracdeltanet": dirac_delta.network,
    "diracdeltanet_small": dirac_delta.small_network,
    "shufflenet_v2": shufflenet.network,
}


def _table() -> Table:
    heads = ("network", "input", "MACs", "weights", "norm")
    table = Table(*heads, title="MACs and parameters; norm: those of BatchNormalization")
    for column in table.columns[2:]:
        column.justify = "right"
    for name, make in NETWORKS.items():
        network = make()
        numbers = (network.macs, network.weights, network.norm_parameters)
        table.add_row(name, "x".join(map(str, network.shape)), *(f"{number:,}" for number in numbers))
    return table


def main(arguments: list[str]) -> int:
    """Print the table, or write a file; exit code 2 where an argument is wrong."""
    parser = argparse.ArgumentParser(prog="tilewright.zoo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("network", nargs="?", choices=sorted(NETWORKS), help="write this one")
    parser.add_argument("--bits", type=int, choices=get_args(Bits), help="QCDQ of this width (float)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (0)")
    parser.add_argument("-o", "--output", type=Path, help="file (NAME.onnx)")
    options = parser.parse_args(arguments)
    if options.network is None:
        Console().print(_table())
        return 0
    model = build(NETWORKS[options.network](), options.bits, None, options.seed)
    path = options.output or Path(f"{options.network}.onnx")
    onnx.save(model, path)
    Console().print(f"{path}: {len(model.graph.node)} nodes", highlight=False)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (TilewrightError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(2)
