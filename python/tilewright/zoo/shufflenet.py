"""ShuffleNetV2: N. Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV 2018
(arXiv:1807.11164), table 5 and figure 3 c, d.
"""

from __future__ import annotations

from onnx import ModelProto

from tilewright.errors import ConfigError, Fault
from tilewright.zoo.build import build
from tilewright.zoo.form import Weights
from tilewright.zoo.layers import (
    INPUT,
    Average,
    Concat,
    Conv,
    Dense,
    Layer,
    MaxPool,
    Network,
    Shuffle,
    Split,
)

CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
"""By width: those of the three stages and of the last convolution."""
BLOCKS = (4, 8, 4)


def shufflenet_v2(width: float = 1.0, weights: Weights | None = None, seed: int = 0) -> ModelProto:
    """The published network for 224x224 images; 1.0 has 146 M MACs and 2.28 M parameters.

    Args:
        width: 0.5, 1.0, 1.5 or 2.0.
        weights: by name, as `float_form.py` lists them; seeded ones if None.
        seed: of the weights; the same seed gives the same model.

    Returns:
        a float model of one input `data` (1, 3, 224, 224) and one output `fc` (1, 1000), before the softmax.

    Raises:
        ConfigError: another width, or weights that do not fit.
    """
    return build(network(width), None, weights, seed)


def network(width: float = 1.0) -> Network:
    """The layers. Raises ConfigError for a width that was not published."""
    if width not in CHANNELS:
        remedy = f"choose one of {', '.join(map(str, CHANNELS))}"
        raise ConfigError(Fault(f"there is no ShuffleNetV2 of width {width}", "width", remedy))
    *stages, head = CHANNELS[width]
    layers: list[Layer] = [Conv("conv1", INPUT, 24, 3, 2), MaxPool("pool1", "conv1", 3, 2, 1)]
    at, inputs = "pool1", 24
    for stage, (channels, blocks) in enumerate(zip(stages, BLOCKS, strict=True), 2):
        for block in range(1, blocks + 1):
            at = _block(layers, f"stage{stage}/block{block}", at, inputs, channels)
            inputs = channels
    layers += [Conv("conv5", at, head), Average("average", "conv5"), Dense("fc", "average", 1000)]
    return Network(f"shufflenet_v2_{width}", (3, 224, 224), tuple(layers))


def _block(layers: list[Layer], name: str, at: str, inputs: int, channels: int) -> str:
    """Append figure 3 c, or 3 d where the channels change: there the map is halved. Returns the block's result."""
    half, stride = channels // 2, 1 if inputs == channels else 2
    low = high = at
    if stride == 2:
        layers.append(Conv(f"{name}/bypass_depthwise", at, inputs, 3, 2, groups=inputs, relu=False))
        layers.append(Conv(f"{name}/bypass", f"{name}/bypass_depthwise", half))
        low = f"{name}/bypass"
    else:
        parts = Split(f"{name}/split", at)
        layers.append(parts)
        low, high = parts.low, parts.high
    layers.append(Conv(f"{name}/first", high, half))
    layers.append(Conv(f"{name}/depthwise", f"{name}/first", half, 3, stride, groups=half, relu=False))
    layers.append(Conv(f"{name}/last", f"{name}/depthwise", half))
    layers.append(Concat(f"{name}/concat", (low, f"{name}/last")))
    layers.append(Shuffle(f"{name}/shuffle", f"{name}/concat", 2))
    return f"{name}/shuffle"
