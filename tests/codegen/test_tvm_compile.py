"""tvm.compile with our pipeline, and the package of the same module: equal bits, in a fresh process too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tvm import relax

from tilewright.codegen.compile import compile_region
from tilewright.codegen.host_program import host_program
from tilewright.codegen.lift import lift
from tilewright.errors import ConfigError, UnsupportedModel
from tilewright.frontend.relax_import import to_relax
from tilewright.relay_passes.partition import is_region
from tilewright.relay_passes.pipeline import PIPELINE, partitioned
from tilewright.runtime import Session
from tilewright.runtime.device_model import DeviceModel
from tilewright.runtime.tvm_module import use_device
from tilewright.target import target
from tilewright.targets.config import overlay
from tilewright.targets.package import Package

RNG = np.random.default_rng(11)
OVERLAY = "pynq-z1-w8"
SHAPE = (1, 3, 9, 8)


def _model(tail: str = "Softmax") -> onnx.ModelProto:
    """Quantised input -> convolution -> clipped output -> flatten -> `tail`."""
    weight = RNG.integers(-127, 128, (6, 3, 3, 3)).astype(np.int8)
    constants = {
        "sx": np.float32(0.02),
        "zx": np.uint8(120),
        "w": weight,
        "sw": np.full(6, 0.004, np.float32),
        "zw": np.zeros(6, np.int8),
        "sy": np.float32(0.015),
        "zy": np.uint8(100),
        "shape": np.array([1, -1], np.int64),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "sx", "zx"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wf"], axis=0),
        helper.make_node("Conv", ["xf", "wf"], ["c"], name="conv", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("QuantizeLinear", ["c", "sy", "zy"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "sy", "zy"], ["cf"]),
        helper.make_node("Reshape", ["cf", "shape"], ["flat"], name="flat"),
        helper.make_node(tail, ["flat"], ["p"], name="tail"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, (1, 120))],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])


def _package(model: onnx.ModelProto) -> Package:
    chosen = overlay(OVERLAY)
    module = partitioned(to_relax(model), chosen)
    names = sorted(g.name_hint for g, f in module.functions.items() if is_region(f))
    regions = tuple(compile_region(lift(module[name]), chosen) for name in names)
    program = host_program(module, names, [o.name for o in model.graph.output])
    return Package("net", chosen, program, regions)


def _compiled(model: onnx.ModelProto) -> Any:
    return tvm.compile(to_relax(model), target=target(OVERLAY), relax_pipeline=PIPELINE)


def _feed() -> NDArray[Any]:
    return RNG.normal(0, 1.5, SHAPE).astype(np.float32)


def test_virtual_machine_and_package_agree(tmp_path: Path) -> None:
    model = _model()
    _package(model).save(tmp_path / "net.twp")
    package = Package.load(tmp_path / "net.twp")
    assert [layout.packing is not None for layout in package.regions[0].inputs] == [True]
    assert [t.name for t in (*package.inputs, *package.outputs)] == ["x", "p"]
    sim, reference = Session(package), Session(package, "reference")
    vm = relax.VirtualMachine(_compiled(model), tvm.cpu())
    for _ in range(3):
        x = _feed()
        (found,) = sim.run({"x": x}).outputs.values()
        np.testing.assert_array_equal(reference.run({"x": x}).outputs["p"], found)
        # What the accelerator gives is equal bit for bit; softmax is TVM's exp on one side and the C library's on
        # the other, both within 4 ulp, and sums of 120 terms in another order.
        expected = vm["main"](tvm.runtime.tensor(x)).numpy()
        np.testing.assert_allclose(found, expected, rtol=150 * 2.0**-23, atol=2.0**-126)


def test_an_exported_network_runs_in_a_fresh_process(tmp_path: Path) -> None:
    model = _model()
    executable = _compiled(model)
    executable.export_library(str(tmp_path / "net.so"))
    x = _feed()
    np.save(tmp_path / "x.npy", x)
    script = (
        "import sys, numpy as np, tvm\n"
        "import tilewright\n"
        "folder = sys.argv[1]\n"
        "vm = tvm.relax.VirtualMachine(tvm.runtime.load_module(folder + '/net.so'), tvm.cpu())\n"
        "x = tvm.runtime.tensor(np.load(folder + '/x.npy'))\n"
        "np.save(folder + '/y.npy', vm['main'](x).numpy())\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=120)
    expected = relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(x)).numpy()
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)


def test_a_loaded_library_runs_on_a_device(tmp_path: Path) -> None:
    executable = _compiled(_model())
    executable.export_library(str(tmp_path / "net.so"))
    library = tvm.runtime.load_module(str(tmp_path / "net.so"))
    vm, x = relax.VirtualMachine(library, tvm.cpu()), tvm.runtime.tensor(_feed())
    expected = vm["main"](x).numpy()
    with DeviceModel(overlay(OVERLAY), memory_bytes=1 << 20) as model:
        use_device(library, model.uri())
        np.testing.assert_array_equal(vm["main"](x).numpy(), expected)
        assert model.launches == 1
        model.fault("error", 9, 0)
        with pytest.raises(RuntimeError, match="error TOKEN"):
            vm["main"](x)
        np.testing.assert_array_equal(vm["main"](x).numpy(), expected)
        with pytest.raises(ValueError, match="unknown device nothing"):
            use_device(library, "nothing")
        use_device(library, "sim")
    np.testing.assert_array_equal(vm["main"](x).numpy(), expected)
    with pytest.raises(
        ConfigError, match=r"the module of kind 'relax.VMExecutable' has no accelerator regions"
    ):
        use_device(tvm.compile(to_relax(_host_only()), "llvm").mod, "sim")


def _host_only() -> onnx.ModelProto:
    node = helper.make_node("Relu", ["x"], ["y"])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4)) for name in "xy"]
    graph = helper.make_graph([node], "g", value[:1], value[1:])
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])


def test_a_host_operator_outside_the_table_names_the_node() -> None:
    model = _model("Sin")
    with pytest.raises(
        UnsupportedModel, match=r"^tail: the package's host part cannot do this: relax\.sin is no"
    ):
        _package(model)
    x = _feed()
    found = relax.VirtualMachine(_compiled(model), tvm.cpu())["main"](tvm.runtime.tensor(x)).numpy()
    assert found.shape == (1, 120)
    assert np.abs(found).max() <= 1
