"""Train the small DiracDeltaNet in float and with 4, 2 and 1 bits, and write its weights.

    pip install ".[train]"
    python tutorials/low_bit/train.py

The networks with quantisers start from the float weights as they were written: `--bits 4` trains that one again.
Same seed, same release of torch, same kind of processor: same files. The test images are looked at once, at the end:
nothing is chosen by them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from evaluate import BITS, NETWORK, accuracy, demo_data, load_weights, save_weights, to_input
from net import Net
from torch.nn import functional

from tilewright.zoo.fold import fold
from tilewright.zoo.form import Bits

SEED = 1
BATCH = 32
EPOCHS: dict[Bits | None, int] = {None: 30, 4: 20, 2: 30, 1: 60}
PEAK_RATE: dict[Bits | None, float] = {None: 0.01, 4: 0.004, 2: 0.005, 1: 0.01}
WEIGHT_DECAY: dict[Bits | None, float] = {None: 1e-3, 4: 1e-3, 2: 1e-3, 1: 0.0}  # signs have no size
CLIP_DECAY = 2e-4
"""lambda of the PACT paper: the loss has `lambda * clip^2`."""
MOVE = 2  # pixels; images are moved by up to this much each way while training


def moved(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image moved by its own whole pixels; what comes in is background."""
    padded = functional.pad(batch, (MOVE,) * 4, value=-2.0)
    side = batch.shape[2]
    moves = torch.randint(0, 2 * MOVE + 1, (len(batch), 2), generator=generator).tolist()
    return torch.stack([padded[i, :, y : y + side, x : x + side] for i, (y, x) in enumerate(moves)])


def train(images: torch.Tensor, labels: torch.Tensor, bits: Bits | None) -> Net:
    """Adam with one cycle of the learning rate."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    net = Net(NETWORK, bits)
    if bits is not None:
        net.start_from(load_weights(None))
    clips = net.clips()
    others = [p for p in net.parameters() if not any(p is clip for clip in clips)]
    groups = [{"params": others, "weight_decay": WEIGHT_DECAY[bits]}]
    if clips:
        groups.append({"params": clips, "weight_decay": 0.0})
    steps, epochs = len(images) // BATCH, EPOCHS[bits]
    optimiser = torch.optim.AdamW(groups, lr=PEAK_RATE[bits])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE[bits], total_steps=epochs * steps)
    begin = time.perf_counter()
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator)[: steps * BATCH]
        total = 0.0
        for chosen in order.split(BATCH):
            optimiser.zero_grad()
            scores = net(moved(images[chosen], generator))
            loss = functional.cross_entropy(scores, labels[chosen], label_smoothing=0.05)
            (loss + CLIP_DECAY * sum((clip**2 for clip in clips), torch.tensor(0.0))).backward()
            optimiser.step()
            net.keep_legal()
            schedule.step()
            total += loss.item()
        if epoch % 5 == 4:
            seconds = time.perf_counter() - begin
            print(
                f"{bits or 'float'}: epoch {epoch + 1}/{epochs}, loss {total / steps:.4f}, {seconds:.0f} s",
                flush=True,
            )
    return net.eval()


def main() -> None:
    """Train, and write one file of weights for each width."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--bits", type=int, choices=(4, 2, 1), action="append", help="only these, from float.npz"
    )
    chosen: Sequence[Bits | None] = parser.parse_args().bits or BITS
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # sums are then always split in the same way
    training, _, test = demo_data().split()
    images = torch.from_numpy(to_input(training.images))
    labels = torch.from_numpy(training.labels.astype(np.int64))
    for bits in chosen:
        net = train(images, labels, bits)
        weights = net.weights()
        save_weights(bits, weights if bits is None else fold(NETWORK, weights, bits))
        with torch.no_grad():
            guesses = net(torch.from_numpy(to_input(test.images))).argmax(dim=1).numpy()
        here = float(np.mean(guesses == test.labels) * 100)
        written = accuracy(bits, test.images, test.labels)
        print(f"{bits or 'float'}: test images {here:.2f} % in torch, {written:.2f} % as written", flush=True)


if __name__ == "__main__":
    main()
