# %% [markdown]
# # Write a pass
#
# RepVGG (X. Ding et al., arXiv:2101.03697) trains blocks of a 3x3 and a 1x1 convolution side by side and adds their
# results. A sum of convolutions of one map is a convolution: the 1x1 kernel is a 3x3 kernel with zeros around it.
# Exported as they were trained, such networks run, but they multiply more, and the sum is a layer of its own. Here is a
# pass that merges the branches, and how to see that it does so and no harm.

# %%
from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime

import tilewright as tw
from tilewright.frontend.canonical import PASSES, NodePass, canonicalise
from tilewright.frontend.graph import Graph, Node
from tilewright.opt import Watch, optimise, sequence, start
from tilewright.report import analyse

random = np.random.default_rng(0)
proto = onnx.parser.parse_model("""
<ir_version: 10, opset_import: ["" : 21]>
net (float[1, 32, 32, 32] x) => (float[1, 32, 32, 32] y) {
    a3 = Conv <pads = [1, 1, 1, 1]> (x, a3_w)
    a1 = Conv (x, a1_w)
    a = Add (a3, a1)
    ar = Relu (a)
    b3 = Conv <pads = [1, 1, 1, 1]> (ar, b3_w)
    b1 = Conv (ar, b1_w)
    b = Add (b3, b1)
    y = Relu (b)
}
""")
for name, side in (("a3_w", 3), ("a1_w", 1), ("b3_w", 3), ("b1_w", 1)):
    weights = random.normal(0, 0.1, (32, 32, side, side)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, name))
samples = random.normal(0, 1, (16, 1, 32, 32, 32)).astype(np.float32)

# %% [markdown]
# ## The pass
#
# A pass over the float network is a class with a name and one method, which looks at a node of the kinds that it asks
# for and changes the graph around it. It says whether it changed anything; passes run again and again until none does.
# The graph keeps readers, makers, types and shapes true, and remembers from which layer a new one came.


# %%
@dataclass(frozen=True)
class MergeBranches(NodePass):
    """Add(Conv 3x3 of x, Conv 1x1 of x) -> one Conv 3x3 of x."""

    name: ClassVar[str] = "merge_branches"
    ops: ClassVar[tuple[str, ...]] = ("Add",)
    tolerance: ClassVar[float] = 1e-6  # weights and biases are added in float32

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Merge where the two convolutions read one map and nobody else reads their results."""
        convolutions = [graph.producer(value, "Conv") for value in node.inputs]
        if any(c is None or graph.sole_user(c.output) is not node for c in convolutions):
            return False
        large, small = sorted(convolutions, key=lambda c: -graph.shape(c.inputs[1])[2])
        kernels = [graph.constant(c.inputs[1]) for c in (large, small)]
        biases = [graph.constant(c.inputs[2]) for c in (large, small)]
        same = ("strides", "dilations", "group")
        if (
            large.inputs[0] != small.inputs[0]
            or [k.shape[2:] for k in kernels] != [(3, 3), (1, 1)]
            or [list(c.attrs["pads"]) for c in (large, small)] != [[1] * 4, [0] * 4]
            or any(large.attrs.get(name) != small.attrs.get(name) for name in same)
        ):
            return False
        kernel = kernels[0] + np.pad(kernels[1], ((0, 0), (0, 0), (1, 1), (1, 1)))
        inputs = [
            large.inputs[0],
            graph.add_constant(f"{node.name}/weight", kernel),
            graph.add_constant(f"{node.name}/bias", biases[0] + biases[1]),
        ]
        graph.become(node, "Conv", inputs, **large.attrs)
        return True


# %% [markdown]
# ## See it work
#
# `canonicalise` runs passes to a fixed point: the project's own are what `tw.load` runs. After them every convolution
# has a bias and explicit padding, so the pass need not ask.


# %%
def operators(model: onnx.ModelProto) -> str:
    """The operators in order."""
    return " -> ".join(node.op_type for node in model.graph.node)


before = canonicalise(proto)
after = canonicalise(proto, (*PASSES, MergeBranches()))
print(operators(before))
print(operators(after))

# %% [markdown]
# ## See that it does no harm
#
# Both networks on one input: sums of other order differ by some roundings of float32, 2^-24 each.

# %%
results = []
for model in (before, after):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results.append(session.run(None, {"x": samples[0]})[0])
difference = np.abs(results[0] - results[1]).max() / np.abs(results[0]).max()
print(f"largest difference: {difference:.1e} of the largest value")
assert difference < 2**-18  # 64 roundings

# %% [markdown]
# In the project a pass is a file of `frontend/canonical` and a line in its table. From then on `tilewright opt` knows
# it by name, and verifies it: `tilewright opt net.onnx -p canonicalise --verify-each --print-after merge_branches`.
# The same from Python, over the passes that are there already:

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "net.onnx"
    onnx.save(proto, path)
    state = start(path, tw.overlay("ultra96-w8"))
    for ran in optimise(state, sequence("canonicalise", state.level), Watch(verify=True)):
        if ran.changes:
            print(
                f"{ran.name:<18} {ran.changes} changes, largest difference {ran.comparisons[-1].largest:.1e}"
            )

# %% [markdown]
# ## What it is worth
#
# Both forms compiled, and their cycles on the timing simulator.

# %%
for name, model in (("before", before), ("after", after)):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(model, path)
        loaded = tw.load(path)
    qmodel = tw.quantize(loaded, calibration=[{"x": sample} for sample in samples])
    report = analyse(tw.compile(qmodel, target="ultra96-w8"))
    print(f"{name:<6} {report.cycles:>7,} cycles, {sum(layer.macs for layer in report.layers):>10,} products")
