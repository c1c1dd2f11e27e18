# %% [markdown]
# # A new overlay for your board
#
# An overlay is a text file: block sizes, widths, memories, clock. Compiler, simulators and reports follow it; nothing
# is built in. Here a board that Tilewright does not know gets an overlay of its own.

# %%
from __future__ import annotations

import os
import tempfile
from pathlib import Path

import tilewright as tw
from tilewright.report import analyse
from tilewright.targets.resources import resources

DEMO = Path(__file__).resolve().parent / "demo"
QUICK = "TILEWRIGHT_QUICK" in os.environ  # the tests leave out what takes long
folder = Path(tempfile.mkdtemp()) / "overlays"
folder.mkdir()

# %% [markdown]
# ## The board
#
# What the part has (AMD, *Zynq UltraScale+ MPSoC Data Sheet: Overview*, DS891: the ZU4EV), and how the accelerator sees
# the DRAM, in bytes and cycles of its own clock.

# %%
(folder / "myboard.toml").write_text("""
description = "a board with a Zynq UltraScale+ ZU4EV"
part = "xczu4ev-sfvc784-1-e"
lut = 87840
ff = 175680
bram36 = 128
dsp = 728
dram_read_ports = 2
dram_read_bytes_per_cycle = 16
dram_write_bytes_per_cycle = 16
dram_bytes_per_cycle = 32
dram_burst_bytes = 256
dram_outstanding = 8
dram_latency_cycles = 100
""")

# %% [markdown]
# ## The overlay
#
# More multipliers than the Ultra96 has, and less memory. What contradicts itself, or does not fit the part, is told,
# all of it at once:

# %%
text = """
board = "myboard"
block_in = 32
block_out = 32
inp_bits = 8
wgt_bits = 8
acc_bits = 32
vector_lanes = 32
act_kib = {act}
wgt_kib = {wgt}
acc_kib = {acc}
param_kib = 32
disp_entries = 64
displacement_min = -1
displacement_max = 1
mhz = 250
"""
overlay = folder / "mine-w8.toml"
for sizes in (
    {"act": 384, "wgt": 256, "acc": 64},
    {"act": 384, "wgt": 256, "acc": 128},
    {"act": 128, "wgt": 128, "acc": 128},
):
    overlay.write_text(text.format(**sizes))
    try:
        mine = tw.overlay(str(overlay))
        print(sizes, "fits")
    except tw.TilewrightError as error:
        print(sizes, error, sep="\n  ")

# %%
for name, (taken, there) in resources(mine).amounts.items():
    print(f"{name:<7} {taken:>7,} of {there:>7,}  {taken / there:.0%}")

# %% [markdown]
# ## Use it
#
# The file's name stands wherever an overlay's name does: `tilewright compile --target mine-w8.toml`, `tw.target(...)`,
# or as here.

# %%
model = tw.load(
    DEMO / "digits.prototxt", DEMO / "digits.caffemodel", preprocess=tw.Preprocess(mean=128, std=128)
)
qmodel = tw.quantize(model, calibration=DEMO / "digits_calibration.npz")
for target in ("pynq-z1-w8", "ultra96-w8", mine):
    report = analyse(tw.compile(qmodel, target=target))
    print(
        f"{report.overlay.name:<12} {report.cycles:>7,} cycles {1e3 / report.accelerator_ms:>9,.0f} frames/s"
    )

# %% [markdown]
# A package carries its overlay, so that it runs anywhere; on a board its hash is compared with the bitstream's.
#
# ## Which overlay would this network like?
#
# `explore` enumerates overlays that fit the part, bounds each, times those that may be good, and keeps those that no
# other beats in everything.

# %%
if not QUICK:
    found = tw.explore(qmodel, "ultra96", widths=[(8, 8)], trials=12)
    for row in found.front:
        print(f"{row.overlay.name:<34} {row.fps:>9,.0f} frames/s {row.energy_mj:.4f} mJ")
