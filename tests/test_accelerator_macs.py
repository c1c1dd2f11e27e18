"""MACs on the accelerator, which compile counts from the decoded stream, against a count of the ONNX graph."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import tilewright as tw
from tests.cli.commands import DEMO, small_model
from tests.networks.macs import graph_macs, unread
from tilewright.codegen.macs import count_macs
from tilewright.frontend import load_onnx
from tilewright.targets.isa.codec import decode_stream
from tilewright.targets.isa.spec import Base, Load, Memory


def check(model: tw.Model, imported: onnx.ModelProto, target: str = "ultra96-w8") -> None:
    """The whole network is on the accelerator."""
    quantised = model if model.is_quantised else tw.quantize(model, "random:1")
    package = tw.compile(quantised, target)
    expected = graph_macs(imported)
    made = expected - unread(imported)
    assert expected >= made > 0
    assert package.report["accelerator_macs"] == made
    assert package.report["host_macs"] == 0
    assert tw.supported(quantised, target).accelerator_macs == expected
    assert sum(count_macs(r, package.overlay) for r in package.regions) == made


@pytest.mark.parametrize("target", ["ultra96-w8", "pynq-z1-w8"])
def test_demo(target: str) -> None:
    path = DEMO / "digits.onnx"
    check(tw.load(path), load_onnx(path), target)


def test_a_convolution_of_few_channels(tmp_path: Path) -> None:
    path = small_model(tmp_path / "net.onnx")
    check(tw.load(path), load_onnx(path))


NETS = {
    "resnet8": "mlperf_tiny/pretrainedResnet_fp32.onnx",
    "resnet8 QDQ": "mlperf_tiny/pretrainedResnet_quant_qdq.onnx",
    "vww": "mlperf_tiny/vww_96_float_fp32.onnx",
    "kws QDQ": "mlperf_tiny/kws_ref_model_qdq.onnx",
    "ad01": "mlperf_tiny/ad01_fp32_fp32.onnx",
    "mnist": "mnist/mnist.onnx",
}


@pytest.mark.parametrize("name", NETS)
def test_real_networks(shared_data: Path, name: str) -> None:
    path = shared_data / "onnx" / NETS[name]
    check(tw.load(path), load_onnx(path))


@pytest.mark.slow
@pytest.mark.parametrize(
    "files",
    [
        ("squeezenet_v1.1/deploy.prototxt", "squeezenet_v1.1/squeezenet_v1.1_fp16w.caffemodel"),
        ("cmsisnn_cifar10/cifar10_m7_deploy.prototxt", "cmsisnn_cifar10/cifar10_m7_float.caffemodel"),
        ("lenet_mnist/lenet_deploy.prototxt", "lenet_mnist/arm_lenet_iter_9000.caffemodel"),
    ],
    ids=lambda files: str(files[0]).split("/")[0],
)
def test_caffe_networks(shared_data: Path, files: tuple[str, str]) -> None:
    model = tw.load(*(shared_data / "caffe" / name for name in files))
    check(model, model.proto)


# Corruption.


@pytest.fixture(scope="module")
def demo() -> tw.Package:
    model = tw.load(DEMO / "digits.onnx", preprocess=tw.Preprocess(mean=128, std=128))
    return tw.compile(tw.quantize(model, DEMO / "digits_calibration.npz"))


def test_one_corrupted_weight_changes_the_output(demo: tw.Package, tmp_path: Path) -> None:
    """The checksum catches it; recomputed, the simulator computes with the wrong weight."""
    feeds = {"data": np.random.default_rng(7).uniform(-1, 1, (1, 1, 32, 32)).astype(np.float32)}
    expected = demo.run(feeds)["prob"]
    region = demo.regions[0]
    offset = first_weight(region.stream)
    found = np.frombuffer(region.constants, np.int8, 1, offset)[0]
    wrong = np.int8(-128 if found >= 0 else 127)

    data = demo.to_bytes()
    place = data.index(region.constants) + offset
    damaged = bytearray(data)
    damaged[place] = wrong.view(np.uint8)
    with pytest.raises(tw.TilewrightError, match=r"section region/0/constants: is damaged \(checksum\)"):
        tw.Package.from_bytes(bytes(damaged))

    repaired = tw.Package.from_bytes(with_checksums(bytes(damaged)))
    assert (repaired.run(feeds)["prob"] != expected).any()
    constants = region.constants[:offset] + wrong.tobytes() + region.constants[offset + 1 :]
    rebuilt = replace(demo, regions=(replace(region, constants=constants), *demo.regions[1:]))
    np.testing.assert_array_equal(repaired.run(feeds)["prob"], rebuilt.run(feeds)["prob"])
    np.testing.assert_array_equal(demo.run(feeds)["prob"], expected)


def first_weight(stream: bytes) -> int:
    """Offset in the constants of the first weight that the stream loads."""
    loads = (i for i in decode_stream(stream) if isinstance(i, Load))
    return next(i.dram_offset for i in loads if i.memory == Memory.WGT and i.base == Base.CONSTANT)


def with_checksums(data: bytes) -> bytes:
    """The file with the checksums of its sections and of its table computed again, from the format's definition."""
    (count,) = struct.unpack_from("<I", data, 12)
    table = bytearray(data[56 : 56 + 80 * count])
    for i in range(count):
        offset, size = struct.unpack_from("<QQ", table, 80 * i + 32)
        table[80 * i + 48 : 80 * i + 80] = hashlib.sha256(data[offset : offset + size]).digest()
    head = data[:24]
    return head + hashlib.sha256(head + bytes(table)).digest() + bytes(table) + data[56 + 80 * count :]
