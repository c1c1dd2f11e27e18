"""Train the demo's network and write all its files.

    pip install ".[train]"
    python tutorials/demo/train.py

Takes about a minute on one core. The same seed gives the same weights with the same release of torch on
the same kind of processor; elsewhere the last bits differ, and with them perhaps an image of the test set.
The test images are looked at once, at the end: nothing is chosen by them.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from data import HERE, Part, save, split
from network import (
    CLASSES,
    EPSILON,
    LAYERS,
    Add,
    Concat,
    Conv,
    Dense,
    GlobalAverage,
    MaxPool,
    Softmax,
    channels,
    to_caffe_blobs,
    to_onnx,
    to_prototxt,
)
from torch import nn
from torch.nn import functional

from tilewright.frontend.caffe import write_caffemodel

SEED = 1
EPOCHS = 40
BATCH = 32
PEAK_RATE = 0.01
WEIGHT_DECAY = 1e-3
SHIFT = 2  # pixels; images are moved by up to this much each way while training


class Net(nn.Module):
    """What the table in network.py describes, without the softmax, which the loss contains."""

    def __init__(self) -> None:
        super().__init__()
        width = channels()
        self.weighted = nn.ModuleDict()
        for layer in LAYERS:
            match layer:
                case Conv():
                    inputs = width[layer.bottom]
                    self.weighted[layer.name] = nn.Sequential(
                        nn.Conv2d(
                            inputs, layer.channels, layer.kernel, padding=layer.kernel // 2, bias=False
                        ),
                        nn.BatchNorm2d(layer.channels, eps=EPSILON),
                    )
                case Dense():
                    self.weighted[layer.name] = nn.Linear(width[layer.bottom], layer.outputs)
                case _:
                    pass

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 1, 32, 32) -> scores (N, 10)."""
        maps = {"data": images}
        for layer in LAYERS:
            match layer:
                case Conv():
                    value = self.weighted[layer.name](maps[layer.bottom])
                    maps[layer.name] = functional.relu(value) if layer.relu else value
                case MaxPool():
                    maps[layer.name] = functional.max_pool2d(
                        maps[layer.bottom], layer.kernel, layer.stride, layer.pad, ceil_mode=True
                    )
                case Add():
                    first, second = layer.bottoms
                    maps[layer.name] = functional.relu(maps[first] + maps[second])
                case Concat():
                    maps[layer.name] = torch.cat([maps[bottom] for bottom in layer.bottoms], dim=1)
                case GlobalAverage():
                    maps[layer.name] = maps[layer.bottom].mean(dim=(2, 3))
                case Dense():
                    maps[layer.name] = self.weighted[layer.name](maps[layer.bottom])
                case Softmax():
                    return maps[layer.bottom]
        raise AssertionError("the table ends with a softmax")

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """Weights by the names of network.py."""
        found: dict[str, torch.Tensor] = {}
        for name, module in self.weighted.items():
            if isinstance(module, nn.Linear):
                found |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
            else:
                convolution, norm = module
                found |= {
                    f"{name}.weight": convolution.weight,
                    f"{name}.gamma": norm.weight,
                    f"{name}.beta": norm.bias,
                    f"{name}.mean": norm.running_mean,
                    f"{name}.variance": norm.running_var,
                }
        return {name: value.detach().numpy().copy() for name, value in found.items()}


def to_input(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(N, 32, 32) bytes -> (N, 1, 32, 32): what `--mean 128 --std 128` does."""
    return ((images.astype(np.float32) - 128) / 128)[:, np.newaxis]


def shifted(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image moved by its own whole pixels; what comes in is background (-1)."""
    padded = functional.pad(batch, (SHIFT,) * 4, value=-1.0)
    side = batch.shape[2]
    moves = torch.randint(0, 2 * SHIFT + 1, (len(batch), 2), generator=generator).tolist()
    return torch.stack([padded[i, :, y : y + side, x : x + side] for i, (y, x) in enumerate(moves)])


def train(part: Part) -> Net:
    """AdamW with one cycle of the learning rate."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # sums are then always split in the same way
    generator = torch.Generator().manual_seed(SEED)
    images, labels = torch.from_numpy(to_input(part.images)), torch.from_numpy(part.labels.astype(np.int64))
    net = Net()
    steps = len(images) // BATCH
    optimiser = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=EPOCHS * steps)
    start = time.perf_counter()
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images), generator=generator)[: steps * BATCH]
        total = 0.0
        for chosen in order.split(BATCH):
            optimiser.zero_grad()
            loss = functional.cross_entropy(
                net(shifted(images[chosen], generator)), labels[chosen], label_smoothing=0.05
            )
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(
            f"epoch {epoch + 1}/{EPOCHS}: loss {total / steps:.4f}, {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    return net.eval()


def accuracy(model: onnx.ModelProto, part: Part) -> float:
    """Percent of right predictions by ONNX Runtime."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found = [session.run(None, {"data": image[np.newaxis]})[0].argmax() for image in to_input(part.images)]
    return float(np.mean(np.array(found) == part.labels) * 100)


def main() -> None:
    """Train, and write the images, the Caffe files and the ONNX file."""
    training, calibration, test = split()
    save(calibration, HERE / "digits_calibration.npz")
    save(test, HERE / "digits_test.npz")
    weights = train(training).weights()
    model = to_onnx(weights)
    (HERE / "digits.onnx").write_bytes(model.SerializeToString())
    (HERE / "digits.prototxt").write_text(to_prototxt(), encoding="utf-8")
    write_caffemodel(HERE / "digits.caffemodel", to_caffe_blobs(weights))
    count = sum(array.size for array in weights.values())
    print(f"{len(training.labels)} training images, {CLASSES} classes, {count} weights")
    print(f"training images: {accuracy(model, training):.2f} %, test images: {accuracy(model, test):.2f} %")


if __name__ == "__main__":
    main()
