"""What the code generator can take: the rules that the partitioner asks before it places a layer.

Each rule is a row: the sentence that a report shows, and a function that gives what breaks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.displacement import FARTHEST, rows_left
from tilewright.codegen.graph import Graph, Node, Tensor
from tilewright.codegen.layers import Geometry
from tilewright.codegen.layouts import gathers, place_layout
from tilewright.codegen.values import CONSTANT, Map, Value
from tilewright.codegen.widths import storages
from tilewright.integer import ops
from tilewright.integer.predicate import Ok, Reject, Verdict
from tilewright.targets.config import Overlay, overlays
from tilewright.targets.isa.spec import Matrix, Vector, field_limit
from tilewright.targets.storage import Storage

WIDER = "compile for an overlay of more bits{wider}, or quantise to fewer"
BIPOLAR = (
    "compile for an overlay of more bits{wider}, or train the network with weights and activations of -1 and +1 "
    "(QONNX's BipolarQuant): quantisation after training does not make them"
)
ON_HOST = "keep it on the host: compile with tvm.compile, or change the network"


@dataclass(frozen=True)
class Rule:
    """A sentence, and the values that break it; the remedy may name the overlays of more bits as `wider`."""

    text: str
    broken: Callable[[Node, Overlay], Iterator[str]]
    remedy: str = ON_HOST


def check(node: Node, overlay: Overlay) -> Verdict:
    """Whether the code generator takes this node. Shapes and attributes decide, and what ACT holds."""
    for rule in RULES:
        found = list(dict.fromkeys(rule.broken(node, overlay)))
        if found:
            remedy = rule.remedy.format(wider=_wider(overlay))
            return Reject(rule.text.format(**_FIGURES), " and ".join(found), node.name, remedy)
    return Ok()


def _wider(overlay: Overlay) -> str:
    """The installed overlays of the same board with wider operands, in brackets; "" where there are none."""
    names = [
        o.name for o in overlays().values() if o.board == overlay.board and o.inp_bits > overlay.inp_bits
    ]
    return f" ({', '.join(names)})" if names else ""


def _tensors(node: Node) -> Iterator[tuple[str, Tensor]]:
    """Its tensors by what they are to it: their own names are the compiler's."""
    yield from (("an operand", t) for t in node.inputs)
    yield "a result", node.output


_MATRIX = (ops.Conv2d, ops.ConvTranspose2d)
_WINDOW = (*_MATRIX, ops.MaxPool2d, ops.SumPool2d, ops.Shift)
_FIGURES = {
    "size": field_limit(Vector, "height"),
    "results": field_limit(Vector, "n_x"),
    "matrix_kernel": field_limit(Matrix, "n_kx"),
    "vector_kernel": field_limit(Vector, "kernel_y"),
    "stride": field_limit(Matrix, "stride_y"),
    "dilation": field_limit(Matrix, "dilation_y"),
    "farthest": FARTHEST,
    "plane": field_limit(Vector, "src_plane"),
}


def _ranks(node: Node, _: Overlay) -> Iterator[str]:
    for what, t in _tensors(node):
        if len(t.shape) not in (2, 4) or t.shape[0] != 1:
            yield f"{what} of shape {t.shape}"


def _sizes(node: Node, _: Overlay) -> Iterator[str]:
    for t in (*node.inputs, node.output):
        if len(t.shape) == 4 and max(t.shape[2:]) > min(_FIGURES["size"], _FIGURES["results"]):
            yield f"a map of {t.shape[2]} x {t.shape[3]}"


def _kernel(node: Node) -> tuple[int, int]:
    op = node.operator
    if isinstance(op, ops.Shift):
        reach = np.maximum(op.displacement.max(0), 0) - np.minimum(op.displacement.min(0), 0)
        return int(reach[0]) + 1, int(reach[1]) + 1
    if isinstance(op, _MATRIX):
        return op.weight.shape[2], op.weight.shape[3]
    return op.kernel if isinstance(op, ops.MaxPool2d | ops.SumPool2d) else (1, 1)


def _matrix_kernels(node: Node, _: Overlay) -> Iterator[str]:
    if isinstance(node.operator, _MATRIX) and max(_kernel(node)) > _FIGURES["matrix_kernel"]:
        yield f"a kernel of {_kernel(node)}"


def _vector_kernels(node: Node, _: Overlay) -> Iterator[str]:
    if not isinstance(node.operator, ops.Shift) and max(_kernel(node)) > _FIGURES["vector_kernel"]:
        yield f"a kernel of {_kernel(node)}"


