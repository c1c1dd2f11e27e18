"""The float and the quantised level, by ONNX Runtime with extra outputs.

The float network runs twice: as it is, and with every layer fed by the numbers that the quantised level's operands
stand for. The second shows what quantisation made of a layer, and not what came before it or how its operands were
rounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from tilewright.errors import DataError, Fault
from tilewright.frontend.onnx_file import OWN_DOMAIN
from tilewright.verify.layers import Array


def run_onnx(
    model: onnx.ModelProto, feeds: Mapping[str, Array], names: Iterable[str], exact: bool = True
) -> dict[str, Array]:
    """Tensors of a model; `exact` without optimisations, which change what quantised models give.

    Those behind an operator that only this project knows are left out.

    Raises DataError where ONNX Runtime gives up.
    """
    unknown = _behind_unknown(model)
    wanted = [name for name in dict.fromkeys(names) if name not in unknown]
    if not wanted:
        return {}
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    present = {value.name: value for value in model.graph.output}
    nodes = _needed(model, wanted)
    del graph.output[:], graph.node[:]
    graph.node.extend(nodes)
    graph.output.extend(present.get(n) or helper.make_empty_tensor_value_info(n) for n in wanted)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if exact:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            changed.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        read = {value.name for value in session.get_inputs()}
        found = session.run(wanted, {name: array for name, array in feeds.items() if name in read})
    except Exception as error:  # its exceptions share no class of their own
        first = str(error).strip().splitlines()[0]
        raise DataError(Fault(f"ONNX Runtime refuses the model: {first}", "level of ONNX")) from error
    return dict(zip(wanted, (np.asarray(a) for a in found), strict=True))


def run_fed(
    model: onnx.ModelProto, feeds: Mapping[str, Array], fed: Mapping[str, Array], names: Sequence[str]
) -> dict[str, Array]:
    """Tensors of a model in which the readers of tensors in `fed`, inputs or not, get those arrays."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    new = {name: f"{name} fed" for name in fed}
    for node in changed.graph.node:
        for i, name in enumerate(node.input):
            if name in new:
                node.input[i] = new[name]
    changed.graph.input.extend(_value(new[name], array) for name, array in fed.items())
    arrays = {new[name]: array for name, array in fed.items()}
    return run_onnx(changed, {**feeds, **arrays}, names)


def _behind_unknown(model: onnx.ModelProto) -> set[str]:
    """Tensors that need an operator that ONNX Runtime has not."""
    functions = {(f.domain, f.name) for f in model.functions}
    found: set[str] = set()
    for node in model.graph.node:
        own = node.domain == OWN_DOMAIN and (node.domain, node.op_type) not in functions
        if own or found & set(node.input):
            found |= set(node.output)
    return found


def _needed(model: onnx.ModelProto, names: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that tensors depend on."""
    needed, kept = set(names), []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    return kept[::-1]


def _value(name: str, array: Array) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
