"""Regions as a TVM module: called by the virtual machine, exported, and loaded again in a fresh process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from numpy.typing import NDArray
from tvm import relax

from tilewright.codegen import byoc
from tilewright.codegen.compile import compile_region
from tilewright.codegen.graph import Graph, Node, Tensor
from tilewright.errors import ConfigError, ScheduleError
from tilewright.integer.ops import Add, Conv2d, Rescale
from tilewright.targets.config import Overlay, overlay

Array = NDArray[Any]
RNG = np.random.default_rng(3)
SHAPE = (1, 5, 6, 7)


def _rescale(m: int, s: int, channels: int) -> Rescale:
    one = np.ones((channels, 1, 1), np.int64)
    return Rescale(one * m, one * s, one * 0, -128, 127, "int8")


def _graph(name: str) -> Graph:
    """y = conv1x1(a) of 5 -> 9 channels, z = a + b, in one region with two results."""
    a, b = Tensor("a", SHAPE, "int8"), Tensor("b", SHAPE, "uint8")
    y, z = Tensor("y", (1, 9, 6, 7), "int8"), Tensor("z", SHAPE, "int8")
    conv = Conv2d(WEIGHT, -3, _rescale(1 << 20, 27, 9))
    add = Add(-3, 4, 1 << 20, _rescale(1 << 20, 21, 1))
    return Graph(name, (a, b), (y, z), (Node("conv", conv, (a,), y), Node("sum", add, (a, b), z)))


WEIGHT = RNG.integers(-127, 128, (9, 5, 1, 1))


def _rne(p: Array, s: int) -> Array:
    """Half to even by exact rational arithmetic of Python."""
    return np.array([round(Fraction(int(v), 1 << s)) for v in p.ravel()]).reshape(p.shape)


def _expected(a: Array, b: Array) -> tuple[Array, Array]:
    acc = np.einsum("oi,nihw->nohw", WEIGHT[:, :, 0, 0], a.astype(np.int64) + 3)
    y = np.clip(_rne(acc * (1 << 20), 27), -128, 127)
    z = np.clip(_rne((a.astype(np.int64) + 3 + b - 4) << 20, 21), -128, 127)
    return y.astype(np.int8), z.astype(np.int8)


def _feeds() -> tuple[Array, Array]:
    return RNG.integers(-128, 128, SHAPE, np.int8), RNG.integers(0, 256, SHAPE, np.uint8)


def _module(name: str = "region0") -> tvm.IRModule:
    """main calls one region function, marked as RunCodegen wants it; its body does not matter."""
    bb = relax.BlockBuilder()
    a, b = relax.Var("a", relax.TensorType(SHAPE, "int8")), relax.Var("b", relax.TensorType(SHAPE, "uint8"))
    with bb.function(name, [a, b], attrs={"Codegen": "tilewright", "global_symbol": name}):
        y = bb.emit(relax.op.zeros((1, 9, 6, 7), "int8"))
        bb.emit_func_output(relax.Tuple([y, a]))
    x, w = relax.Var("x", relax.TensorType(SHAPE, "int8")), relax.Var("w", relax.TensorType(SHAPE, "uint8"))
    with bb.function("main", [x, w]):
        with bb.dataflow():
            call = bb.emit(relax.Call(bb.get().get_global_var(name), [x, w], ty_args=[]))
            first = bb.emit_output(relax.TupleGetItem(call, 0))
            second = bb.emit_output(relax.TupleGetItem(call, 1))
        bb.emit_func_output(relax.Tuple([first, second]))
    return bb.get()


@pytest.fixture
def compiled() -> Any:
    byoc.register(lambda function: _graph(str(function.attrs["global_symbol"])))
    mod = byoc.run_codegen(_module(), overlay("pynq-z1-w8"))
    return tvm.compile(mod, target="llvm")


def _run(executable: Any, a: Array, b: Array) -> list[Array]:
    vm = relax.VirtualMachine(executable, tvm.cpu())
    return [t.numpy() for t in vm["main"](tvm.runtime.tensor(a), tvm.runtime.tensor(b))]


def test_the_virtual_machine_runs_a_region(compiled: Any) -> None:
    for _ in range(2):
        a, b = _feeds()
        for found, expected in zip(_run(compiled, a, b), _expected(a, b), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_threads_share_a_module(compiled: Any) -> None:
    """Each by a virtual machine of its own; the regions and their buffers are the module's."""

    def work(feeds: tuple[Array, Array]) -> None:
        for _ in range(6):
            for found, expected in zip(_run(compiled, *feeds), _expected(*feeds), strict=True):
                np.testing.assert_array_equal(found, expected)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, _feeds()) for _ in range(4)]:
            done.result()


