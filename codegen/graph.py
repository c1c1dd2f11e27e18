"""An accelerator region as the code generator sees it: tensors, and operators in topological order."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.integer.ops import DType, Operator
from tilewright.targets.storage import Range


@dataclass(frozen=True)
class Tensor:
    """A tensor of a region. `shape` has the batch axis, which is 1; `held` are its values, None: all of its type's."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    held: Range | None = None

    @property
    def range(self) -> Range:
        """Its values."""
        return self.held or Range.of(self.dtype)


@dataclass(frozen=True)
class Node:
    """An operator with its operands; `name` is the source layer's, shown in listings, reports and errors."""

    name: str
    operator: Operator
    inputs: tuple[Tensor, ...]
    output: Tensor


@dataclass(frozen=True)
class Graph:
    """A region: `inputs` and `outputs` are its parameters and results in order."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
