# %% [markdown]
# # Your own ONNX model, and what quantising costs it
#
# From a float ONNX file and a folder of images to a package, with the accuracy of each form of the network beside the
# others. Put your own files into the four lines below; as they stand, they name the demo network.

# %%
from __future__ import annotations

import os
from pathlib import Path

import numpy as np

import tilewright as tw

DEMO = Path(__file__).resolve().parent / "demo"
MODEL = DEMO / "digits.onnx"
CALIBRATION = DEMO / "digits_calibration.npz"  # or a folder with images/ and labels.csv
TEST = DEMO / "digits_test.npz"
PREPROCESS = tw.Preprocess(mean=128, std=128)
QUICK = "TILEWRIGHT_QUICK" in os.environ  # the tests leave out what takes long

# %% [markdown]
# ## 1. What will the accelerator take?
#
# Nothing needs to be compiled to find out. `supported` goes through the same rules that the partitioner goes through,
# and where the answer is "host" it says why and what could be done.

# %%
model = tw.load(MODEL, preprocess=PREPROCESS)
support = tw.supported(model, "ultra96-w8")
for row in support.layers:
    print(f"{row.name:<20} {row.op:<20} {row.place:<12} {row.reason}")

# %% [markdown]
# ## 2. Quantise, and see what each step is worth
#
# The calibration images show how large each map becomes. `measure=True` quantises again with one step more at a time
# and compares the scores with the float network's: that is where to look when accuracy is lost.

# %%
qmodel = tw.quantize(model, calibration=CALIBRATION, bits=8, measure=True)
for step in qmodel.steps:
    print(
        f"{step.name:<22} {step.snr:5.1f} dB against float, the same class for {step.agreement:.1f} % of the images"
    )

# %% [markdown]
# ## 3. Accuracy, side by side
#
# Float and quantised run in ONNX Runtime, the package on the simulated accelerator. A *flip* is an image that one
# of them has right and the other wrong; accuracy alone can hide flips, where as many are won as lost.

# %%
package = tw.compile(qmodel, target="ultra96-w8")
result = tw.evaluate(package, TEST)
print(f"float {result.float.top1:.2f} %" if result.float else "the model came quantised")
print(f"quantised {result.quantised.top1:.2f} %, simulated {result.simulated.top1:.2f} %")
print(f"of {result.images} images, {result.flips.won} were won and {result.flips.lost} lost")

# %% [markdown]
# ## 4. Fewer bits
#
# Four bits halve what weights and maps take; the first and the last layer keep eight. Without training, some
# accuracy goes, and how much depends on the network.

# %%
for bits in (8,) if QUICK else (8, 4, 2):
    small = tw.quantize(model, calibration=CALIBRATION, bits=bits)
    target = "ultra96-w8" if bits == 8 else "ultra96-w4"
    found = tw.evaluate(tw.compile(small, target=target), TEST)
    print(
        f"{bits} bits on {target}: {found.simulated.top1:.2f} %, {found.flips.won} won and {found.flips.lost} lost"
    )

# %% [markdown]
# ## 5. Use it
#
# A package is a file; a session runs it as often as you like. Inputs go in as the network takes them, after the
# preprocessing that the package keeps.

# %%
session = tw.Session(package)
((name, shape),) = model.input_shapes.items()
(output,) = model.output_shapes
image = np.load(TEST)["images"][0]
pixels = model.preprocess.apply(image, shape)
scores = session.run({name: pixels}).outputs[output].ravel()
print("classes by score:", ", ".join(f"{i} ({scores[i]:.3g})" for i in np.argsort(-scores)[:3]))
