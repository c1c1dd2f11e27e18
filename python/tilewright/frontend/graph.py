"""A mutable view of an ONNX graph that rewrites can work on quickly.

An ``onnx.ModelProto`` has no index from values to nodes and keeps weights as byte strings, so a rewrite
on it is slow and easy to get wrong. :class:`Graph` holds nodes as small objects, constants as NumPy
arrays, and the two maps "who makes this value" and "who reads it", which every change keeps up to date.
It also records what became of each node, for the report: see :meth:`Graph.remove`.

All graphs here are at opset 21 without control flow, as :func:`tilewright.frontend.load_onnx` leaves them.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from ..errors import Fault, ModelError
from .graph_parts import IR_VERSION, OPSET, Array, AttributeValue, Node, Shape, ValueType, write_tensor

__all__ = [
    "IR_VERSION",
    "OPSET",
    "Array",
    "Graph",
    "Node",
    "Shape",
    "ValueType",
    "folded_nodes",
    "node_origins",
]

FOLDED_KEY = "tilewright.folded"
ORIGINS_KEY = "tilewright.origins"
_CONSTANT_INPUT_ELEMENTS = 1024  # larger constants never decide a shape


class Graph:
    """An ONNX graph that can be changed; see the module's docstring.

    Attributes:
        nodes: in a topological order.
        constants: initialisers by name.
        types: element type and shape of every value whose type is known.
        folded: node of the imported graph that is gone -> node that now does its work, "" if nothing does.
        origins: node that a rewrite made -> node it was made for.
    """

    def __init__(self, header: ModelProto, nodes: Iterable[Node], constants: Mapping[str, Array]) -> None:
        self._header = header
        self.nodes: list[Node] = list(nodes)
        self.constants: dict[str, Array] = dict(constants)
        self.inputs: list[ValueInfoProto] = list(header.graph.input)
        self.outputs: list[ValueInfoProto] = list(header.graph.output)
        self.types: dict[str, ValueType] = {}
        self.folded: dict[str, str] = _record(header, FOLDED_KEY)
        self.origins: dict[str, str] = _record(header, ORIGINS_KEY)
        self._producer: dict[str, Node] = {}
        self._users: dict[str, dict[Node, None]] = {}
        self._alive: set[Node] = set()
        self._output_names = {v.name for v in self.outputs}
        self._value_names = set(self.constants) | self._output_names | {v.name for v in self.inputs}
        self._node_names: set[str] = set(self.folded)
        for node in self.nodes:
            self._link(node)
        for value in [*header.graph.value_info, *self.inputs, *self.outputs]:
            kind = ValueType.of(value.type)
            if kind is not None:
                self.types[value.name] = kind
        for name, array in self.constants.items():
            self._type_constant(name, array)

    # -- conversion --------------------------------------------------------------------------------

    @staticmethod
    def from_model(model: ModelProto) -> Graph:
        """Read a model. The arrays of large constants share the model's memory; nothing writes to them."""
        header = ModelProto()
        header.ir_version, header.producer_name = model.ir_version, model.producer_name
        header.producer_version, header.doc_string = model.producer_version, model.doc_string
        header.opset_import.extend(model.opset_import)
        header.metadata_props.extend(model.metadata_props)
        header.functions.extend(model.functions)
        header.graph.name = model.graph.name
        header.graph.doc_string = model.graph.doc_string
        constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        header.graph.input.extend(v for v in model.graph.input if v.name not in constants)
        header.graph.output.extend(model.graph.output)
        header.graph.value_info.extend(model.graph.value_info)
        return Graph(header, (Node.of(n) for n in model.graph.node), constants)

    def copy(self) -> Graph:
        """The same graph, to be changed independently; arrays are shared."""
        nodes = (
            Node(n.name, n.op, list(n.inputs), list(n.outputs), dict(n.attrs), n.domain) for n in self.nodes
        )
        twin = Graph(self._header, nodes, self.constants)
        twin.inputs, twin.types = list(self.inputs), dict(self.types)
        twin.folded, twin.origins = dict(self.folded), dict(self.origins)
        return twin

    def to_model(self, largest_constant: int | None = None) -> ModelProto:
        """Write a model with complete value_info.

        Args:
            largest_constant: constants with more elements than this become graph inputs, which is all that
                shape inference and checking need and much cheaper than copying weights.
        """
        self.sort()
        model = ModelProto()
        model.CopyFrom(self._header)
        del model.graph.value_info[:], model.graph.input[:], model.graph.output[:], model.metadata_props[:]
        for prop in self._header.metadata_props:
            if prop.key not in (FOLDED_KEY, ORIGINS_KEY):
                model.metadata_props.add(key=prop.key, value=prop.value)
        folded = self.resolved_folds()
        alive = {n.name for n in self.nodes}
        origins = {k: v for k, v in self.origins.items() if k in alive}
        for key, record in ((FOLDED_KEY, folded), (ORIGINS_KEY, origins)):
            if record:
                model.metadata_props.add(key=key, value=json.dumps(record, sort_keys=True))
        model.graph.input.extend(self.inputs)
        model.graph.output.extend(self._typed(v) for v in self.outputs)
        model.graph.node.extend(n.proto() for n in self.nodes)
        for node in self.nodes:
            for name in node.outputs:
                if name and name in self.types and name not in self._output_names:
                    model.graph.value_info.add(name=name, type=self.types[name].proto())
        for name, array in self.constants.items():
            if not self._users.get(name) and name not in self._output_names:
                continue
            if largest_constant is not None and array.size > largest_constant:
                model.graph.input.add(name=name, type=self.types[name].proto())
            else:
                write_tensor(model.graph.initializer.add(), name, array)
        return model

    def _typed(self, value: ValueInfoProto) -> ValueInfoProto:
        kind = self.types.get(value.name)
        return value if kind is None else ValueInfoProto(name=value.name, type=kind.proto())

    # -- questions ---------------------------------------------------------------------------------

    def __contains__(self, node: Node) -> bool:
        return node in self._alive

    def __iter__(self) -> Iterator[Node]:
        """The nodes as they are now; safe to rewrite while iterating, removed ones are left out."""
        for node in list(self.nodes):
            if node in self._alive:
                yield node

    def of(self, *ops: str) -> Iterator[Node]:
        """The standard operators of these types; safe to rewrite while iterating."""
        for node in self:
            if node.op in ops and not node.domain:
                yield node

    def constant(self, value: str) -> Array | None:
        """The array of a constant value, else None."""
        return self.constants.get(value)

    def scalar(self, value: str) -> float | None:
        """The number that a one-element constant holds, else None."""
        array = self.constants.get(value)
        return float(array.reshape(())) if array is not None and array.size == 1 else None

    def shape(self, value: str) -> Shape | None:
        """The shape of a value if it is wholly known."""
        kind = self.types.get(value)
        return None if kind is None else kind.shape

    def rank(self, value: str) -> int | None:
        """The number of dimensions, if known."""
        kind = self.types.get(value)
        return None if kind is None or kind.dims is None else len(kind.dims)

    def element(self, value: str) -> int:
        """The ``TensorProto.DataType`` of a value; 0 where not known."""
        kind = self.types.get(value)
        return 0 if kind is None else kind.element

    def is_float(self, value: str) -> bool:
        """Whether a value is float32."""
        return self.element(value) == TensorProto.FLOAT

    def producer(self, value: str, *ops: str) -> Node | None:
        """The node that makes a value (of one of the types `ops`, if given), else None."""
        node = self._producer.get(value)
        return None if node is None or (ops and (node.op not in ops or node.domain)) else node

    def users(self, value: str) -> list[Node]:
        """The nodes that read a value, each once."""
        return list(self._users.get(value, ()))

    def is_output(self, value: str) -> bool:
        """Whether the caller of the model gets this value."""
        return value in self._output_names

    def sole_user(self, value: str, *ops: str) -> Node | None:
        """The only reader of a value that is no graph output (of one of the types `ops`), else None."""
        users = self._users.get(value, {})
        if len(users) != 1 or value in self._output_names:
            return None
        user = next(iter(users))
        return None if ops and (user.op not in ops or user.domain) else user

    def is_quantised(self) -> bool:
        """Whether the graph has QuantizeLinear or DequantizeLinear nodes."""
        return any(n.op in ("QuantizeLinear", "DequantizeLinear") for n in self.nodes)

    # -- changes -----------------------------------------------------------------------------------

    def note(self, key: str, value: str) -> None:
        """Keep a text with the model, among its metadata."""
        self._header.metadata_props.add(key=key, value=value)

    def fresh_value(self, hint: str) -> str:
        """A value name that is not used yet."""
        return _fresh(hint, self._value_names)

    def add_constant(self, hint: str, array: Array) -> str:
        """Store a constant under a new name like `hint`, which is returned."""
        name = self.fresh_value(hint)
        self.constants[name] = np.ascontiguousarray(array).reshape(array.shape)
        self._type_constant(name, array)
        return name

    def set_constant(self, value: str, array: Array) -> None:
        """Make `value`, which no node makes (any more), a constant."""
        assert value not in self._producer, value
        self.constants[value] = array
        self._value_names.add(value)
        self._type_constant(value, array)

    def emit(
        self, op: str, inputs: Sequence[str], *, origin: Node, suffix: str, **attrs: AttributeValue
    ) -> str:
        """Add a one-output node made for `origin`, named ``<origin>/<suffix>``; returns its output value."""
        return self.emit_many(op, inputs, 1, origin=origin, suffix=suffix, **attrs)[0]

    def emit_many(
        self,
        op: str,
        inputs: Sequence[str],
        count: int,
        *,
        origin: Node,
        suffix: str,
        **attrs: AttributeValue,
    ) -> list[str]:
        """:meth:`emit` for an operator with `count` outputs."""
        name = _fresh(f"{origin.name}/{suffix}", self._node_names)
        outputs = [self.fresh_value(name if i == 0 else f"{name}_{i}") for i in range(count)]
        node = Node(name, op, list(inputs), outputs, dict(attrs))
        self.nodes.insert(self.nodes.index(origin), node)
        self.origins[name] = self.origins.get(origin.name, origin.name)
        self._link(node)
        self.infer(node)
        return outputs

    def become(self, node: Node, op: str, inputs: Sequence[str], **attrs: AttributeValue) -> None:
        """Turn `node` into another operator that makes the same outputs under the same name."""
        self._unlink(node)
        node.op, node.inputs, node.attrs = op, list(inputs), dict(attrs)
        self._link(node)
        self.infer(node)

    def set_input(self, node: Node, index: int, value: str) -> None:
        """Let `node` read `value` as input `index`; missing optional inputs before it become ""."""
        self._unlink(node)
        node.inputs.extend([""] * (index + 1 - len(node.inputs)))
        node.inputs[index] = value
        self._link(node)

    def set_inputs(self, node: Node, inputs: Sequence[str]) -> None:
        """Replace all inputs of `node`."""
        self._unlink(node)
        node.inputs = list(inputs)
        self._link(node)

    def drop_outputs(self, node: Node, keep: int) -> None:
        """Keep only the first `keep` outputs of a node; nobody may read the others."""
        self._unlink(node)
        node.outputs = node.outputs[:keep]
        self._link(node)

    def redirect(self, old: str, new: str) -> None:
        """Let every reader of `old` read `new`. `old` must not be a graph output."""
        assert old not in self._output_names, old
        for user in self.users(old):
            self._unlink(user)
            user.inputs = [new if v == old else v for v in user.inputs]
            self._link(user)

    def can_bypass(self, node: Node) -> bool:
        """Whether :meth:`bypass` works: not when both ends of the node belong to the caller."""
        source = node.inputs[0]
        if not self.is_output(node.output):
            return True
        made = self._producer.get(source)
        return made is not None and not self.is_output(source)

    def bypass(self, node: Node) -> None:
        """Remove a node whose output equals its first input; the graph's outputs keep their names."""
        source, result = node.inputs[0], node.output
        made = self._producer.get(source)
        survivor = made or next(iter(self.users(result)), None)
        if not self.is_output(result):
            self.redirect(result, source)
            self.remove(node, into=survivor.name if survivor else "")
            return
        assert made is not None and not self.is_output(source), node.name
        self.remove(node, into=made.name)
        self._rename(made, source, result)

    def absorb(self, producer: Node, node: Node) -> None:
        """Remove `node`, whose work `producer` now does as well; `producer` makes its output instead."""
        result = node.output
        self.remove(node, into=producer.name)
        self._rename(producer, producer.output, result)
        self.infer(producer)

    def _rename(self, made: Node, old: str, new: str) -> None:
        for user in self.users(old):
            self._unlink(user)
            user.inputs = [new if v == old else v for v in user.inputs]
            self._link(user)
        self._unlink(made)
        made.outputs = [new if v == old else v for v in made.outputs]
        self._link(made)
        if old in self.types:
            self.types.setdefault(new, self.types[old])

    def wrap_output(
        self, node: Node, op: str, inputs: Sequence[str], *, suffix: str, **attrs: AttributeValue
    ) -> Node:
        """Put an operator behind `node`: it reads its result, then `inputs`, and makes its old output."""
        result, inner = node.output, self.fresh_value(f"{node.name}/{suffix}_input")
        self._unlink(node)
        node.outputs[0] = inner
        self._link(node)
        if result in self.types:
            self.types[inner] = self.types.pop(result)
        name = _fresh(f"{node.name}/{suffix}", self._node_names)
        after = Node(name, op, [inner, *inputs], [result], dict(attrs))
        self.nodes.insert(self.nodes.index(node) + 1, after)
        self.origins[name] = self.origins.get(node.name, node.name)
        self._link(after)
        self.infer(after)
        return after

    def remove(self, node: Node, *, into: str) -> None:
        """Take a node out. Its outputs must be unread, or made by another node next.

        Args:
            into: name of the node that now does its work; "" when its work is not needed any more.
        """
        self._unlink(node)
        self._alive.discard(node)
        self.nodes.remove(node)
        self.folded[node.name] = into
        self.origins.setdefault(node.name, node.name)

    def infer(self, node: Node) -> None:
        """Set the types of the node's outputs from those of its inputs (standard operators only).

        Nothing is set where an input's type is not known yet.

        Raises:
            ModelError: the operator does not take such inputs.
        """
        if node.domain or any(v and v not in self.types for v in node.inputs):
            return
        inputs = {v: self.types[v].proto() for v in node.inputs if v in self.types}
        data = {
            v: _tensor(v, self.constants[v])
            for v in node.inputs
            if v in self.constants and self.constants[v].size <= _CONSTANT_INPUT_ELEMENTS
        }
        schema = onnx.defs.get_schema(node.op, OPSET)
        opsets = [helper.make_opsetid("", OPSET)]
        try:
            found = onnx.shape_inference.infer_node_outputs(
                schema, node.proto(), inputs, data, opset_imports=opsets, ir_version=IR_VERSION
            )
        except (
            onnx.shape_inference.InferenceError,
            onnx.checker.ValidationError,
            RuntimeError,
            ValueError,
        ) as exc:
            reason = " ".join(str(exc).split())
            message = f"operator {node.op} does not fit its inputs: {reason}"
            raise ModelError(
                Fault(message, f"node {node.name}", "check the input shape and the model")
            ) from None
        for name, proto in found.items():
            kind = ValueType.of(proto)
            if kind is not None:
                self.types[name] = kind

    def sort(self) -> None:
        """Bring the nodes into a topological order that differs least from the present one.

        Raises:
            ModelError: the graph has a cycle.
        """
        waiting = {n: len({v for v in n.inputs if v in self._producer}) for n in self.nodes}
        rank = {n: i for i, n in enumerate(self.nodes)}
        ready = [rank[n] for n, count in waiting.items() if count == 0]
        heapq.heapify(ready)
        order: list[Node] = []
        while ready:
            node = self.nodes[heapq.heappop(ready)]
            order.append(node)
            for value in dict.fromkeys(node.outputs):
                for user in self._users.get(value, ()):
                    waiting[user] -= 1
                    if waiting[user] == 0:
                        heapq.heappush(ready, rank[user])
        if len(order) != len(self.nodes):
            stuck = next(n for n in self.nodes if waiting[n] > 0)
            raise ModelError(Fault("the graph has a cycle", f"node {stuck.name}", "export the model again"))
        self.nodes = order

    def resolved_folds(self) -> dict[str, str]:
        """:attr:`folded` with chains followed: every node of the imported graph that is gone, and where to.

        Nodes that a rewrite made and a later one took away are left out; a node made by a rewrite stands
        for itself, so values are always names of nodes that exist, or "".
        """
        alive = {n.name for n in self.nodes}
        result: dict[str, str] = {}
        for name in self.folded:
            if name in alive or self.origins.get(name, name) != name:
                continue
            target, seen = name, {""}
            while target not in alive and target not in seen:
                seen.add(target)
                target = self.folded.get(target, "")
            result[name] = target if target in alive else ""
        return result

    # -- index -------------------------------------------------------------------------------------

    def _link(self, node: Node) -> None:
        self._alive.add(node)
        self._node_names.add(node.name)
        for value in node.outputs:
            if value:
                self._producer[value] = node
                self._value_names.add(value)
        for value in node.inputs:
            if value:
                self._users.setdefault(value, {})[node] = None

    def _unlink(self, node: Node) -> None:
        for value in node.outputs:
            if self._producer.get(value) is node:
                del self._producer[value]
        for value in node.inputs:
            self._users.get(value, {}).pop(node, None)

    def _type_constant(self, name: str, array: Array) -> None:
        element = helper.np_dtype_to_tensor_dtype(array.dtype)
        self.types[name] = ValueType(int(element), tuple(array.shape))


def _fresh(hint: str, used: set[str]) -> str:
    name, count = hint, 1
    while name in used or not name:
        count += 1
        name = f"{hint}_{count}"
    used.add(name)
    return name


def _tensor(name: str, array: Array) -> TensorProto:
    return numpy_helper.from_array(array, name)


def _record(model: ModelProto, key: str) -> dict[str, str]:
    for prop in model.metadata_props:
        if prop.key == key:
            try:
                found = json.loads(prop.value)
            except json.JSONDecodeError:
                return {}
            return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
    return {}


def folded_nodes(model: ModelProto) -> dict[str, str]:
    """Which nodes of the imported graph are gone, and which node does their work now.

    Returns:
        node name -> name of a node of `model`; "" where nothing of the node is left at run time (it had
        no influence on an output).
    """
    return _record(model, FOLDED_KEY)


def node_origins(model: ModelProto) -> dict[str, str]:
    """Which nodes a rewrite made: node name -> name of the imported node that it was made for."""
    return _record(model, ORIGINS_KEY)
