"""The README of an exported folder."""

from __future__ import annotations

import re
from pathlib import Path

from tilewright.targets.package import Package

DEVICE = "zynq:registers=/dev/uio0,memory=/dev/udmabuf0"
"""The device of most boards; `device.h` has the other forms."""


def readme(package: Package, name: str, arch: str, folder: Path, with_tvm: bool) -> str:
    """The text.

    Args:
        package: the network.
        name: of its file, without the suffix.
        arch: the processor that the folder is for.
        folder: holds the other files already.
        with_tvm: the library for TVM is among them.
    """
    overlay = package.overlay
    inputs = " ".join(f"check/input{i}.npy" for i in range(len(package.inputs)))
    lines = [
        f"# {package.name} for {overlay.name}",
        "",
        f"Compiled by Tilewright {package.tool_version or '(unknown version)'} for the overlay `{overlay.name}`, hash",
        f"`{overlay.hash}`,",
        f"and the processor {arch}. Copy this folder to the board, then, in it:",
        "",
        "```",
        "sha256sum --check SHA256SUMS",
        f"python3 tilewright_board.py {name}.twp --check check --device {DEVICE}",
        f"./tilewright-run {name}.twp {inputs} --output results --device {DEVICE}",
        "```",
        "",
        "The first command says whether all files came over; the second runs the network on the accelerator and",
        "compares with what the simulator gave; the third runs it without Python.",
        "`--device sim` in place of the device simulates the accelerator on the board's processor: slow, equal bits,",
        "no hardware. Registers and memory are a UIO device of the accelerator and a u-dma-buf; you need the right to",
        f"open them. The library needs {_glibc(folder)}.",
        "",
        "In Python (3.8 or later, with NumPy):",
        "",
        "```python",
        "from tilewright_board import Overlay",
        "",
        f'with Overlay("{name}.twp", device="{DEVICE}") as overlay:',
        *(f'    overlay.buffers["{t.name}"][:] = ...  # {t.dtype} {t.shape}' for t in package.inputs),
        "    outputs = overlay.run()",
        *(f'    outputs["{t.name}"]  # {t.dtype} {t.shape}' for t in package.outputs),
        "```",
        "",
        "| file | |",
        "|---|---|",
        f"| {name}.twp | the network: instructions, weights, host operators |",
        "| libtilewright_runtime.so, include/ | the runtime, and its C interface |",
        "| tilewright-run | runs a package on .npy files; needs nothing else |",
        "| tilewright_board.py | the Python class |",
        *(
            [f"| {name}.so, libtilewright_tvm.so | the network for TVM's virtual machine, below |"]
            if with_tvm
            else []
        ),
        *(["| labels.txt | names of the classes, by index |"] if package.labels is not None else []),
        "| check/ | inputs, and the outputs that the simulator gave |",
    ]
    if package.preprocess is not None:
        lines += [
            "",
            "What an image goes through before it is an input:",
            "",
            *_preprocess(package.preprocess),
        ]
    if package.random_weights or package.random_calibration:
        lines += ["", "The network has random weights or calibration: its answers mean nothing."]
    if with_tvm:
        lines += [
            "",
            "With TVM on the board (`pip install` of the same release):",
            "",
            "```python",
            "import ctypes, numpy as np, tvm",
            'ctypes.CDLL("./libtilewright_tvm.so", ctypes.RTLD_GLOBAL)',
            f'vm = tvm.relax.VirtualMachine(tvm.runtime.load_module("{name}.so"), tvm.cpu())',
            'vm["main"](tvm.runtime.tensor(np.load("check/input0.npy")))',
            "```",
        ]
    return "\n".join(lines) + "\n"


def _preprocess(settings: object) -> list[str]:
    assert isinstance(settings, dict)
    found = {
        key: f"a map of {value['shape']}" if isinstance(value, dict) else value
        for key, value in settings.items()
    }
    return [f"- {key}: {value}" for key, value in sorted(found.items()) if value is not None]


def _glibc(folder: Path) -> str:
    """What C library the runtime asks for: the newest version that its symbols name."""
    found = re.findall(rb"GLIBC_(\d+)\.(\d+)", (folder / "libtilewright_runtime.so").read_bytes())
    newest = max((int(major), int(minor)) for major, minor in found)
    return f"glibc {newest[0]}.{newest[1]} or later (`ldd --version`)"
