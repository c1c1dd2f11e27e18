# %% [markdown]
# # To the board: export, drivers and RPC
#
# A package runs on a Zynq by a small runtime in C++, with Python on top of it or without. No board is needed to follow
# this: a *device model*, a process of its own, owns the register page and the DMA memory as the accelerator would, and
# everything up to the last register write is what runs on a board.

# %%
from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import tilewright as tw
from tilewright.runtime.device_model import DeviceModel

DEMO = Path(__file__).resolve().parent / "demo"
model = tw.load(
    DEMO / "digits.prototxt", DEMO / "digits.caffemodel", preprocess=tw.Preprocess(mean=128, std=128)
)
qmodel = tw.quantize(model, calibration=DEMO / "digits_calibration.npz")
package = tw.compile(qmodel, target="ultra96-w8")
image = np.load(DEMO / "digits_test.npz")["images"][0]
feeds = {"data": model.preprocess.apply(image, (1, 1, 32, 32))}
expected = tw.Session(package).run(feeds).outputs["prob"]

# %% [markdown]
# ## The accelerator's registers
#
# A device is named by a text, wherever a back end may stand: `zynq:registers=/dev/uio0,memory=/dev/udmabuf0` on a
# board. The device model gives the same with files in shared memory. Before anything runs, the runtime reads the
# overlay from the device, and a bitstream of another overlay is refused with the fields that differ.

# %%
with DeviceModel(package.overlay) as device:
    print(device.uri())
    with tw.Session(package, backend=device.uri()) as session:
        found = session.run(feeds)
        print("equal to the simulator, bit for bit:", np.array_equal(found.outputs["prob"], expected))

# %% [markdown]
# A device that fails says why, and the next run is right again.

# %%
with (
    DeviceModel(package.overlay) as device,
    tw.Session(package, backend=device.uri(timeout_ms=200)) as session,
):
    session.run(feeds)
    device.fault("hang")
    try:
        session.run(feeds)
    except tw.TilewrightError as error:
        print(str(error)[:400])
    print("again:", np.array_equal(session.run(feeds).outputs["prob"], expected))

# %% [markdown]
# ## A folder for the board
#
# `export` writes everything that a board needs, with checksums and a self-test: the runtime for its Arm, the package
# without models, and one Python file in the manner of PYNQ that needs NumPy and nothing else. Here it is made for this
# machine; leave `arch` out for the Arm of the overlay's board.

# %%
with tempfile.TemporaryDirectory() as folder:
    made = tw.export(package, Path(folder) / "digits", arch="native")
    for name, size in sorted(made.sizes.items()):
        print(f"{size:>9,}  {name}")
    script = (
        "import numpy as np; from tilewright_board import Overlay\n"
        "with Overlay('digits.twp') as overlay:\n"
        "    overlay.buffers['data'][:] = np.load('../image.npy')\n"
        "    print('class', int(overlay.run()['prob'].argmax()))"
    )
    np.save(Path(folder) / "image.npy", feeds["data"])
    (name,) = (Path(name).name for name in made.sizes if name.endswith(".twp"))
    command = [sys.executable, "-c", script.replace("digits.twp", name)]
    print(subprocess.run(command, cwd=made.folder, capture_output=True, text=True, check=True).stdout)

# %% [markdown]
# ## A board in the network
#
# On the board runs `python -m tilewright.runtime.server`; it listens on loopback unless it is told otherwise. From here
# the package is sent and run there. `tilewright run --remote` does this, and `tilewright tune --backend board` measures
# plans so.

# %%
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
server = subprocess.Popen([sys.executable, "-m", "tilewright.runtime.server", "--port", str(port)])
try:
    for _ in range(120):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.5)
    with tw.connect(f"127.0.0.1:{port}") as board, board.open(package) as session:
        found = session.run(feeds, cycles=True)
        print("equal:", np.array_equal(found.outputs["prob"], expected), "cycles:", found.counts["cycles"])
finally:
    server.terminate()
    server.wait()
