# %% [markdown]
# # The levels: one layer from Relax to bits
#
# A network passes through six forms on its way to the accelerator. Each can be printed, and each runs. This follows one
# convolution of the demo network through all of them.

# %%
from __future__ import annotations

import re
from pathlib import Path

import numpy as np

import tilewright as tw
from tilewright.codegen.lower import lower
from tilewright.integer.parse import kind_of, parse
from tilewright.integer_level import integer_module, run_integer
from tilewright.relay_passes.regions import find_regions
from tilewright.targets.isa.codec import decode_stream
from tilewright.targets.isa.listing import line

DEMO = Path(__file__).resolve().parent / "demo"
LAYER = "conv2"
overlay = tw.overlay("ultra96-w8")

model = tw.load(
    DEMO / "digits.prototxt", DEMO / "digits.caffemodel", preprocess=tw.Preprocess(mean=128, std=128)
)
qmodel = tw.quantize(model, calibration=DEMO / "digits_calibration.npz")

# %% [markdown]
# ## Float and quantised: ONNX
#
# The canonical form has few operators: BatchNorm, Scale and ReLU are folded or fused later. Quantising puts
# QuantizeLinear and DequantizeLinear around what becomes integer; the arithmetic is float still.

# %%
for name, proto in (("float", qmodel.float_proto), ("quantised", qmodel.proto)):
    nodes = [node for node in proto.graph.node if any(LAYER in text for text in (node.name, *node.output))]
    print(name, *(f"  {node.op_type:<17} {node.output[0]}" for node in nodes), sep="\n")

# %% [markdown]
# ## Graph: Relax as imported
#
# The same operators in TVM's intermediate language. `tvm.compile` starts here.

# %%
imported = qmodel.relax()
script = imported["main"].script().splitlines()
print(
    *(text.strip()[:110] for text in script if re.search(rf"\b{LAYER}(?!d)", text.split("metadata")[0])),
    sep="\n",
)

# %% [markdown]
# ## Integer
#
# A pass reads each cone from DequantizeLinears to a QuantizeLinear as one integer operator: products, sum, multiply by
# a 24-bit number, add, shift right with rounding half to even, clamp. Its body is plain Relax, so TVM runs it, and
# from here down every result is the same bit for bit.

# %%
integer = integer_module(qmodel.proto, overlay)
bodies = {symbol.name_hint: f for symbol, f in integer.functions.items() if kind_of(f)}
body = next(f for f in bodies.values() if f.attrs["tilewright.layer"] == LAYER)
print("\n".join(text[:118] for text in body.script().splitlines()))

# %%
operator = parse(body)
print(operator.kind, "weights", operator.weight.shape, operator.weight.dtype)
print(
    "m",
    operator.rescale.m.ravel()[:4],
    "s",
    operator.rescale.s.ravel()[:4],
    "b",
    operator.rescale.b.ravel()[:4],
)

# %% [markdown]
# ## Machine layers and tiles
#
# Regions of integer operators become layers of the two units. Maps have a place for each channel; layouts between
# layers fold into these places. A plan then says what stays on chip, and every layer becomes operations on pieces of
# memory: fills, steps, drains.

# %%
(graph,) = find_regions(imported, overlay).graphs
for layer in lower(graph, overlay).layers:
    if LAYER in layer.name:
        print(type(layer).__name__, layer.name)
print(tw.plan(qmodel, overlay).text()[:500])

# %% [markdown]
# ## Stream
#
# What the accelerator executes: 64 bytes an instruction, with tokens that order the four units. The listing can be
# assembled again.

# %%
package = tw.compile(qmodel, target=overlay)
(region,) = package.regions
numbers = [i for i, layer in enumerate(region.layer_of) if region.layers[layer] == LAYER]
instructions = decode_stream(region.stream)
for i in numbers[:6]:
    print(f"{i:4}  {line(instructions[i])[:112]}")
print("as bytes:", region.stream[64 * numbers[0] : 64 * numbers[0] + 16].hex(" "), "...")

# %% [markdown]
# ## All of them on one image
#
# The integer level by TVM, the stream by the NumPy simulator, which is the specification, and by the fast one in C++.

# %%
image = np.load(DEMO / "digits_test.npz")["images"][0]
x = model.preprocess.apply(image, (1, 1, 32, 32))
by_integer = run_integer(integer, [x])[0]
by_level = {"integer level": by_integer}
for backend in ("reference", "sim"):
    by_level[backend] = tw.Session(package, backend=backend).run({"data": x}).outputs["prob"]
for level, found in by_level.items():
    print(f"{level:<14} class {int(found.argmax())}, scores equal to the integer level's: "
          f"{np.allclose(found, by_integer, rtol=1e-6)}")  # fmt: skip
