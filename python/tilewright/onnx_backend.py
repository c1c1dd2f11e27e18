"""Tilewright as a back end of ONNX, by the interface of `onnx.backend.base`.

    from tilewright.onnx_backend import TilewrightBackend
    (scores,) = TilewrightBackend.run_model(onnx.load("net.onnx"), [image])

A model takes the way of :func:`tilewright.load` and `tvm.compile`: what is quantised runs on the simulated accelerator,
all else in native code on the host. So `onnx.backend.test` tries import, passes, code generation and simulator.

A compiled network knows its shapes, weights and scales, while ONNX's test models take them all as inputs. A model is
therefore compiled when it is first run: for the shapes that its inputs have, with those that CONSTANT_OPERANDS names as
constants. A run with others compiles again. Floats of other widths than 32 bits are computed in float32 and given back
in the model's types.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.backend.base import Backend, BackendRep

from tilewright.errors import ConfigError, DataError, Fault, FaultList
from tilewright.frontend.canonical import canonicalise
from tilewright.frontend.model import Model
from tilewright.frontend.onnx_loader import load_onnx
from tilewright.targets.config import Overlay, overlay

Array = NDArray[Any]
Feeds = dict[str, Array]
Compiled = Callable[[Feeds], tuple[Array, ...]]

TARGET = "ultra96-w8"
"""The overlay where none is named."""

DEVICES = ("CPU",)
"""The host's part runs on this machine's processor, and so does the simulator of the accelerator."""

_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")

CONSTANT_OPERANDS: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BatchNormalization": (1, 2, 3, 4),
    "CenterCropPad": (1,),
    "Clip": (1, 2),
    "ConstantOfShape": (0,),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "CumSum": (1,),
    "DequantizeLinear": (1, 2),
    "Dropout": (1, 2),
    "Expand": (1,),
    "Gemm": (1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "MatMulInteger": (1, 2, 3),
    "NonMaxSuppression": (2, 3, 4),
    "OneHot": (1, 2),
    "PRelu": (1,),
    "Pad": (1, 2, 3),
    "QLinearConv": (1, 2, 3, 4, 5, 6, 7, 8),
    "QLinearMatMul": (1, 2, 3, 4, 5, 6, 7),
    "QuantizeLinear": (1, 2),
    "Range": (0, 1, 2),
    **{f"Reduce{kind}": (1,) for kind in _REDUCTIONS},
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
"""Operands by position that are constants in networks: weights, scales, shapes. Inputs that feed them are."""


class TilewrightRep(BackendRep):
    """A model that is compiled for the inputs that it gets."""

    def __init__(self, model: onnx.ModelProto, target: Overlay) -> None:
        self._model = model
        self._target = target
        constants = {tensor.name for tensor in model.graph.initializer}
        self._inputs = [value.name for value in model.graph.input if value.name not in constants]
        operands = {
            node.input[i]
            for node in model.graph.node
            for i in CONSTANT_OPERANDS.get(node.op_type, ())
            if i < len(node.input)
        }
        self._fixed = [name for name in self._inputs if name in operands]
        self._compiled: dict[object, Compiled] = {}

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Array, ...]:
        """Run once.

        Args:
            inputs: an array, a sequence of them in the order of the model's inputs, or a mapping by name.

        Raises:
            DataError: inputs are missing, too many, or no arrays of numbers; all faults at once.
            ModelError, UnsupportedModel: the model cannot be compiled.
        """
        feeds = self._feeds(inputs)
        key = tuple(
            (name, array.shape, array.dtype.str, _digest(array) if name in self._fixed else "")
            for name, array in feeds.items()
        )
        if key not in self._compiled:
            self._compiled[key] = _compile(self._model, self._target, feeds, self._fixed)
        return self._compiled[key](feeds)

    def _feeds(self, inputs: Any) -> Feeds:
        if isinstance(inputs, Mapping):
            given = dict(inputs)
        else:
            values = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
            if len(values) != len(self._inputs):
                expected = f"{len(self._inputs)} inputs ({', '.join(self._inputs)})"
                raise DataError(Fault(f"expected {expected}, found {len(values)}"))
            given = dict(zip(self._inputs, values, strict=True))
        faults = FaultList()
        for name in given.keys() - set(self._inputs):
            faults.add(f"unknown input {name!r}, the model's are {', '.join(self._inputs)}")
        feeds: Feeds = {}
        for name in self._inputs:
            value = given.get(name)
            if isinstance(value, np.ndarray | np.generic | int | float):
                feeds[name] = np.asarray(value)
            else:
                faults.add(
                    f"expected an array of numbers, found {type(value).__name__}", where=f"input {name}"
                )
        faults.raise_if_any(DataError)
        return feeds


def _digest(array: Array) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def _compile(model: onnx.ModelProto, target: Overlay, feeds: Feeds, fixed: Sequence[str]) -> Compiled:
    bound = onnx.ModelProto()
    bound.CopyFrom(model)
    bound.graph.initializer.extend(onnx.numpy_helper.from_array(feeds[name], name) for name in fixed)
    shapes = {name: array.shape for name, array in feeds.items() if name not in fixed}
    for value in bound.graph.input:
        if value.name in shapes:  # the loader takes an open first dimension for a batch that shapes lead with
            kind = value.type.tensor_type
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind.elem_type, shapes[value.name]))
    network = Model(canonicalise(load_onnx(bound, shapes)))
    imported = network.relax()

    import tvm  # started by relax() already

    from tilewright.target import target as tvm_target

    built = tvm.compile(imported, target=tvm_target(target.name), relax_pipeline="tilewright")
    machine = tvm.relax.VirtualMachine(built, tvm.cpu())
    inputs = _types(network.proto.graph.input)
    outputs = _types(model.graph.output)

    def run(given: Feeds) -> tuple[Array, ...]:
        tensors = [
            tvm.runtime.tensor(np.array(given[name], kind, order="C")) for name, kind in inputs.items()
        ]
        found = machine["main"](*tensors)
        results = [found] if len(outputs) == 1 and hasattr(found, "numpy") else list(found)
        return tuple(y.numpy().astype(kind) for y, kind in zip(results, outputs.values(), strict=True))

    return run


def _types(values: Sequence[onnx.ValueInfoProto]) -> dict[str, np.dtype[Any]]:
    return {v.name: onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type) for v in values}


class TilewrightBackend(Backend):
    """The back end. `target` in the keyword arguments names an overlay, default TARGET."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> TilewrightRep:
        """A model that is ready to run; it is compiled with its first inputs.

        Raises ConfigError for another device, or an overlay that there is not.
        """
        if not cls.supports_device(device):
            raise ConfigError(Fault(f"expected one of the devices {', '.join(DEVICES)}, found {device!r}"))
        return TilewrightRep(model, overlay(str(kwargs.get("target", TARGET))))

    @classmethod
    def run_model(
        cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Array, ...]:
        """Run a model once; see :meth:`TilewrightRep.run`."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Array, ...]:
        """Run one operator on arrays, one for each operand that it has.

        Args:
            outputs_info: types and shapes of the results; float32 where it is not given.
            kwargs: `opset_version`, default 21, and what :meth:`prepare` takes.
        """
        names = [name for name in node.input if name]
        arrays = {name: np.asarray(value) for name, value in zip(names, inputs, strict=True)}
        types = [info[0] for info in outputs_info or ()] or [np.dtype(np.float32)] * len(node.output)
        kind = onnx.helper.np_dtype_to_tensor_dtype
        graph = onnx.helper.make_graph(
            [node],
            "node",
            [
                onnx.helper.make_tensor_value_info(name, kind(array.dtype), array.shape)
                for name, array in arrays.items()
            ],
            [
                onnx.helper.make_tensor_value_info(name, kind(np.dtype(dtype)), None)
                for name, dtype in zip(node.output, types, strict=True)
            ],
        )
        opset = onnx.helper.make_opsetid("", int(kwargs.pop("opset_version", 21)))
        return cls.run_model(onnx.helper.make_model(graph, opset_imports=[opset]), arrays, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether `device` is one of DEVICES."""
        return device in DEVICES
