# %% [markdown]
# # Where the cycles go, and a search for a better plan
#
# A report says what each layer costs on the timing simulator and how near that is to what the machine could do at
# best. The tuner changes the plan, measures, learns, and keeps the best.

# %%
from __future__ import annotations

import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tilewright as tw
from tilewright.report import analyse
from tilewright.tune.log import search_points

DEMO = Path(__file__).resolve().parent / "demo"
QUICK = "TILEWRIGHT_QUICK" in os.environ  # the tests leave out what takes long

model = tw.load(
    DEMO / "digits.prototxt", DEMO / "digits.caffemodel", preprocess=tw.Preprocess(mean=128, std=128)
)
qmodel = tw.quantize(model, calibration=DEMO / "digits_calibration.npz")
package = tw.compile(qmodel, target="ultra96-w8")

# %% [markdown]
# ## The report
#
# A layer's cycles are those in which the run waited for it, so that they add up to the total. Its bound is the largest
# of three: products over what MATRIX makes in a cycle, results over what VECTOR makes, bytes over what DRAM moves.
# A ratio above 1 means that the layer hides behind others.

# %%
report = analyse(package)
print(f"{report.cycles:,} cycles, {report.accelerator_ms * 1e3:.1f} us at {package.overlay.mhz} MHz")
print(f"{'layer':<16} {'cycles':>7} {'bound':>7}  limited by  DRAM bytes")
shown = [layer for layer in report.layers if layer.cycles]
for layer in shown:
    dram = layer.dram_read_bytes + layer.dram_write_bytes
    print(f"{layer.name:<16} {layer.cycles:>7,} {layer.bound_cycles:>7,}  {layer.limited_by:<10} {dram:>10,}")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
names = [layer.name for layer in shown]
at = np.arange(len(names))
left.barh(at, [layer.cycles for layer in shown], color="#4a6fa5", label="taken")
left.barh(at, [layer.bound_cycles for layer in shown], height=0.3, color="#e0a458", label="bound")
left.set_yticks(at, names, fontsize=7)
left.invert_yaxis()
left.set_xlabel("cycles")
left.legend()
right.barh(at, [layer.dram_bytes_unmerged for layer in shown], color="#cccccc", label="layer by layer")
right.barh(at, [x.dram_read_bytes + x.dram_write_bytes for x in shown], color="#4a6fa5", label="merged")
right.set_xlabel("bytes of DRAM traffic")
right.legend()
figure.tight_layout()
plt.show()

# %% [markdown]
# The same, with a roofline plot, the timeline of the units and what lies in the memories when, is a page:
# `tilewright report digits.twp --html digits.html`.
#
# ## The search
#
# A trial is a legal plan: which layers run together, in how many stripes, what stays on the chip. The first is the
# planner's own. Every measurement goes to the log at once, so a search that is stopped goes on where it was.

# %%
with tempfile.TemporaryDirectory() as folder:
    log = Path(folder) / "digits.jsonl"
    tuned = tw.tune(package, trials=12 if QUICK else 150, log=log)
    points = search_points(log)
print(f"{tuned.trials} plans: {tuned.default:,.0f} -> {tuned.best:,.0f} cycles, {tuned.gain:.1%} less")

# %%
values = np.array([np.nan if point.value is None else point.value for point in points])
figure, axes = plt.subplots(figsize=(8, 3))
axes.plot(values, ".", color="#aaaaaa", label="measured")
axes.plot(np.fmin.accumulate(values), color="#4a6fa5", label="best so far")
axes.set_xlabel("trial")
axes.set_ylabel("cycles")
axes.legend()
figure.tight_layout()
plt.show()

# %% [markdown]
# The plan is text: it can be kept, compared and changed by hand. Whatever the plan, the answers are the same bits.

# %%
better = tw.compile(qmodel, target="ultra96-w8", plan=tuned.plan)
image = np.load(DEMO / "digits_test.npz")["images"][0]
feeds = {"data": model.preprocess.apply(image, (1, 1, 32, 32))}
assert np.array_equal(package.run(feeds)["prob"], better.run(feeds)["prob"])
print(tuned.plan.text()[:600])
