"""DiracDeltaNet: 1x1 convolutions, shifts, 2x2 pooling and a rotation of the channels.

Y. Yang et al., "Synetgy: Algorithm-hardware Co-design for ConvNet Accelerators on Embedded FPGAs", FPGA 2019
(arXiv:1811.08634). The spatial convolutions of ShuffleNetV2 are replaced by shifts, which cost no product:

    block:       x -> split -> low ---------------------------------------> concat -> rotate
                            -> high -> expand -> shift -> reduce ---------->
    first block: x -> pool -> bypass -------------------------------------> concat -> rotate
                 x -> expand -> pool -> shift -> reduce ------------------>

`expand` and `reduce` are 1x1 convolutions with BatchNormalization and ReLU; between them are twice as many channels
as `reduce` makes. The shift is a depthwise 3x3 convolution with a one-hot kernel, as the authors write it. Blocks of
a stage share one quantiser for what they concatenate, else the passed half would have to be quantised again.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx import ModelProto

from tilewright.zoo.build import build
from tilewright.zoo.form import Bits, Weights
from tilewright.zoo.layers import (
    INPUT,
    Average,
    Concat,
    Conv,
    Dense,
    Layer,
    Map,
    MaxPool,
    Network,
    Rotate,
    Shift,
    Split,
)

Stages = Sequence[tuple[int, int]]
"""(channels, blocks) of each stage."""
STEM = (32, 64)
STAGES: Stages = ((128, 4), (256, 8), (512, 4))
SMALL_STEM = (16, 32)
SMALL_STAGES: Stages = ((64, 2), (96, 2))


def diracdeltanet(
    bits: Bits | None = None, weights: Weights | None = None, seed: int = 0, *, shift: bool = True
) -> ModelProto:
    """The published network for 224x224 images: 317 M MACs, 3.27 M weights.

    Args:
        bits: None for float; 1, 2, 4 or 8 for QCDQ with weights and activations of that width, and 8 bits in the first
            and last layer (`quantised_form.py`).
        weights: by name, as `float_form.py` or `quantised_form.py` list them; seeded ones if None.
        seed: of the weights; the same seed gives the same model.
        shift: with shifts; without them to see what they cost.

    Returns:
        a model of one input `data` (1, 3, 224, 224), for values of -2..2, as (pixel - 128) / 64, and one output `fc`
        (1, 1000), before the softmax.

    Raises:
        ConfigError: weights are missing, left over, or of another shape, type or range; all are told.
    """
    return build(network(shift=shift), bits, weights, seed)


def diracdeltanet_small(
    bits: Bits | None = None, weights: Weights | None = None, seed: int = 0, *, shape: Map = (1, 32, 32)
) -> ModelProto:
    """The same for small images and ten classes; `shape` is (channels, height, width). For the rest see above."""
    return build(small_network(shape), bits, weights, seed)


def small_network(shape: Map = (1, 32, 32)) -> Network:
    """The layers of `diracdeltanet_small`."""
    return network("diracdeltanet_small", shape, stem=SMALL_STEM, stages=SMALL_STAGES, head=96, classes=10)


def network(
    name: str = "diracdeltanet",
    shape: Map = (3, 224, 224),
    *,
    stem: Sequence[int] = STEM,
    stages: Stages = STAGES,
    head: int = 1024,
    classes: int = 1000,
    shift: bool = True,
) -> Network:
    """The layers: a stem that halves the map for each entry, stages that halve it once each, and a classifier."""
    layers: list[Layer] = []
    at = INPUT
    for number, channels in enumerate(stem, 1):
        conv = f"conv{number}"
        layers.append(Conv(conv, at, channels))
        layers.append(MaxPool(f"pool{number}", conv, 2, 2, 1))
        at = _shifted(layers, f"shift{number}", f"pool{number}", shift)
    for stage, (channels, blocks) in enumerate(stages, 1):
        for block in range(1, blocks + 1):
            at = _block(layers, f"stage{stage}", block, at, channels, shift, split=stage == 1 or block > 1)
    last = f"conv{len(stem) + 1}"
    layers += [Conv(last, at, head), Average("average", last), Dense("fc", "average", classes)]
    return Network(name, shape, tuple(layers))


def _block(
    layers: list[Layer], stage: str, number: int, at: str, channels: int, shift: bool, *, split: bool
) -> str:
    """Append a block; the first of a stage halves the map. Returns its result."""
    name, half = f"{stage}/block{number}", channels // 2
    low = high = at
    if split:
        parts = Split(f"{name}/split", at)
        layers.append(parts)
        low, high = parts.low, parts.high
    if number == 1:
        layers.append(MaxPool(f"{name}/bypass_pool", low, 2, 2))
        layers.append(Conv(f"{name}/bypass", f"{name}/bypass_pool", half, quantiser=stage))
        low = f"{name}/bypass"
    layers.append(Conv(f"{name}/expand", high, channels))
    high = f"{name}/expand"
    if number == 1:
        layers.append(MaxPool(f"{name}/pool", high, 2, 2))
        high = f"{name}/pool"
    high = _shifted(layers, f"{name}/shift", high, shift)
    layers.append(Conv(f"{name}/reduce", high, half, quantiser=stage))
    layers.append(Concat(f"{name}/concat", (low, f"{name}/reduce")))
    layers.append(Rotate(f"{name}/rotate", f"{name}/concat", channels // 4))
    return f"{name}/rotate"


def _shifted(layers: list[Layer], name: str, at: str, shift: bool) -> str:
    if not shift:
        return at
    layers.append(Shift(name, at))
    return name
