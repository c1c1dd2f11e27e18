"""An SSD head: ONNX Runtime on the function's body, TVM's virtual machine, and a package's interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tvm
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from tvm import relax

from tilewright.codegen.host_program import host_program
from tilewright.frontend.caffe.detection_function import detection_function
from tilewright.frontend.relax_import import to_relax
from tilewright.runtime import tvm_module
from tilewright.runtime.native import NativeProgram
from tilewright.targets.program import encode_program

PRIORS, CLASSES = 40, 3


def _model(code: str, confidence_threshold: float, seed: int) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.6, (PRIORS, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.4, (PRIORS, 2))], 1)
    prior = np.stack([boxes, np.tile([0.1, 0.1, 0.2, 0.2], (PRIORS, 1))]).reshape(1, 2, -1)
    node = helper.make_node(
        "DetectionOutput",
        ["location", "confidence", "prior"],
        ["found"],
        name="detection",
        domain="tilewright",
        num_classes=CLASSES,
        share_location=1,
        background_label_id=0,
        nms_threshold=0.45,
        top_k=20,
        keep_top_k=10,
        confidence_threshold=confidence_threshold,
        code_type=code,
        variance_encoded_in_target=0,
    )
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info("location", 1, (1, PRIORS * 4)),
            helper.make_tensor_value_info("confidence", 1, (1, PRIORS * CLASSES)),
        ],
        [helper.make_tensor_value_info("found", 1, (1, 1, "n", 7))],
        [numpy_helper.from_array(prior.astype(np.float32), "prior")],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("tilewright", 1)]
    return helper.make_model(graph, ir_version=10, opset_imports=opsets, functions=[detection_function()])


@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE", "CORNER_SIZE"])
@pytest.mark.parametrize("threshold", [0.3, 0.85, 2.0])
def test_three_ways_agree(code: str, threshold: float) -> None:
    tvm_module.load()
    for seed in range(3):
        model = _model(code, threshold, seed)
        rng = np.random.default_rng(seed)
        location = rng.normal(0, 1, (1, PRIORS * 4)).astype(np.float32)
        confidence = (rng.integers(0, 10, (1, PRIORS * CLASSES)) / 10).astype(np.float32)
        feeds: list[NDArray[Any]] = [location, confidence]
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (expected,) = session.run(None, {"location": location, "confidence": confidence})
        module = to_relax(model)
        vm = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())
        by_vm = vm["main"](*(tvm.runtime.tensor(v) for v in feeds)).numpy()
        program = host_program(module, [], ["found"])
        program.check(0)
        (packaged,) = NativeProgram(encode_program(program), []).run(feeds)[0]
        np.testing.assert_array_equal(packaged, by_vm)
        assert packaged.shape == expected.shape
        np.testing.assert_array_equal(packaged[..., :3], expected[..., :3])
        # Corners up to about 4: a handful of float32 roundings each, exp within 2 ulp.
        np.testing.assert_allclose(packaged[..., 3:], expected[..., 3:], rtol=0, atol=4 * 8 * 2.0**-24)
