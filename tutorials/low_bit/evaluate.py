"""Accuracy of the small DiracDeltaNet in float and with 8, 4, 2 and 1 bits.

    python tutorials/low_bit/evaluate.py                          float and quantised, ONNX Runtime
    python tutorials/low_bit/evaluate.py --target ultra96-w8      and on the simulated accelerator

8 bits are `tw.quantize` of the float network; 4, 2 and 1 were trained (`train.py`), with 8 in the first and last layer.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

import tilewright as tw
from tilewright.zoo.build import build
from tilewright.zoo.dirac_delta import small_network
from tilewright.zoo.form import Bits

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / "demo"
NETWORK = small_network()
BITS: tuple[Bits | None, ...] = (None, 4, 2, 1)
"""None is float."""
Array = npt.NDArray[Any]


def demo_data() -> ModuleType:
    """The demo's module of images; it needs scikit-learn."""
    sys.path.append(str(DEMO))
    return importlib.import_module("data")


def weights_file(bits: Bits | None) -> Path:
    """Where the weights of a width are."""
    return HERE / ("float.npz" if bits is None else f"w{bits}a{bits}.npz")


def save_weights(bits: Bits | None, weights: Mapping[str, Array]) -> None:
    """Write weights, float ones in 16 bits."""
    kept = {
        name: array.astype(np.float16) if bits is None and array.ndim > 1 else array
        for name, array in sorted(weights.items())
    }
    np.savez_compressed(weights_file(bits), **kept)


def load_weights(bits: Bits | None) -> dict[str, Array]:
    """Read weights."""
    with np.load(weights_file(bits)) as file:
        return {n: a.astype(np.float32) if a.dtype == np.float16 else a for n, a in file.items()}


def model(bits: Bits | None) -> onnx.ModelProto:
    """The trained network as ONNX, float or QCDQ."""
    return build(NETWORK, bits, load_weights(bits), 0)


def to_input(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(N, 32, 32) bytes -> (N, 1, 32, 32): what `--mean 128 --std 64` does."""
    scaled = (images.astype(np.float32) - 128) / 64
    return np.asarray(scaled[:, np.newaxis], np.float32)


def classes(proto: onnx.ModelProto, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The class of each image by ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    return np.array(
        [session.run(None, {"data": image[np.newaxis]})[0].argmax() for image in to_input(images)]
    )


def accuracy(bits: Bits | None, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> float:
    """Percent of right classes."""
    return float(np.mean(classes(model(bits), images) == labels) * 100)


def open_model(bits: Bits | Literal[8] | None) -> tw.Model:
    """The network as the compiler reads it; 8 bits are quantised here, on the demo's calibration images."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.onnx"
        onnx.save(model(None if bits == 8 else bits), path)
        read = tw.load(path, preprocess=tw.Preprocess(mean=128, std=64), name=f"digits_{bits or 'float'}")
    return tw.quantize(read, DEMO / "digits_calibration.npz") if bits == 8 else read


def simulated_classes(package: tw.Package, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The class of each image by the fast simulator."""
    return np.array([package.run({"data": image[np.newaxis]})["fc"].argmax() for image in to_input(images)])


def main() -> int:
    """Print a row for each width; exit code 1 where one does not compile."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--bits", type=int, choices=(8, 4, 2, 1), action="append", help="may be repeated (all)"
    )
    parser.add_argument("--target", help="an overlay: simulate all images on it too")
    options = parser.parse_args()
    with np.load(DEMO / "digits_test.npz") as file:
        images, labels = file["images"], file["labels"]

    def percent(found: npt.NDArray[np.int64]) -> str:
        return f"{np.mean(found == labels) * 100:.2f} %"

    failed = False
    print(f"{len(labels)} test images; MACs {NETWORK.macs:,}, weights {NETWORK.weights:,}")
    print(f"float    {percent(classes(model(None), images))}")
    for bits in options.bits or (8, 4, 2, 1):
        read = open_model(bits)
        expected = classes(read.proto, images)
        line = f"{bits} bit    {percent(expected)}"
        try:
            if options.target:
                package = tw.compile(read, options.target)
                found = simulated_classes(package, images)
                differ = int(np.count_nonzero(found != expected))
                regions = len(package.regions)
                line += f", on {options.target} {percent(found)}: {differ} classes differ, {regions} region"
        except tw.TilewrightError as error:
            line += f", on {options.target} not: {error.faults[0]}"
            failed = True
        print(line, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
