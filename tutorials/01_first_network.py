# %% [markdown]
# # A first network, from its Caffe files to the accelerator
#
# A small network that tells handwritten digits apart is read from its prototxt and caffemodel, quantised to
# 8 bit, compiled for the overlay `ultra96-w8`, and run on 400 images in the simulator. `make demo` runs
# this file.
# The network, its training and the source of its images: `tutorials/demo/README.md`.

# %%
from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

import tilewright as tw

DEMO = Path(__file__).resolve().parent / "demo"

# %% [markdown]
# ## 1. Load
#
# The preprocessing belongs to the network: this one was trained on (pixel - 128) / 128. It is kept in the
# package, so that nobody has to remember it.

# %%
model = tw.load(
    DEMO / "digits.prototxt", DEMO / "digits.caffemodel", preprocess=tw.Preprocess(mean=128, std=128)
)

# %% [markdown]
# ## 2. Quantise
#
# A hundred training images show which range each map has. No label is needed for that.

# %%
start = time.perf_counter()
qmodel = tw.quantize(model, calibration=DEMO / "digits_calibration.npz", bits=8)
print(f"quantised in {time.perf_counter() - start:.1f} s")

# %% [markdown]
# ## 3. Compile
#
# The package holds the instructions, the constants and everything that is needed to run them.

# %%
start = time.perf_counter()
package = tw.compile(qmodel, target="ultra96-w8")
print(f"compiled in {time.perf_counter() - start:.1f} s")
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "digits.twp"
    package.save(path)
    print(f"package: {path.stat().st_size / 1024:.0f} KiB")

# %% [markdown]
# ## 4. Run one image after another
#
# Every run goes through the instruction stream in the fast simulator, which computes bit for bit what the
# hardware will.

# %%
test = np.load(DEMO / "digits_test.npz")
images, labels = test["images"], test["labels"]
((name, shape),) = model.input_shapes.items()
(output,) = model.output_shapes
for image, label in list(zip(images, labels, strict=True))[:10]:
    pixels = model.preprocess.apply(image, shape)
    probabilities = package.run({name: pixels})[output].ravel()
    guess = int(probabilities.argmax())
    verdict = "right" if guess == label else "WRONG"
    print(f"a {label}, taken for a {guess} ({probabilities[guess]:.0%}): {verdict}")

# %% [markdown]
# ## 5. How much did eight bits cost?
#
# The same 400 images through the float network, the quantised one (both in ONNX Runtime) and the simulator.

# %%
report = tw.evaluate(package, DEMO / "digits_test.npz")
print(f"accuracy on {report.images} test images:")
for level in ("float", "quantised", "simulated"):
    print(f"  {level:9} {getattr(report, level).top1:6.2f} %")
print(f"flips against float: {report.flips.won} won, {report.flips.lost} lost")

# %% [markdown]
# ## 6. Your own network

# %%
print("""
The same with your own network:

  tilewright supported net.prototxt --target ultra96-w8
  tilewright compile net.prototxt --weights net.caffemodel --target ultra96-w8 --calibration DIR \\
      --resize 256 --crop 227 --channels bgr --mean 104,117,123 -o net.twp
  tilewright run net.twp --input cat.jpg
  tilewright evaluate net.twp --data DIR

DIR holds images/ and labels.csv (`file,label`); to calibrate, a folder of images is enough. The
preprocessing is what the network was trained with: these options are SqueezeNet's. An ONNX file takes the
place of net.prototxt and needs no --weights. `tilewright compile --help` tells the rest.""")
