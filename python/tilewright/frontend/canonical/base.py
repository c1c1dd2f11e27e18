"""The framework of the rewrites in this folder: what a pass is, and how passes run to a fixed point."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import onnx

from ... import debug as ladder
from ..graph import Graph, Node

_ROUNDS = 64  # a chain of n foldable nodes needs at most n rounds; rounds without change end at once
_SMALL = 1024  # elements; larger constants decide no shape


@dataclass(frozen=True)
class RewritePass(ABC):
    """One rewrite of an ONNX graph.

    Class attributes:
        name: as on the command line; the file is named like it.
        on_quantised: whether the pass leaves the arithmetic of a QDQ model as it is, so that it
            may run on one.
        tolerance: relative change of a constant that the pass takes for equal; 0 where it rounds and no more.
        rounds_sums: whether it puts a rounding where a quantised model has none.
    """

    name: ClassVar[str]
    on_quantised: ClassVar[bool] = False
    tolerance: ClassVar[float] = 0.0
    rounds_sums: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, graph: Graph) -> bool:
        """Rewrite `graph` in place; whether anything changed."""


@dataclass(frozen=True)
class NodePass(RewritePass):
    """A rewrite that looks at one node at a time; `ops` are the standard operators that it looks at."""

    ops: ClassVar[tuple[str, ...]]

    def __call__(self, graph: Graph) -> bool:
        """Try every node of the types `ops`."""
        modified = False
        for node in graph.of(*self.ops):
            modified = self.rewrite(graph, node) or modified
        return modified

    @abstractmethod
    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrite around `node` if the pattern is there; whether anything changed."""


def run_passes(graph: Graph, passes: Sequence[RewritePass], *, debug: bool | None = None) -> bool:
    """Run `passes` in order, again and again, until none changes anything.

    Args:
        debug: check the graph after each pass that changed it (:func:`check_graph`); default: if
            ``TILEWRIGHT_DEBUG`` is 2 or more.

    Returns:
        whether anything changed.
    """
    check = ladder.enabled(ladder.PASSES) if debug is None else debug
    quantised = graph.is_quantised()
    chosen = [p for p in passes if p.on_quantised or not quantised]
    changed = False
    for _ in range(_ROUNDS):
        modified = False
        for rewrite in chosen:
            if rewrite(graph):
                modified = True
                graph.sort()
                ladder.tell(ladder.PASSES, "pass %s: %d nodes", rewrite.name, len(graph.nodes))
                if check:
                    check_graph(graph, rewrite.name)
        if not modified:
            return changed
        changed = True
    names = ", ".join(p.name for p in chosen if p(graph))
    raise AssertionError(f"passes undo each other's work: {names}")


def check_graph(graph: Graph, after: str) -> None:
    """Assert that the graph is a valid model and that its recorded shapes are the inferred ones."""
    model = graph.to_model(largest_constant=_SMALL)
    try:
        onnx.checker.check_model(model)
        del model.graph.value_info[:]
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as exc:
        raise AssertionError(f"pass {after} left a graph that is not valid: {exc}") from exc
    found = Graph.from_model(inferred).types
    for node in graph.nodes:
        for value in node.outputs:
            want, have = found.get(value), graph.types.get(value)
            if want is not None and want.shape is not None and want != have:
                raise AssertionError(
                    f"pass {after}: value {value} of node {node.name} is {want}, recorded as {have}"
                )
