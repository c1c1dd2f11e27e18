"""Operators that ONNX does not have and low-bit networks use, as standard ones.

    Shift(x)          any domain; y[c, i, j] = x[c, i*sy + dy[c], j*sx + dx[c]], zero outside of the map
    ChannelShuffle(x) any domain; `group` or `groups`: channel (g, i) of (groups, C / groups) becomes (i, g)

A Shift gives its displacements, two numbers for each channel, in one of these ways:

* attributes `dy` and `dx`: C numbers each;
* an attribute `displacement`, `displacements`, `shift`, `shifts` or `offsets`: 2C numbers dy0, dx0, dy1, dx1, .. or a
  tensor (C, 2);
* a second input that is an initialiser (C, 2).

`stride` or `strides` is one number or two, 1 where it is absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..errors import FaultList, UnsupportedModel
from .shift_kernel import one_hot

_STANDARD = ("", "ai.onnx")
_LISTS = ("displacement", "displacements", "shift", "shifts", "offsets")
_GIVE = "give dy and dx, or displacement, or a second input of shape (C, 2), with one pair a channel"


def expand_custom_ops(model: ModelProto) -> None:
    """Write Shift and ChannelShuffle nodes of a model as standard operators, in place.

    Raises:
        UnsupportedModel: attributes that say too little or contradict each other, all at once.
    """
    functions = {(f.domain, f.name) for f in model.functions}
    custom = [n.op_type in _EXPAND and (n.domain, n.op_type) not in functions for n in model.graph.node]
    if not any(custom):
        return
    constants = {t.name: t for t in model.graph.initializer}
    nodes: list[NodeProto] = []
    faults = FaultList()
    for node, is_custom in zip(model.graph.node, custom, strict=True):
        if not is_custom:
            nodes.append(node)
            continue
        try:
            made, tensors = _EXPAND[node.op_type](node, constants)
        except _Unclear as no:
            faults.add(no.message, where=f"node {node.name or node.output[0]}", remedy=no.remedy)
            continue
        nodes.extend(made)
        model.graph.initializer.extend(tensors)
    faults.raise_if_any(UnsupportedModel)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class _Unclear(Exception):
    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message, self.remedy = message, remedy


_Expanded = tuple[list[NodeProto], list[TensorProto]]


def _attributes(node: NodeProto) -> dict[str, NDArray[np.int64]]:
    """Attributes that are whole numbers."""
    found: dict[str, NDArray[np.int64]] = {}
    for item in node.attribute:
        value = helper.get_attribute_value(item)
        array = np.asarray(numpy_helper.to_array(value) if isinstance(value, TensorProto) else value)
        if array.dtype.kind in "iu" or (array.dtype.kind == "f" and bool((array == np.rint(array)).all())):
            found[item.name] = array.astype(np.int64)
    return found


def _given(node: NodeProto, constants: Mapping[str, TensorProto]) -> Iterator[NDArray[np.int64]]:
    """Displacements in each way in which the node gives them."""
    numbers = _attributes(node)
    if "dy" in numbers and "dx" in numbers:
        dy, dx = numbers["dy"].reshape(-1), numbers["dx"].reshape(-1)
        if len(dy) != len(dx):
            raise _Unclear(f"a Shift has {len(dy)} dy and {len(dx)} dx", _GIVE)
        yield np.stack([dy, dx], axis=1)
    for key in _LISTS:
        if key in numbers:
            yield numbers[key].reshape(-1)
    if len(node.input) > 1 and node.input[1] in constants:
        yield np.rint(numpy_helper.to_array(constants[node.input[1]])).astype(np.int64).reshape(-1)


def _shift(node: NodeProto, constants: Mapping[str, TensorProto]) -> _Expanded:
    ways = list(_given(node, constants))
    if len(ways) != 1 or ways[0].size == 0 or ways[0].size % 2:
        found = f"{len(ways)} ways" if len(ways) != 1 else f"{ways[0].size} numbers"
        raise _Unclear(
            f"a Shift must give its displacements in one way, as pairs (dy, dx), found {found}", _GIVE
        )
    kernel = one_hot(ways[0].reshape(-1, 2))
    numbers = _attributes(node)
    strides = numbers.get("strides", numbers.get("stride", np.ones(1, np.int64))).reshape(-1)
    if len(strides) not in (1, 2) or (strides < 1).any():
        raise _Unclear(
            f"the stride of a Shift must be one or two numbers from 1 up, found {strides.tolist()}", ""
        )
    weight = f"{node.output[0]}/one_hot"
    made = helper.make_node(
        "Conv",
        [node.input[0], weight],
        list(node.output),
        node.name,
        kernel_shape=kernel.shape[2:],
        pads=[kernel.shape[2] // 2] * 4,
        strides=[int(s) for s in np.broadcast_to(strides, 2)],
        group=len(kernel),
    )
    return [made], [numpy_helper.from_array(kernel, weight)]


def _shuffle(node: NodeProto, constants: Mapping[str, TensorProto]) -> _Expanded:
    """The shape is computed as exporters compute it; the loader makes numbers of it."""
    numbers = _attributes(node)
    groups = numbers.get("group", numbers.get("groups", np.zeros(1, np.int64))).reshape(-1)
    if len(groups) != 1 or groups[0] < 1:
        raise _Unclear(
            f"a ChannelShuffle must have one number of groups from 1 up, found {groups.tolist()}",
            "give it as attribute group",
        )
    stem = node.output[0]
    values = {"count": groups, "batch": [0], "channels": [1], "size": [2, 3]}
    tensors = [numpy_helper.from_array(np.asarray(v, np.int64), f"{stem}/{k}") for k, v in values.items()]
    made = []

    def op(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        name = node.name if output == stem else f"{node.name or stem}/{output.removeprefix(stem + '/')}"
        made.append(helper.make_node(kind, inputs, [output], name, **attributes))
        return output

    shape = op("Shape", [node.input[0]], f"{stem}/shape")
    parts = {
        key: op("Gather", [shape, f"{stem}/{key}"], f"{stem}/{key}_of", axis=0) for key in list(values)[1:]
    }
    each = op("Div", [parts["channels"], f"{stem}/count"], f"{stem}/each")
    target = op("Concat", [parts["batch"], f"{stem}/count", each, parts["size"]], f"{stem}/target", axis=0)
    split = op("Reshape", [node.input[0], target], f"{stem}/split")
    turned = op("Transpose", [split], f"{stem}/turned", perm=[0, 2, 1, 3, 4])
    op("Reshape", [turned, shape], stem)
    return made, tensors


_EXPAND: dict[str, Callable[[NodeProto, Mapping[str, TensorProto]], _Expanded]] = {
    "Shift": _shift,
    "ChannelShuffle": _shuffle,
}
