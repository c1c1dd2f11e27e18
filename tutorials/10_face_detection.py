"""Faces in photographs: one network, then a cascade of three, on the simulated accelerator.

Run it from the top, or cell by cell in an editor that knows `# %%`. It needs the models and photographs of the folder
that TILEWRIGHT_DATA names, and ends with a message without it. `--quick` takes two photographs and a small pyramid;
`--to FOLDER` keeps the drawn pictures, which otherwise go to a temporary folder.
"""

# %% [markdown]
# # Face detection, from the file to the drawn picture
#
# A network is a part of an application only. Images are read, resized and normalised before it, boxes are decoded and
# drawn after it, and on a board the processor does all that while the accelerator waits, unless both are made to work
# at once. `tw.Pipeline` does that, and says where the time goes.

# %%
from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import tilewright as tw
from tilewright.frontend.pixels import read_image
from tilewright.report import analyse
from tilewright.vision.boxes import match
from tilewright.vision.mtcnn import Settings
from tilewright.vision.mtcnn_build import Networks

QUICK = "--quick" in sys.argv or "TILEWRIGHT_QUICK" in os.environ
DATA = Path(os.environ.get("TILEWRIGHT_DATA", "data"))
if not (DATA / "caffe" / "mtcnn").is_dir():
    print(f"no models in {DATA}: name the folder by TILEWRIGHT_DATA")
    raise SystemExit(0)
TO = Path(sys.argv[sys.argv.index("--to") + 1] if "--to" in sys.argv else tempfile.mkdtemp())
TO.mkdir(parents=True, exist_ok=True)

groups = sorted((DATA / "images" / "faces").glob("*.jpg"))
photographs = sorted((DATA / "caffe" / "mtcnn").glob("*.jpg"))
if not QUICK:
    photographs += groups

# %% [markdown]
# ## 1. One network: UltraFace
#
# An SSD-like detector for 320 x 240 pixels. Its output are offsets from 4,420 prior boxes and two scores for each; the
# decoder "ssd" knows its priors, and puts the boxes that are left after non-maximum suppression into the image's
# coordinates.

# %%
ultraface = tw.load(
    DATA / "caffe/ultraface_slim/slim-320.prototxt",
    DATA / "caffe/ultraface_slim/slim-320.caffemodel",
    preprocess=tw.Preprocess(mean=127, std=128),
)
package = tw.compile(tw.quantize(ultraface, calibration=DATA / "images/faces"), "ultra96-w8")
pipeline = tw.Pipeline.of(package, "ssd")
for frame in pipeline.run(photographs):
    frame.picture.save(TO / f"ultraface_{Path(frame.name).stem}.png")
    print(f"UltraFace, {Path(frame.name).name}: {len(frame.value)} faces")

# %% [markdown]
# ## 2. Where the time goes
#
# `limit` is Amdahl's law: how much faster the whole could become if that stage cost nothing, one image after another.
# `overlapped` is the same with the lanes side by side, as they run here: a stage of a lane that is not the slowest
# gives nothing. The times are this computer's, and the accelerator's the simulator's. `with_ms` puts the hardware's in
# their place, which the timing simulator knows.

# %%
print(pipeline.report().text())
milliseconds = analyse(package).accelerator_ms
print(f"\nwith the accelerator's own {milliseconds:.3f} ms an image:")
print(pipeline.report().with_ms({"infer": milliseconds}).text())

# %% [markdown]
# ## 3. A cascade: MTCNN
#
# PNet looks for faces at every level of an image pyramid. RNet and ONet look again at crops of the photograph, and
# ONet says where eyes, nose and mouth are. An accelerator's network has a fixed input, so that PNet becomes a package
# for each level, all of the same quantised weights; RNet and ONet take eight crops at a time. Each network is
# calibrated by what the float cascade shows it in the photographs of groups.

# %%
settings = Settings(frame=(240, 320), smallest=40) if QUICK else Settings()
networks = Networks.load(DATA / "caffe" / "mtcnn", settings)
packages = networks.compile(groups[-1:] if QUICK else groups, "ultra96-w8")
print(f"\nPNet for {', '.join(f'{h} x {w}' for h, w in settings.levels)}")

# %% [markdown]
# The stages of the cascade go to and fro between processor and accelerator; the pipeline has a thread for each piece
# and lets one of them at a time use the accelerator.

# %%
pipeline = tw.Pipeline(packages.stages())
found = {}
for frame in pipeline.run(photographs):
    frame.picture.save(TO / f"mtcnn_{Path(frame.name).stem}.png")
    found[frame.name] = frame.value
print(pipeline.report().text())
*pyramid, rnet, onet = (analyse(package).accelerator_ms for package in packages)
print(
    f"the accelerator itself takes {sum(pyramid):.3f} ms for a pyramid, and for eight crops {rnet:.3f} ms of RNet and "
    f"{onet:.3f} ms of ONet"
)

# %% [markdown]
# ## 4. Is it right?
#
# The same cascade with the float networks in ONNX Runtime should see the same faces. Overlap is intersection over union
# of each pair.

# %%
reference = networks.cascade()
for name, faces in found.items():
    wanted = reference.detect(read_image(name))
    pairs = match(faces.boxes, wanted.boxes)
    least = min((overlap for *_, overlap in pairs), default=1.0)
    print(
        f"MTCNN, {Path(name).name}: {len(faces)} faces, {len(wanted)} in float, "
        f"{len(pairs)} pairs of overlap {least:.2f} or more"
    )
print(f"pictures are in {TO}")

# %% [markdown]
# ## 5. Your own
#
#     pipeline = tw.Pipeline.of(tw.Package.load("net.twp"), "classes")   # or "ssd", "detection_output", or a function
#     for frame in pipeline.run(camera(cv2.VideoCapture(0))):            # or a folder, a list, a generator
#         ...
#
# `tilewright.vision` has the parts: `Stage`, decoders, `draw`, `camera`. With `on_error="keep"` an image that fails
# comes out with its error, in its place, and the run goes on.
