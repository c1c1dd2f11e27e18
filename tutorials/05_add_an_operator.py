# %% [markdown]
# # Add an operator to the accelerator
#
# The machine has four kinds of work: products and sums (MATRIX), windows, requantisation and tables (VECTOR), and
# copies. An operator is taken when a rule says how it becomes one of them. Here the arc tangent gets its rule, and with
# it everything that follows: placement, code, simulators, reports.

# %%
from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import tilewright as tw
from tilewright.codegen.lower import lower
from tilewright.quantize.units import UNARY
from tilewright.relay_passes.float_ops import ELEMENTWISE
from tilewright.relay_passes.regions import find_regions

TARGET = "ultra96-w8"
random = np.random.default_rng(0)

# %% [markdown]
# ## A network that has one
#
# Two convolutions with an Atan between them, and random weights.

# %%
proto = onnx.parser.parse_model("""
<ir_version: 10, opset_import: ["" : 21]>
net (float[1, 16, 24, 24] x) => (float[1, 16, 24, 24] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w1)
    t = Atan (a)
    y = Conv <pads = [1, 1, 1, 1]> (t, w2)
}
""")
for name in ("w1", "w2"):
    weights = random.normal(0, 0.1, (16, 16, 3, 3)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, name))
samples = random.normal(0, 1, (32, 1, 16, 24, 24)).astype(np.float32)


def compiled() -> tuple[tw.Model, tw.Support]:
    """Load, quantise, and ask what runs where."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(proto, path)
        model = tw.load(path)
    qmodel = tw.quantize(model, calibration=[{"x": sample} for sample in samples])
    return qmodel, tw.supported(qmodel, TARGET)


# %%
qmodel, support = compiled()
for row in support.layers:
    print(f"{row.op:<6} {row.place:<12} {row.reason}")

# %% [markdown]
# ## The rule
#
# A function of one element needs no circuit of its own: its operand has at most 256 values, and VECTOR looks results up
# in a table of 256 bytes. The compiler fills the table from the function's float semantics, given once, in NumPy, as
# ONNX Runtime computes it. The quantiser has to know too that Atan's result gets a range of its own. In the project
# these are a word in `python/tilewright/quantize/units.py` and a line in `relay_passes/float_ops.py`:

# %%
UNARY.add("Atan")
ELEMENTWISE["atan"] = lambda operands, attributes: np.arctan(operands[0])

qmodel, support = compiled()
for row in support.layers:
    print(f"{row.op:<6} {row.place:<12} {row.reason}")

# %% [markdown]
# ## What it became
#
# The table is part of the convolution's requantisation, or a layer of the VECTOR unit.

# %%
(graph,) = find_regions(qmodel.relax(), tw.overlay(TARGET)).graphs
for node in graph.nodes:
    print("integer operator", node.operator.kind, "of", node.name)
for layer in lower(graph, tw.overlay(TARGET)).layers:
    print("machine layer   ", type(layer).__name__, layer.name)

# %% [markdown]
# ## Is it right?
#
# Every level gives the same bits, and the quantised ONNX model in ONNX Runtime tells what they should be: at most one
# step apart, where its float sums end beside a tie.

# %%
package = tw.compile(qmodel, target=TARGET)
session = onnxruntime.InferenceSession(qmodel.proto.SerializeToString(), providers=["CPUExecutionProvider"])
fast, reference = (tw.Session(package, backend=backend) for backend in ("sim", "reference"))
for sample in samples[:3]:
    (expected,) = session.run(None, {"x": sample})
    found = fast.run({"x": sample}).outputs["y"]
    assert np.array_equal(found, reference.run({"x": sample}).outputs["y"])
    step = np.unique(np.abs(np.diff(np.unique(expected)))).min()
    print(f"largest difference: {np.abs(found - expected).max() / step:.2f} steps")

# %% [markdown]
# ## Operators with a form of their own
#
# Where a table is not enough, an operator has one place at each level, in the order in which a tensor meets them:
#
# | file | says |
# |---|---|
# | `python/tilewright/integer/ops.py` | the operator as data, with its integer meaning |
# | `python/tilewright/integer/emit.py`, `parse.py`, `evaluate.py` | its body in plain Relax, read back; in NumPy |
# | `relay_passes/match/` | which cones of the graph it is, and why not where not |
# | `codegen/legal.py` | what of it the machine has room for |
# | `codegen/lower.py` | the layer of MATRIX or VECTOR that it becomes |
#
# The tests of random operators and graphs (`tests/codegen/build.py`) take it up from there: they compare integer level,
# NumPy simulator and fast simulator bit for bit.
