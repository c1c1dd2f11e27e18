"""Preprocessing against formulas written out, Pillow called directly, and text of messages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tilewright.errors import ConfigError, DataError
from tilewright.frontend.mean import MeanMap
from tilewright.frontend.preprocess import Preprocess

RNG = np.random.default_rng(1)
COLOUR = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (28, 28), dtype=np.uint8)


def test_nothing_said_resizes_to_the_input_and_keeps_the_values() -> None:
    found = Preprocess().apply(COLOUR, (1, 3, 24, 16))
    expected = np.asarray(Image.fromarray(COLOUR).resize((16, 24), Image.Resampling.BILINEAR))
    assert found.dtype == np.float32
    assert np.array_equal(found, expected.transpose(2, 0, 1)[np.newaxis].astype(np.float32))


def test_mean_and_std_are_in_the_networks_channel_order() -> None:
    settings = Preprocess(channels="bgr", mean=(104, 117, 123), std=(1, 2, 4))
    found = settings.apply(COLOUR, (1, 3, 40, 60))[0]
    red, green, blue = (COLOUR[:, :, c].astype(np.float32) for c in range(3))
    assert np.array_equal(found, np.stack([blue - 104, (green - 117) / 2, (red - 123) / 4]))


def test_shorter_side_then_centred_crop() -> None:
    found = Preprocess(resize=20, crop=16).apply(COLOUR, (1, 3, 16, 16))[0]
    resized = np.asarray(Image.fromarray(COLOUR).resize((30, 20), Image.Resampling.BILINEAR))
    assert np.array_equal(found, resized[2:18, 7:23].transpose(2, 0, 1).astype(np.float32))


def test_resize_to_height_and_width() -> None:
    found = Preprocess(resize=(12, 10)).apply(COLOUR, (1, 3, 12, 10))
    assert np.array_equal(found, Preprocess().apply(COLOUR, (1, 3, 12, 10)))


def test_a_file_an_image_and_an_array_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(COLOUR).save(path)
    settings, shape = Preprocess(resize=20, crop=16, mean=3.0), (1, 3, 16, 16)
    from_array = settings.apply(COLOUR, shape)
    assert np.array_equal(settings.apply(path, shape), from_array)
    assert np.array_equal(settings.apply(str(path), shape), from_array)
    assert np.array_equal(settings.apply(Image.open(path), shape), from_array)


def test_scale_of_lenet_is_a_std() -> None:
    assert np.array_equal(
        Preprocess(std=256).apply(GRAY, (1, 1, 28, 28))[0, 0], GRAY.astype(np.float32) / 256
    )


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32, np.float64])
def test_stored_values_of_any_type_are_taken_as_they_are(dtype: type[np.generic]) -> None:
    stored = RNG.integers(-128, 128, (49, 10, 1)).astype(dtype)
    found = Preprocess(mean=83, std=1.7103).apply(stored, (1, 1, 49, 10))
    expected = (stored[:, :, 0].astype(np.float32) - np.float32(83)) / np.float32(1.7103)
    assert np.array_equal(found[0, 0], expected)


def test_resizing_other_types_agrees_with_resizing_bytes() -> None:
    shape = (1, 3, 13, 17)
    as_bytes = Preprocess(resize=(13, 17)).apply(COLOUR, shape)
    as_floats = Preprocess(resize=(13, 17)).apply(COLOUR.astype(np.float32), shape)
    # Pillow rounds bytes after each of its two directions: half a step each.
    assert np.abs(as_bytes - as_floats).max() <= 1.01


def test_gray_and_colour_are_converted_if_said_or_if_a_file() -> None:
    luma = np.asarray(Image.fromarray(COLOUR).convert("L"), np.float32)
    assert np.array_equal(Preprocess(channels="gray").apply(COLOUR, (1, 1, 40, 60))[0, 0], luma)
    assert np.array_equal(Preprocess().apply(Image.fromarray(COLOUR), (1, 1, 40, 60))[0, 0], luma)
    three = Preprocess(channels="rgb").apply(GRAY, (1, 3, 28, 28))[0]
    assert np.array_equal(three, np.stack([GRAY.astype(np.float32)] * 3))


def test_alpha_is_dropped_and_palettes_are_colours() -> None:
    alpha = Image.fromarray(np.dstack([COLOUR, np.full((40, 60), 7, np.uint8)]))
    expected = Preprocess().apply(COLOUR, (1, 3, 40, 60))
    assert np.array_equal(Preprocess().apply(alpha, (1, 3, 40, 60)), expected)
    palette = Image.fromarray(COLOUR).quantize(16)
    of_palette = np.asarray(palette.convert("RGB"), np.float32).transpose(2, 0, 1)
    assert np.array_equal(Preprocess().apply(palette, (1, 3, 40, 60))[0], of_palette)


def test_mean_map_of_the_inputs_size_and_of_the_resized_images() -> None:
    small = RNG.normal(100, 20, (3, 16, 16)).astype(np.float32)
    large = np.pad(small, ((0, 0), (2, 2), (2, 2)), constant_values=9.0)
    plain = Preprocess(resize=20, crop=16).apply(COLOUR, (1, 3, 16, 16))
    for mean in (small, large):
        found = Preprocess(resize=20, crop=16, mean=MeanMap.of(mean)).apply(COLOUR, (1, 3, 16, 16))
        assert np.array_equal(found[0], plain[0] - small)


def test_inputs_that_are_no_images() -> None:
    values = RNG.normal(size=640)
    found = Preprocess(mean=1, std=2).apply(values, (1, 640))
    assert np.array_equal(found[0], ((values.astype(np.float32) - 1) / 2).astype(np.float32))
    with pytest.raises(DataError, match=r"^expected an array of shape 640, found shape 4x4$"):
        Preprocess().apply(np.zeros((4, 4)), (1, 640))


SETTINGS = st.builds(
    Preprocess,
    resize=st.none() | st.integers(64, 512) | st.tuples(st.integers(64, 512), st.integers(64, 512)),
    crop=st.none() | st.integers(1, 64),
    channels=st.sampled_from([None, "bgr", "rgb", "gray"]),
    mean=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=4)
    | st.integers(1, 4).map(lambda n: np.arange(2 * n * n, dtype=np.float32).reshape(2, n, n)),
    std=st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=4),
)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(SETTINGS)
def test_json_round_trip(settings: Preprocess) -> None:
    again = Preprocess.from_json(settings.to_json())
    assert again == settings
    assert hash(again) == hash(settings)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["resize", "crop", "channels", "mean", "std"])


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.dictionaries(KEYS, JSON_VALUES, max_size=5) | JSON_VALUES)
def test_any_json_is_settings_or_a_config_error(value: object) -> None:
    try:
        settings = Preprocess.from_json(json.dumps(value))
    except ConfigError:
        return
    assert Preprocess.from_json(settings.to_json()) == settings


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.fixed_dictionaries({}, optional={k: st.text("0123456789.,x-enagbrf ", max_size=9) for k in
       ("resize", "crop", "channels", "mean", "std")}))  # fmt: skip
def test_any_options_are_settings_or_a_config_error(options: dict[str, Any]) -> None:
    try:
        Preprocess.parse(**options)
    except ConfigError as error:
        assert {fault.where for fault in error.faults} <= set(options)


def test_options_of_squeezenet() -> None:
    parsed = Preprocess.parse(resize="256", crop="227", channels="bgr", mean="104,117,123")
    assert parsed == Preprocess(256, 227, "bgr", (104.0, 117.0, 123.0))
    assert Preprocess.parse(resize="120x96", std="255") == Preprocess(resize=(120, 96), std=(255.0,))
    assert Preprocess.parse().is_default


def test_all_wrong_options_are_listed_together() -> None:
    with pytest.raises(ConfigError) as caught:
        Preprocess.parse(resize="big", crop="-3", channels="yuv", mean="mean.txt", std="1,0,2")
    assert str(caught.value).splitlines() == [
        "resize: expected a length such as 256 or HEIGHTxWIDTH such as 120x96, found 'big'",
        "crop: expected a number of pixels such as 227, found '-3'",
        "mean: expected numbers such as 104,117,123 or a .binaryproto file, found 'mean.txt'",
        "channels: expected bgr, rgb or gray, found 'yuv'",
        "std: expected values above 0, found 1,0,2",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resize": 0}, "resize: expected 1 to 16384 pixels, found 0"),
        ({"resize": (8, 99999)}, "resize: expected 1 to 16384 pixels, found 99999"),
        ({"resize": (1, 2, 3)}, "resize: expected a length or (height, width), found (1, 2, 3)"),
        ({"crop": True}, "crop: expected 1 to 16384 pixels, found True"),
        (
            {"resize": 200, "crop": 227},
            "crop: 227 pixels do not fit the resized image, whose shorter side is 200; "
            "give a larger resize or a smaller crop",
        ),
        ({"mean": (1.0, float("nan"))}, "mean: expected finite numbers, found 1,nan"),
        ({"mean": ()}, "mean: expected finite numbers, found none"),
        ({"mean": None}, "mean: expected numbers, found None"),
        ({"std": ("1",)}, "std: expected numbers, found ('1',)"),
        ({"std": 0}, "std: expected values above 0, found 0"),
        ({"mean": MeanMap((3, 2, 2), b"1234")}, "mean: expected 4 bytes for each of 3x2x2 values, found 4"),
        ({"mean": np.full((1, 2, 2), np.inf)}, "mean: expected finite numbers, found NaN or Inf in the map"),
    ],
)
def test_wrong_settings(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Preprocess(**arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "preprocessing: is not JSON (Expecting property name"),
        ("[1]", "preprocessing: expected an object, found [1]"),
        ('{"scale": 1}', "preprocessing: unknown setting scale; known are resize, crop, channels, mean, std"),
        (
            '{"mean": {"shape": [1, 2, 2]}}',
            "preprocessing: expected a mean map of 'shape' (C, H, W) and 'float32' (base64)",
        ),
    ],
)
def test_wrong_json(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        Preprocess.from_json(text)


@pytest.mark.parametrize(
    ("arguments", "shape", "message"),
    [
        (
            {"resize": 256},
            (1, 3, 227, 227),
            "resize: a shorter side of 256 is not that of the network's input of 227x227; add --crop 227",
        ),
        (
            {"resize": (256, 256)},
            (1, 3, 227, 227),
            "resize: 256x256 is not the network's input of 227x227; give --resize 227x227, or a --crop",
        ),
        (
            {"crop": 224},
            (1, 3, 227, 227),
            "crop: a crop of 224x224 is not the network's input of 227x227; give --crop 227",
        ),
        (
            {"crop": 32},
            (1, 1, 32, 30),
            "crop: a crop of 32x32 is not the network's input of 32x30; give --resize 32x30 and no crop",
        ),
        ({"channels": "bgr"}, (1, 1, 28, 28), "channels: bgr makes 3, the network takes 1"),
        ({"mean": (1, 2, 3)}, (1, 1, 28, 28), "mean: expected values for 1 channels, found 3"),
        ({"mean": np.ones((1, 8, 8))}, (1, 3, 8, 8), "mean: expected values for 3 channels, found 1"),
        ({"std": (1, 2)}, (1, 3, 28, 28), "std: expected values for 1 or 3 channels, found 2"),
        (
            {"mean": np.full((3, 256, 256), 5.5)},
            (1, 3, 227, 227),
            "mean: the map of 256x256 fits neither the network's input of 227x227 nor what is cropped to it; "
            "give one value a channel: --mean 5.5,5.5,5.5",
        ),
        ({"resize": 8}, (1, 640), "resize: the input has shape 1x640 and is no image"),
    ],
)
def test_settings_that_never_fit_the_network(
    arguments: dict[str, Any], shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Preprocess(**arguments).check(shape)


@pytest.mark.parametrize(
    ("settings", "image", "shape", "message"),
    [
        (
            Preprocess(resize=16),
            COLOUR,
            (1, 3, 16, 16),
            "expected an image of 16x16, found 40x60, resized to 16x24; "
            "give --resize 16x16, or --resize N and --crop N",
        ),
        (
            Preprocess(crop=50),
            COLOUR,
            (1, 3, 50, 50),
            "expected at least 50x50 to crop from, found 40x60; give a --resize",
        ),
        (
            Preprocess(),
            COLOUR.astype(np.float32),
            (1, 3, 16, 16),
            "expected float32 values of 16x16, found 40x60; give --resize 16x16 if they may be resized",
        ),
        (
            Preprocess(),
            GRAY,
            (1, 3, 28, 28),
            "expected 3 channels, found 1 (shape 28x28x1); "
            "give --channels to convert between gray and colour",
        ),
        (Preprocess(), np.zeros((4, 4, 2)), (1, 3, 4, 4), "expected 3 channels, found 2 (shape 4x4x2)"),
        (
            Preprocess(channels="gray"),
            COLOUR.astype(np.int8),
            (1, 1, 40, 60),
            "expected uint8 to convert from colour to gray, found int8",
        ),
        (
            Preprocess(),
            np.zeros((1, 2, 3, 4)),
            (1, 3, 4, 4),
            "expected an image of shape height x width x channels, found 1x2x3x4",
        ),
        (Preprocess(), np.array([["a"]]), (1, 1, 1, 1), "expected integers or floats, found <U1"),
        (Preprocess(), np.full((2, 2), np.nan), (1, 1, 2, 2), "expected finite values, found 4 NaN or Inf"),
        (
            Preprocess(std=1e-37),
            np.full((2, 2), 255.0),
            (1, 1, 2, 2),
            "expected values that float32 can hold after subtracting mean and dividing by std",
        ),
        (
            Preprocess(),
            Image.fromarray(np.zeros((4, 4), np.uint16)),
            (1, 1, 4, 4),
            "expected 8 bits a channel, found Pillow mode I;16; convert it to 8 bits, or give an NPY",
        ),
        (
            Preprocess(resize=4096, crop=4),
            np.zeros((1, 3000), np.uint8),
            (1, 1, 4, 4),
            "an image of 1x3000 would become 4096x12288000: too long for its shorter side",
        ),
    ],
)
def test_images_that_do_not_fit(
    settings: Preprocess, image: Any, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(message)}"):
        settings.apply(image, shape)


def test_files_that_are_no_images(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(COLOUR).save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"not an image", whole[: len(whole) // 2], whole[:40]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.png: cannot be read as an image \("):
            Preprocess().apply(path, (1, 3, 8, 8))
    with pytest.raises(DataError, match=r"none\.png: cannot be read as an image \("):
        Preprocess().apply(tmp_path / "none.png", (1, 3, 8, 8))
