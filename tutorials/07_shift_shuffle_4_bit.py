# %% [markdown]
# # Shift, shuffle and four bits: DiracDeltaNet
#
# Y. Yang et al., *Synetgy* (FPGA 2019, arXiv:1811.08634), made a network for an accelerator and an accelerator for the
# network: 1x1 convolutions, shifts in place of 3x3 filters, channel shuffles, and four bits. This shows that such
# networks cost here what their products cost and nothing else.

# %%
from __future__ import annotations

import collections
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnx

import tilewright as tw
from tilewright.report import analyse
from tilewright.targets.isa.codec import decode_stream
from tilewright.zoo import diracdeltanet, diracdeltanet_small

HERE = Path(__file__).resolve().parent
QUICK = "TILEWRIGHT_QUICK" in os.environ  # the tests leave out what takes long


def load(proto: onnx.ModelProto) -> tw.Model:
    """A network that was built in memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(proto, path)
        return tw.load(path, preprocess=tw.Preprocess(mean=128, std=64))


# %% [markdown]
# ## The network
#
# `tilewright.zoo` builds it as ONNX, so anyone can look at it. A shift moves each channel by a pixel up, down, left,
# right or not at all: a depthwise 3x3 convolution whose kernels have a single one.

# %%
with np.load(HERE / "low_bit" / "w4a4.npz") as file:
    weights = dict(file)
small = diracdeltanet_small(bits=4, weights=weights)
print(collections.Counter(node.op_type for node in small.graph.node))

# %% [markdown]
# ## What becomes of shifts, shuffles and splits
#
# Each layer's instructions, counted in the stream. Shuffles and splits have none: they only say in which order the
# layer before writes its channels. Shifts have none either: MATRIX reads each lane at its own offset.

# %%
package = tw.compile(load(small), target="ultra96-w4")
(region,) = package.regions
counts = collections.Counter(region.layers[layer] for layer in region.layer_of)
for name, count in counts.items():
    print(f"{name:<28} {count:>4} instructions")
displaced = sum(getattr(i, "displaced", 0) for i in decode_stream(region.stream))
print(f"{displaced} of the MATRIX instructions read at displacements")

# %% [markdown]
# ## With and without shifts

# %%
build = diracdeltanet_small if QUICK else diracdeltanet
for target in ("ultra96-w4", "ultra96-w4x"):
    report = analyse(tw.compile(load(build(bits=4)), target=target))
    print(
        f"{build.__name__} on {target}: {report.cycles:,} cycles, {1e3 / report.accelerator_ms:,.1f} frames/s"
    )
if not QUICK:
    plain = analyse(tw.compile(load(build(bits=4, shift=False)), target="ultra96-w4x"))
    print(f"without shifts: {plain.cycles:,} cycles, {report.cycles / plain.cycles - 1:+.2%} with them")

# %% [markdown]
# ## What do fewer bits cost?
#
# The small network was trained in float and with quantisers of 4, 2 and 1 bits (`tutorials/low_bit/train.py`, a few
# minutes on one core). Here each runs on the simulated accelerator.

# %%
with np.load(HERE / "demo" / "digits_test.npz") as file:
    images, labels = file["images"], file["labels"]
count = 40 if QUICK else len(images)
accuracy = {}
for bits in (4, 2, 1):
    with np.load(HERE / "low_bit" / f"w{bits}a{bits}.npz") as file:
        model = load(diracdeltanet_small(bits=bits, weights=dict(file)))
    session = tw.Session(tw.compile(model, target="ultra96-w4"))
    guesses = []
    for image in images[:count]:
        outputs = session.run({"data": model.preprocess.apply(image, (1, 1, 32, 32))}).outputs
        guesses.append(int(next(iter(outputs.values())).argmax()))
    accuracy[bits] = float(np.mean(np.array(guesses) == labels[:count])) * 100
    print(f"{bits} bits: {accuracy[bits]:.2f} % of {count} images")

# %%
figure, axes = plt.subplots(figsize=(5, 3))
axes.bar([f"{bits} bit" for bits in accuracy], list(accuracy.values()), color="#4a6fa5")
axes.set_ylabel("right, %")
axes.set_ylim(0, 100)
figure.tight_layout()
plt.show()
