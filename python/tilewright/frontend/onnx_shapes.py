"""Give every value of a graph a fixed shape: input shapes, batch, inference, shape arithmetic.

Shapes that a file computes (Shape - Gather - Concat - Reshape) become constants, and everything is
inferred again from the inputs' shapes, so that a model can be compiled for another resolution or batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import ValueInfoProto, helper

from ..errors import Fault, FaultList, ModelError
from .canonical.fold_constants import FoldConstants
from .graph import Graph, Shape, ValueType
from .infer_types import infer_types
from .onnx_file import ELEMENT_TYPES

_MAX_ELEMENTS = 1 << 31
# Inputs of operators that hold a shape with the batch first.
_SHAPE_INPUTS = (("Reshape", 1), ("Expand", 1), ("Resize", 3))
# The number of elements that these give depends on the data; their readers are host operators.
_DATA_DEPENDENT = frozenset({"NonMaxSuppression", "NonZero", "Unique", "Compress"})


def fix_shapes(graph: Graph, input_shapes: Mapping[str, Sequence[int]] | None, batch: int) -> Graph:
    """Fix the inputs' shapes and infer all others; see :func:`tilewright.frontend.load_onnx`.

    Returns:
        the graph with fixed shapes; `graph` itself is not changed.

    Raises:
        ModelError: shapes that contradict each other, are empty, or are not known.
    """
    given = {name: tuple(int(d) for d in shape) for name, shape in (input_shapes or {}).items()}
    file_batch = _file_batch(graph)
    try:
        fixed = _fixed(graph, _input_shapes(graph, given, batch), file_batch)
    except ModelError:
        if given or batch < 1 or file_batch in (0, batch):
            raise
        # A fixed batch that the graph depends on stays as it is.
        fixed = _fixed(graph, _input_shapes(graph, given, file_batch), file_batch)
    _check_shapes(fixed)
    return fixed


def _fixed(graph: Graph, shapes: Mapping[str, Shape], file_batch: int) -> Graph:
    """A copy with these input shapes, everything inferred and shape arithmetic folded."""
    fixed = graph.copy()
    fold = FoldConstants()
    fold(fixed)
    _apply(fixed, shapes, file_batch)
    while True:
        infer_types(fixed)
        if not fold(fixed):
            return fixed


def _dims(value: ValueInfoProto) -> list[int | str | None] | None:
    if value.type.WhichOneof("value") != "tensor_type" or not value.type.tensor_type.HasField("shape"):
        return None
    dims: list[int | str | None] = []
    for dim in value.type.tensor_type.shape.dim:
        which = dim.WhichOneof("value")
        dims.append(dim.dim_value if which == "dim_value" else dim.dim_param or None if which else None)
    return dims


def _file_batch(graph: Graph) -> int:
    """The first dimension that all inputs of two or more dimensions share; 0 where it is not fixed."""
    firsts = {dims[0] for v in graph.inputs if (dims := _dims(v)) is not None and len(dims) >= 2}
    first = firsts.pop() if len(firsts) == 1 else None
    return first if isinstance(first, int) else 0


def _input_shapes(graph: Graph, given: Mapping[str, Shape], batch: int) -> dict[str, Shape]:
    faults = FaultList()
    if batch < 1:
        raise ModelError(Fault(f"expected a batch of at least 1, found {batch}", "batch"))
    names = [v.name for v in graph.inputs]
    for name in given:
        if name not in names:
            faults.add(
                f"the model has no input {name!r}",
                where="--input-shape",
                remedy=f"inputs: {', '.join(names)}",
            )
    result: dict[str, Shape] = {}
    common = _file_batch(graph)
    for value in graph.inputs:
        dims, where = _dims(value), f"input {value.name}"
        kind = value.type.tensor_type.elem_type if value.type.WhichOneof("value") == "tensor_type" else 0
        if kind not in ELEMENT_TYPES:
            shown = f", found element type {kind}" if kind else ""
            faults.add(f"expected a tensor of numbers{shown}", where=where)
            continue
        if value.name in given:
            shape = given[value.name]
            if dims is not None and len(dims) != len(shape):
                faults.add(
                    f"expected {len(dims)} dimensions, found {list(shape)}",
                    where=f"--input-shape {value.name}",
                )
            elif any(d < 1 for d in shape):
                faults.add(
                    f"expected dimensions of at least 1, found {list(shape)}",
                    where=f"--input-shape {value.name}",
                )
            else:
                result[value.name] = shape
            continue
        if dims is None:
            remedy = f"give its shape with --input-shape {value.name}=1,3,224,224"
            faults.add("the file does not say its shape", where=where, remedy=remedy)
            continue
        if dims and (not isinstance(dims[0], int) or (common and len(dims) >= 2)):
            dims[0] = batch
        fixed = [d for d in dims if isinstance(d, int)]
        if len(fixed) < len(dims):
            shown = ", ".join("?" if d is None else str(d) for d in dims)
            example = ",".join(
                str(d) if isinstance(d, int) else _example(i, len(dims)) for i, d in enumerate(dims)
            )
            remedy = f"give its shape with --input-shape {value.name}={example}"
            faults.add(f"expected a fixed shape, found ({shown})", where=where, remedy=remedy)
        elif any(d < 1 for d in fixed):
            faults.add(f"expected dimensions of at least 1, found {fixed}", where=where)
        else:
            result[value.name] = tuple(fixed)
    faults.raise_if_any(ModelError)
    return result


def _example(axis: int, rank: int) -> str:
    return "3" if rank == 4 and axis == 1 else "224"


def _apply(graph: Graph, shapes: Mapping[str, Shape], file_batch: int) -> None:
    """Set the inputs' shapes, forget all others, and let shape constants lead with the new batch."""
    graph.inputs = [
        helper.make_tensor_value_info(v.name, v.type.tensor_type.elem_type, shapes[v.name])
        for v in graph.inputs
    ]
    own = {v for n in graph.nodes if n.domain for v in n.outputs}
    keep = set(graph.constants) | own
    graph.types = {name: kind for name, kind in graph.types.items() if name in keep}
    for value in graph.inputs:
        kind = ValueType.of(value.type)
        assert kind is not None
        graph.types[value.name] = kind
    batches = {s[0] for s in shapes.values() if len(s) >= 2}
    old, new = file_batch or 1, batches.pop() if len(batches) == 1 else 0
    if not new or old == new:
        return
    for op, index in _SHAPE_INPUTS:
        for node in graph.of(op):
            target = graph.constant(node.input(index))
            if target is not None and target.ndim == 1 and target.size >= 2 and target[0] == old:
                changed = target.copy()
                changed[0] = new
                graph.set_input(node, index, graph.add_constant(f"{node.name}/shape", changed))


