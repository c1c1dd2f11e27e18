"""Caffemodels: written, read back, in every published wire form, and damaged."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest

from tilewright.errors import FaultList, ModelError
from tilewright.frontend.caffe import read_caffe, read_caffemodel, write_caffemodel
from tilewright.frontend.caffe.random_weights import RandomWeights, weight_gains
from tilewright.frontend.caffe.records import to_record
from tilewright.frontend.caffe.text import parse_text
from tilewright.frontend.caffe.weights import BlobSpec

from .nets import header, layer, noise

BLOBS = {
    "conv": [noise((4, 3, 3, 2)), noise((4,), 1)],
    "scale": [noise((), 2)],
    "five": [noise((1, 2, 1, 2, 3), 3)],
}


def chunk(number: int, payload: bytes) -> bytes:
    """A length-delimited field of the protobuf wire format."""

    def varint(value: int) -> bytes:
        out = b""
        while value > 127:
            out, value = out + bytes([value & 127 | 128]), value >> 7
        return out + bytes([value])

    return varint(number << 3 | 2) + varint(len(payload)) + payload


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    write_caffemodel(path, BLOBS)
    found = read_caffemodel(path)
    assert list(found) == list(BLOBS)
    for name, arrays in BLOBS.items():
        for ours, theirs in zip(found[name], arrays, strict=True):
            assert ours.dtype == np.float32
            assert ours.shape == theirs.shape
            assert np.array_equal(ours, theirs)


def test_legacy_round_trip_has_four_dimensions(tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    write_caffemodel(path, {"fc": [noise((5, 7)), noise((5,))]}, legacy=True)
    assert [a.shape for a in read_caffemodel(path)["fc"]] == [(1, 1, 5, 7), (1, 1, 1, 5)]
    with pytest.raises(ModelError, match=re.escape("shape (1, 2, 1, 2, 3) has more than four dimensions")):
        write_caffemodel(path, BLOBS, legacy=True)


def test_every_wire_form_of_values(tmp_path: Path) -> None:
    """Packed at once, packed in two runs, one by one, and doubles: the same blob, by the protobuf encoding
    guide.
    """
    values = [1.5, -2.25, 3.0]
    shape = chunk(7, chunk(1, b"\3"))
    forms = {
        "packed": chunk(5, struct.pack("<3f", *values)),
        "runs": chunk(5, struct.pack("<2f", *values[:2])) + chunk(5, struct.pack("<f", values[2])),
        "single": b"".join(b"\x2d" + struct.pack("<f", v) for v in values),
        "double": chunk(8, struct.pack("<3d", *values)),
        "single_double": b"".join(b"\x41" + struct.pack("<d", v) for v in values),
    }
    path = tmp_path / "w.caffemodel"
    for number, blob_number, name_number in ((100, 7, 1), (2, 6, 4)):  # today's form and V1
        layers = [
            chunk(number, chunk(name_number, n.encode()) + chunk(blob_number, shape + f))
            for n, f in forms.items()
        ]
        path.write_bytes(b"".join(layers))
        assert {n: [a.tolist() for a in arrays] for n, arrays in read_caffemodel(path).items()} == {
            n: [values] for n in forms
        }


def test_v0_layers(tmp_path: Path) -> None:
    blob = chunk(7, chunk(1, b"\1")) + chunk(5, struct.pack("<f", 4.0))
    path = tmp_path / "w.caffemodel"
    path.write_bytes(chunk(2, chunk(1, chunk(1, b"conv1") + chunk(50, blob))))
    assert read_caffemodel(path)["conv1"][0].tolist() == [4.0]


def test_legacy_weights_fit_todays_layers(tmp_path: Path) -> None:
    text = header(x=(1, 3, 4, 4))
    text += layer("Convolution", "convolution_param { num_output: 2 kernel_size: 3 }", name="c")
    text += layer("InnerProduct", "inner_product_param { num_output: 5 }", ["c"])
    path, weights = tmp_path / "n.prototxt", tmp_path / "w.caffemodel"
    path.write_text(text, encoding="utf-8")
    net = read_caffe(path, 1)
    write_caffemodel(weights, net.blobs, legacy=True)
    again = read_caffe(path, weights)
    assert again.model == net.model
    assert [b.shape for b in again.blobs["y"]] == [(5, 8), (5,)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file holds no weights; give the caffemodel that training wrote"),
        (b"\x89HDF\r\n\x1a\n", "HDF5 weights are not read; snapshot as BINARYPROTO (.caffemodel)"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            "this is a Git LFS pointer and not the file; fetch it with `git lfs pull`",
        ),
        (
            b"\xff" * 40,
            "expected a caffemodel, found bytes that do not decode; the file is cut short or no caffemodel",
        ),
        (
            b"name: 'a prototxt'\nlayer { }\n",
            "expected a caffemodel, found bytes that do not decode; the file is cut short or no caffemodel",
        ),
        (
            chunk(100, chunk(1, b"c") + chunk(7, chunk(5, b"abc"))),
            "3 bytes of data are no whole number of values",
        ),
        (
            chunk(100, chunk(1, b"c") + chunk(7, chunk(7, chunk(1, b"\5")) + chunk(5, bytes(12)))),
            "shape (5,) needs 5 values, found 3; the file is damaged",
        ),
        (
            chunk(
                100, chunk(1, b"c") + chunk(7, chunk(7, chunk(1, b"\xff" * 9 + b"\1")) + chunk(5, bytes(4)))
            ),
            "shape (-1,) needs -1 values, found 1; the file is damaged",
        ),
    ],
)
def test_damaged_files(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "w.caffemodel"
    path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        read_caffemodel(path)
    (fault,) = caught.value.faults
    assert fault.where.startswith(str(path))
    assert str(fault).removeprefix(fault.where + ": ") == message


def test_cut_short_at_every_length(tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    write_caffemodel(path, {"a": [noise((3,))], "b": [noise((2, 2))]})
    whole = path.read_bytes()
    complete = 0
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            complete += list(read_caffemodel(path)) == [
                "a"
            ]  # cut exactly between two layers: a valid shorter file
        except ModelError:
            continue
    assert complete == 1


def test_missing_folder_and_target(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file; give the path of a caffemodel"):
        read_caffemodel(tmp_path / "none")
    with pytest.raises(ModelError, match="expected a file, found a folder; name a caffemodel in it"):
        read_caffemodel(tmp_path)
    with pytest.raises(ModelError, match="cannot be written"):
        write_caffemodel(tmp_path / "no" / "folder", BLOBS)


def test_gain_follows_from_what_comes_next() -> None:
    text = (
        layer("Convolution", name="a") + layer("BatchNorm", "", ["a"], "bn") + layer("PReLU", "", ["bn"], "r")
    )
    text += (
        layer("Convolution", "", ["r"], "b")
        + layer("Scale", "", ["b"], "s")
        + layer("Eltwise", "", ["s", "r"], "e")
    )
    text += layer("InnerProduct", "", ["e"], "fc")
    faults = FaultList()
    net = to_record(parse_text(text), "NetParameter", faults, "net")
    gains = weight_gains(net.children("layer"))
    assert (gains["a"], gains["b"], gains["fc"]) == (2**0.5, 0.5, 1.0)


def test_random_weights_are_reproducible_and_of_order_one() -> None:
    specs = [BlobSpec("weight", (64, 32, 3, 3)), BlobSpec("bias", (64,))]
    source = RandomWeights(5)
    first, second, other = (
        source.blobs("a", specs),
        RandomWeights(5).blobs("a", specs),
        source.blobs("b", specs),
    )
    assert first is not None and second is not None and other is not None
    assert all(np.array_equal(x, y) for x, y in zip(first, second, strict=True))
    assert not np.array_equal(first[0], other[0])
    # 18432 samples: the deviation is known to 1 / sqrt(2 * 18432) = 0.5 %.
    assert float(first[0].std()) == pytest.approx((2 / 288) ** 0.5, rel=0.03)
    (variance, factor) = source.blobs("c", [BlobSpec("variance", (1000,)), BlobSpec("factor", (1,))]) or []
    assert 0.5 <= variance.min() < 0.52 and 1.48 < variance.max() <= 1.5
    assert factor.tolist() == [1.0]