def _strides(node: Node, _: Overlay) -> Iterator[str]:
    if isinstance(node.operator, _WINDOW) and max(node.operator.strides) > _FIGURES["stride"]:
        yield f"strides {node.operator.strides}"


def _dilations(node: Node, _: Overlay) -> Iterator[str]:
    dilation = getattr(node.operator, "dilation", (1, 1))
    if max(dilation) > _FIGURES["dilation"]:
        yield f"dilations {dilation}"


def _stored(node: Node, overlay: Overlay) -> dict[str, Storage]:
    return storages(Graph("", node.inputs, (node.output,), (node,)), overlay)


def _products(node: Node, overlay: Overlay) -> Iterator[str]:
    """A product of two maps goes on as a sum does; values less a zero point take a bit more."""
    if isinstance(node.operator, ops.Multiply):
        stored = _stored(node, overlay)
        bits = [stored[t.name].bits + 1 for t in node.inputs]
        if sum(bits) > overlay.acc_bits:
            yield f"products of {sum(bits)} bits"


def _planes(node: Node, overlay: Overlay) -> Iterator[str]:
    """Planes of a pixel lie one behind the other."""
    stored = _stored(node, overlay)
    for t in (*node.inputs, node.output):
        blocks = -(-t.shape[1] // overlay.block_in)
        if stored[t.name].bits > overlay.inp_bits and blocks > _FIGURES["plane"]:
            yield f"{t.shape[1]} channels of {stored[t.name].bits} bits"


def _tables(node: Node, overlay: Overlay) -> Iterator[str]:
    if isinstance(node.operator, ops.Table):
        for what, t in _tensors(node):
            bits = _stored(node, overlay)[t.name].bits
            if bits > 8:
                yield f"{what} of {bits} bits"


def _one_bit(node: Node, overlay: Overlay) -> Iterator[str]:
    """What MATRIX of an overlay of 1 bit adds up: -1 and +1 only, so nothing can be left out by a weight of 0."""
    op = node.operator
    if overlay.inp_bits > 1 or not isinstance(op, ops.Dense | ops.Conv2d | ops.ConvTranspose2d):
        return
    (t,) = node.inputs
    weight: NDArray[np.generic] = op.weight
    if _stored(node, overlay)[t.name].bits > 1:
        yield f"an operand of {_stored(node, overlay)[t.name].bits} bits"
    if (np.abs(weight.astype(np.int64)) != 1).any():
        yield f"weights {int(weight.min())}..{int(weight.max())}"
    if op.zero_point:
        yield f"zero point {op.zero_point}"
    if isinstance(op, ops.ConvTranspose2d) or (isinstance(op, ops.Conv2d) and op.groups > 1):
        yield "a grouped or transposed convolution"
    elif isinstance(op, ops.Conv2d) and any(op.padding) and t.shape[1] % 2:
        yield f"{t.shape[1]} channels with padding"


def _signs(node: Node, overlay: Overlay) -> Iterator[str]:
    """VECTOR reads a stored bit as 0 or 1; layouts fold as long as they leave no channel out."""
    op = node.operator
    if overlay.inp_bits > 1:
        return
    bits = [_stored(node, overlay)[t.name].bits for t in node.inputs]
    if 1 in bits and isinstance(op, ops.SumPool2d | ops.Add | ops.Multiply):
        yield f"a {op.kind} of one bit"
    if isinstance(op, ops.Layout) and any(step.kind in ("slice", "pad", "repeat") for step in op.steps):
        yield f"{' then '.join(step.kind for step in op.steps)}"


def _padded(node: Node, overlay: Overlay) -> Iterator[str]:
    op = node.operator
    if isinstance(op, ops.Conv2d | ops.ConvTranspose2d) and overlay.inp_bits > 1:
        (t,) = node.inputs
        stored = _stored(node, overlay)[t.name]
        if not 0 <= op.zero_point + stored.offset <= stored.largest:
            yield f"zero point {op.zero_point} of an operand of {stored.bits} bits"


def _layout_bits(node: Node, overlay: Overlay) -> Iterator[str]:
    """Scores of 16 bits are laid out by the host, which reads them anyway."""
    for t in node.inputs:
        bits = _stored(node, overlay)[t.name].bits
        if isinstance(node.operator, ops.Layout) and bits > 8:
            yield f"an operand of {bits} bits"


def _operands(node: Node, _: Overlay) -> Iterator[str]:
    if isinstance(node.operator, ops.Add | ops.Multiply):
        a, b = (t.shape for t in node.inputs)
        same = a == node.output.shape and a[1] == b[1] and len(a) == len(b)
        if not same or any(n not in (m, 1) for m, n in zip(a[2:], b[2:], strict=True)):
            yield f"operands {a} and {b}"


def _moves(node: Node, overlay: Overlay) -> Iterator[str]:
    if not isinstance(node.operator, ops.Layout):
        return
    operands = []
    for t in node.inputs:
        shape = t.shape[1:]
        height, width = shape[1:] if len(shape) == 3 else (1, 1)
        m = Map(t.name, height, width, -(-shape[0] // overlay.block_in))
        operands.append(Value.of_map(m, range(shape[0]), shape))
    value = place_layout(node.operator, _stored(node, overlay)[node.output.name], operands)
    if len(value.shape) == 1 or value.channels_in_place():
        return
    found = gathers(value)
    if found is None or any((g.number == CONSTANT).all() for g in found):
        yield f"{' then '.join(step.kind for step in node.operator.steps)} of {[t.shape for t in node.inputs]}"


def _pools_read(node: Node, _: Overlay) -> Iterator[str]:
    op = node.operator
    if isinstance(op, ops.MaxPool2d | ops.SumPool2d):
        dilation = op.dilation if isinstance(op, ops.MaxPool2d) else (1, 1)
        count = (node.output.shape[2], node.output.shape[3])
        g = Geometry(op.kernel, op.strides, dilation, (-op.padding[0], -op.padding[1]), count)
        if not all(g.reads(axis, node.inputs[0].shape[2 + axis]) for axis in (0, 1)):
            yield f"kernel {op.kernel}, padding {op.padding} on {node.inputs[0].shape[2:]}"


def _shifts(node: Node, _: Overlay) -> Iterator[str]:
    op = node.operator
    if isinstance(op, ops.Shift):
        farthest = int(np.abs(op.displacement).max())
        if farthest > FARTHEST:
            yield f"one by {farthest}"
        if min(rows_left(op, node.inputs[0].shape[2:])) < 0:
            yield f"{op.size} results of a map of {node.inputs[0].shape[2:]} with strides {op.strides}"


def _window_fits(node: Node, overlay: Overlay) -> Iterator[str]:
    if not isinstance(node.operator, _WINDOW):
        return
    _, channels, height, width = node.inputs[0].shape
    dilation = getattr(node.operator, "dilation", (1, 1))
    rows, columns = (
        min((k - 1) * d + 1, n) for k, d, n in zip(_kernel(node), dilation, (height, width), strict=True)
    )
    blocks = -(-channels // overlay.block_in) if isinstance(node.operator, (*_MATRIX, ops.Shift)) else 1
    need = 2 * rows * columns * blocks + 2 * (overlay.halves_per_vector if blocks > 1 else 1)
    if need > overlay.act_half_words:
        yield f"a window of {rows} x {columns} and {channels} channels"


RULES: tuple[Rule, ...] = (
    Rule("tensors have the shape (1, C, H, W) or (1, K)", _ranks),
    Rule("a product of two maps has no more bits than the overlay's sums", _products, WIDER),
    Rule("channels of values wider than the overlay's operands are at most {plane} blocks", _planes, WIDER),
    Rule("a table has operands and results of 8 bits", _tables, WIDER),
    Rule("a layout moves 8 bits at most", _layout_bits),
    Rule("padding is a value that the operand's bits hold", _padded),
    Rule(
        "operands and weights of 1 bit are -1 or +1, of all channels; padded ones have an even number of channels",
        _one_bit,
        BIPOLAR,
    ),
    Rule(
        "tensors of 1 bit are multiplied on MATRIX, pooled by their largest, or laid out whole", _signs, WIDER
    ),
    Rule("maps are at most {results} rows and columns", _sizes),
    Rule("kernels of convolutions are at most {matrix_kernel} rows and columns", _matrix_kernels),
    Rule("pooling windows are at most {vector_kernel} rows and columns", _vector_kernels),
    Rule("a pooling window holds a part of the map", _pools_read),
    Rule("strides are at most {stride}", _strides),
    Rule("dilations are at most {dilation}", _dilations),
    Rule("the second operand has the first one's channels, and its height and width or 1", _operands),
    Rule("elements move by whole channels: slices, repeats and turns of rows and columns", _moves),
    Rule("a shift moves channels by at most {farthest} rows and columns within their map", _shifts),
    Rule("a window of all channels fits the activation memory twice", _window_fits),
)


def rules() -> list[tuple[str, str]]:
    """Each rule as a sentence with the machine's figures, and its remedy."""
    return [(rule.text.format(**_FIGURES), rule.remedy.format(wider="")) for rule in RULES]