def _check_shapes(graph: Graph) -> None:
    faults = FaultList()
    loose: set[str] = set()
    for node in graph.nodes:
        if node.domain or node.op in _DATA_DEPENDENT or any(v in loose for v in node.inputs):
            loose.update(node.outputs)
        for value in node.outputs:
            if not value:
                continue
            kind = graph.types.get(value)
            shape = None if kind is None else kind.shape
            if shape is None:
                if value not in loose:
                    dims = (
                        "not known"
                        if kind is None or kind.dims is None
                        else str(kind.dims).replace("None", "?")
                    )
                    remedy = "give fixed input shapes (--input-shape), or export with constant shapes"
                    faults.add(
                        f"output {value} of {node.op} has shape {dims}",
                        where=f"node {node.name}",
                        remedy=remedy,
                    )
                    loose.update(node.outputs)
            elif np.prod(shape, dtype=np.float64) > _MAX_ELEMENTS:
                message = f"output {value} of {node.op} has shape {list(shape)}, more than 2**31 elements"
                faults.add(message, where=f"node {node.name}")
            # A window beyond its map gives a negative number.
            elif min(shape, default=1) < 1 and value not in loose:
                faults.add(
                    f"output {value} of {node.op} has shape {list(shape)}, which is empty",
                    where=f"node {node.name}",
                )
                loose.update(node.outputs)
    faults.raise_if_any(ModelError)
