"""Mean files, written byte by byte from the wire format, and Caffe's own."""

from __future__ import annotations

import contextlib
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.errors import ConfigError
from tilewright.frontend.mean import MeanMap, read_mean
from tilewright.frontend.preprocess import Preprocess


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _blob(sizes: tuple[int, ...], values: list[float], *, legacy: bool = True, packed: bool = True) -> bytes:
    """Fields 1..4 num, channels, height, width; 5 data; 7 shape."""
    if legacy:
        head = b"".join(_varint(number << 3) + _varint(size) for number, size in enumerate(sizes, start=1))
    else:
        dims = b"".join(_varint(size) for size in sizes)
        inner = b"\x0a" + _varint(len(dims)) + dims
        head = b"\x3a" + _varint(len(inner)) + inner
    if not packed:
        return head + b"".join(b"\x2d" + struct.pack("<f", value) for value in values)
    data = struct.pack(f"<{len(values)}f", *values)
    return head + b"\x2a" + _varint(len(data)) + data


SIGNALLING = _blob((1, 1, 1, 1), [])[:-2] + b"\x2a\x04" + b"\x01\x00\x80\x7f"
"""A NaN at which a processor raises its flag when it is converted."""
TOO_LARGE = _blob((1, 1, 1, 1), [])[:-2] + b"\x42\x08" + struct.pack("<d", 1e300)
"""`double_data` that float32 does not hold."""


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("sizes", "legacy"), [((1, 3, 4, 5), True), ((3, 4, 5), False), ((1, 3, 4, 5), False)]
)
def test_all_ways_of_writing_one(tmp_path: Path, sizes: tuple[int, ...], legacy: bool, packed: bool) -> None:
    values = np.arange(60, dtype=np.float32) * 1.5
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(_blob(sizes, values.tolist(), legacy=legacy, packed=packed))
    found = read_mean(path)
    assert found.dtype == np.float32
    assert np.array_equal(found, values.reshape(3, 4, 5))
    assert Preprocess.parse(mean=str(path)).mean == MeanMap.of(values.reshape(3, 4, 5))
    assert Preprocess(mean=path) == Preprocess.parse(mean=str(path))


def test_one_value_a_channel(tmp_path: Path) -> None:
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(_blob((3,), [104.0, 117.0, 123.0], legacy=False))
    assert Preprocess.parse(mean=str(path)).mean == (104.0, 117.0, 123.0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected one mean of channels x height x width, found sizes 0x0x0; give a *.binaryproto file"),
        (b"\xff\xff", "is not a Caffe BlobProto; give a *.binaryproto file"),
        (_blob((1, 3, 2, 2), [1.0] * 11), "expected 3x2x2 values, found 11; is it complete?"),
        (
            _blob((2, 3, 1, 1), [1.0] * 6),
            "expected one mean of channels x height x width, found sizes 2x3x1x1; ",
        ),
        (_blob((1, 1, 1, 2), [1.0, float("nan")]), "expected finite values, found 1 NaN or Inf"),
        (SIGNALLING, "expected finite values, found 1 NaN or Inf"),
        (TOO_LARGE, "expected finite values, found 1 NaN or Inf"),
    ],
)
def test_damaged_files(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=re.escape(f"mean.binaryproto: {message}")):
        Preprocess.parse(mean=str(path))


def test_missing_file_and_other_faults_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Preprocess.parse(crop="x", mean=str(tmp_path / "none.binaryproto"))
    crop, mean = caught.value.faults
    assert str(crop) == "crop: expected a number of pixels such as 227, found 'x'"
    assert mean.message == "cannot be read (No such file or directory)"


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.binary(max_size=80))
def test_random_bytes_are_a_mean_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "random.binaryproto"
    path.write_bytes(data)
    with contextlib.suppress(ConfigError):
        assert read_mean(path).ndim == 3


def test_caffes_own(shared_data: Path) -> None:
    mean = read_mean(shared_data / "caffe" / "cifar10_full" / "mean.binaryproto")
    assert mean.shape == (3, 32, 32)
    # CIFAR-10's published channel means are 125.3, 123.0, 113.9, red first.
    assert np.allclose(mean.mean(axis=(1, 2)), [125.3, 123.0, 113.9], atol=0.4)
