"""Well-known architectures with seeded weights, from prototxts and built, and the zoo that speed is judged on.

They are apart from `networks.NETWORKS` because nothing is claimed about their answers: time depends on no value.
"""

from __future__ import annotations

from tilewright.benchmark.networks import BOTH, NETWORKS, Network
from tilewright.zoo import LIGHT_MODELS

LOW = ("ultra96-w4", "ultra96-w4x")


def _prototxt(name: str, file: str, macs: float) -> Network:
    return Network(name, (f"caffe/prototxt_only/{file}.prototxt",), macs, "other", overlays=BOTH)


def _dirac(name: str) -> Network:
    return Network(name, (name,), 317, "other", overlays=LOW, quantised=True, bits=4)


ARCHITECTURES: dict[str, Network] = {
    n.name: n
    for n in (
        _prototxt("squeezenet_v1.0", "squeezenet_v1.0_deploy", 861),
        _prototxt("googlenet", "bvlc_googlenet.deploy", 1711),
        _prototxt("resnet50_caffe", "ResNet-50-deploy", 3858),
        _prototxt("densenet121_caffe", "DenseNet_121", 2845),
        _prototxt("mobilenet_v1_caffe", "mobilenet_v1_deploy", 569),
        _prototxt("mobilenet_v2_caffe", "mobilenet_v2_deploy", 429),
        _prototxt("shufflenet_v1_caffe", "shufflenet_v1_1x_g3_deploy", 127),
        _prototxt("shufflenet_v2_caffe", "shufflenet_v2_x1.0_miaow", 145),
        Network("shufflenet_v2", ("shufflenet_v2",), 145, "other", overlays=BOTH),
        _dirac("diracdeltanet_w4"),
        _prototxt("vgg16", "vgg16", 15470),
        _prototxt("fcn_alexnet", "fcn_alexnet", 21803),
        _prototxt("ssd300", "ssd300_vgg16", 31400),
    )
}
"""By name; the millions of MACs are those that `tilewright compile` counts."""

STUDIES: dict[str, Network] = {n.name: n for n in (_dirac("diracdeltanet_w4_no_shift"),)}
"""Networks to compare others with, by name."""

ALL: dict[str, Network] = {**NETWORKS, **ARCHITECTURES, **STUDIES}
"""Every network that a benchmark of speed knows."""

ZOO: tuple[str, ...] = (
    *(f"light_{name}" for name in LIGHT_MODELS),
    "squeezenet_v1.1",
    *ARCHITECTURES,
    "resnet8_qdq",
    "kws_qdq",
    "vww_qdq",
    "ad01_qdq",
    "mobilenet_v2",
    "mobilenet_v1_0.25_qdq",
)
"""The networks that speed is judged on; those that come quantised keep their own scales."""