def test_an_exported_library_runs_in_a_fresh_process(compiled: Any, tmp_path: Path) -> None:
    library = tmp_path / "net.so"
    compiled.export_library(str(library))
    a, b = _feeds()
    np.savez(tmp_path / "in.npz", a=a, b=b)
    script = f"""
import tilewright
import numpy as np, tvm
data = np.load({str(tmp_path / "in.npz")!r})
vm = tvm.relax.VirtualMachine(tvm.runtime.load_module({str(library)!r}), tvm.cpu())
y, z = vm["main"](tvm.runtime.tensor(data["a"]), tvm.runtime.tensor(data["b"]))
np.savez({str(tmp_path / "out.npz")!r}, y=y.numpy(), z=z.numpy())
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
    found = np.load(tmp_path / "out.npz")
    for name, expected in zip("yz", _expected(a, b), strict=True):
        np.testing.assert_array_equal(found[name], expected)


def test_wrong_arguments_are_named() -> None:
    module = byoc.region_module([compile_region(_graph("r"), overlay("ultra96-w8"))], overlay("ultra96-w8"))
    a, b = (tvm.runtime.tensor(v) for v in _feeds())
    y, z = tvm.runtime.tensor(np.zeros((1, 9, 6, 7), np.int8)), tvm.runtime.tensor(np.zeros(SHAPE, np.int8))
    module["r"](a, b, y, z)
    with pytest.raises(ValueError, match=r"region r: expected 4 arguments, found 3"):
        module["r"](a, b, y)
    with pytest.raises(
        ValueError,
        match=r"region r, tensor y: expected int8 \(1, 9, 6, 7\), found type 0, 8 bits, \(1, 5, 6, 7\)",
    ):
        module["r"](a, b, z, y)
    wide = tvm.runtime.tensor(np.zeros((1, 9, 6, 7), np.int16))
    with pytest.raises(ValueError, match=r"tensor y: expected int8 \(1, 9, 6, 7\), found type 0, 16 bits, "):
        module["r"](a, b, wide, z)
    turned = tvm_ffi.from_dlpack(np.zeros((1, 6, 7, 9), np.int8).transpose(0, 3, 1, 2))
    with pytest.raises(ValueError, match=r"region r, tensor y: expected a packed tensor"):
        module["r"](a, b, turned, z)
    with pytest.raises(
        ValueError, match=r"unknown device usb:1, expected sim or zynq:registers=PATH,memory=PATH"
    ):
        module["set_device"]("usb:1")


@pytest.mark.parametrize("cut", [3, 8, 40, -1])
def test_damaged_module_bytes_are_refused(cut: int) -> None:
    data = byoc.module_bytes([compile_region(_graph("r"), overlay("ultra96-w8"))], overlay("ultra96-w8"))
    byoc.region_module([], overlay("ultra96-w8"))
    load = tvm.get_global_func("ffi.Module.load_from_bytes.tilewright")
    with pytest.raises(ValueError, match=r"module|region"):
        load(data[:cut])


def test_the_hooks_error_reaches_the_caller() -> None:
    def too_large(_: Any) -> Graph:
        raise ScheduleError("conv1: does not fit")

    byoc.register(too_large)
    with pytest.raises(ScheduleError, match=r"^conv1: does not fit$"):
        byoc.run_codegen(_module(), overlay("pynq-z1-w8"))


def test_the_overlay_comes_in_the_options() -> None:
    changed = Overlay.from_dict(overlay("pynq-z1-w8").to_dict() | {"name": "mine"})
    assert byoc.overlay_of({"overlay": json.dumps(changed.to_dict())}) == changed
    absent: tuple[dict[str, str] | None, ...] = (None, {})
    for options in absent:
        with pytest.raises(ConfigError, match=r"RunCodegen was given no overlay; use byoc\.run_codegen"):
            byoc.overlay_of(options)


def test_detection_output_is_registered() -> None:
    byoc.region_module([], overlay("pynq-z1-w8"))
    prior = np.array([[[0.1, 0.1, 0.3, 0.3], [0.1, 0.1, 0.2, 0.2]]], np.float32).reshape(1, 2, 4)
    attributes = (
        '{"op": "detection_output", "num_classes": 2, "share_location": 1, "background_label_id": 0, "nms_threshold": 0.5, "top_k": -1,'
        ' "keep_top_k": 5, "confidence_threshold": 0.25, "code_type": 1, "variance_encoded_in_target": 1}'
    )
    arrays = [np.zeros((1, 4), np.float32), np.array([[0.1, 0.75]], np.float32), prior]
    function = tvm.get_global_func("tilewright.host.operator")
    found = function(*(tvm.runtime.tensor(v) for v in arrays), attributes).numpy()
    expected = np.array([0, 1, 0.75, 0.1, 0.1, 0.3, 0.3], np.float32)
    np.testing.assert_array_equal(found, expected.reshape(1, 1, 1, 7))


def test_calls_of_operators_that_are_wrong() -> None:
    byoc.region_module([], overlay("pynq-z1-w8"))
    function = tvm.get_global_func("tilewright.host.operator")
    x = tvm.runtime.tensor(np.zeros((1, 4), np.float32))
    integers = tvm.runtime.tensor(np.zeros((1, 4), np.int8))
    cases: dict[str, tuple[Any, ...]] = {
        "host operator: expected operands and attributes, found nothing": (),
        "unknown host operator nothing": (x, '{"op": "nothing"}'),
        "softmax: attribute axis is missing": (x, '{"op": "softmax"}'),
        "softmax: expected one number for axis, found 2": (x, '{"op": "softmax", "axis": [0, 1]}'),
        "host operator: expected numbers for axis, found last": (x, '{"op": "softmax", "axis": "last"}'),
        "softmax: found 2 operands": (x, x, '{"axis": 1, "op": "softmax"}'),
        "softmax, operand 0: expected float32 (1, 4), found type 0, 8 bits, (1, 4)": (
            integers,
            '{"axis": 1, "op": "softmax"}',
        ),
    }
    for message, arguments in cases.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            function(*arguments)
