"""The cascade's geometry, with networks that say what they are told; the real ones are in test_faces.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tilewright.errors import ConfigError, DataError
from tilewright.frontend.preprocess import Preprocess
from tilewright.vision import Pipeline
from tilewright.vision.mtcnn import (
    OUTPUT,
    REFINE,
    Cascade,
    Outputs,
    Packages,
    Runner,
    Settings,
    cascade_stages,
)

Array = np.ndarray[Any, Any]
FRAME = (96, 144)
SMALLEST = 24.0  # the first level is half of the frame: 48 x 72


def _settings(transposed: bool = True) -> Settings:
    return Settings(FRAME, SMALLEST, 0.5, preprocess=Preprocess(), transposed=transposed)


def _pnet(level: tuple[int, int], faces: Sequence[tuple[int, int, float, Array]], transposed: bool) -> Runner:
    """Of a level: faces are x and y of the cell, the score, and offsets."""
    rows, columns = ((side - 12) // 2 + 1 for side in level)
    scores, offsets = np.zeros((2, rows, columns), np.float32), np.zeros((4, rows, columns), np.float32)
    for x, y, score, moved in faces:
        scores[1, y, x] = score
        offsets[:, y, x] = moved

    def run(inputs: Sequence[Array]) -> list[Outputs]:
        assert [i.shape for i in inputs] == [(1, 3, *(reversed(level) if transposed else level))]
        maps = [m.transpose(0, 2, 1) if transposed else m for m in (scores, offsets)]
        return [{"conv4-2": maps[1][None], "prob1": maps[0][None]}]

    return run


def _judge(scores: Sequence[float], seen: list[Array], landmarks: bool = False) -> Runner:
    """RNet or ONet: scores of the crops in turn, no offsets."""

    def run(inputs: Sequence[Array]) -> list[Outputs]:
        seen.extend(inputs)
        found: list[Outputs] = []
        for score in scores[: len(inputs)]:
            outputs: dict[str, Array] = {
                "offsets": np.zeros((1, 4), np.float32),
                "prob1": np.array([[1 - score, score]], np.float32),
            }
            if landmarks:
                outputs["points"] = np.array([[0.2, 0.8, 0.5, 0.3, 0.7, 0.4, 0.4, 0.6, 0.8, 0.9]], np.float32)
            found.append(outputs)
        return found

    return run


def _cascade(transposed: bool, seen: list[Array], refined: Sequence[float] = (0.95, 0.9)) -> Cascade:
    settings = _settings(transposed)
    first, second = settings.levels[:2]
    none = np.zeros(4)
    pnet = [
        _pnet(first, [(10, 5, 0.9, none), (11, 5, 0.7, none), (3, 12, 0.5, none)], transposed),
        # Half of the window's width to the right: corners move by 0.5.
        _pnet(second, [(5, 3, 0.8, np.array([0.5, 0, 0.5, 0]))], transposed),
        *(_pnet(level, [], transposed) for level in settings.levels[2:]),
    ]
    return Cascade(tuple(pnet), _judge(refined, seen), _judge((0.9, 0.8), seen, True), settings)


def _ramp(width: int, height: int) -> Image.Image:
    """Red is the column and green the row."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, :, 0], pixels[:, :, 1] = np.arange(width), np.arange(height)[:, None]
    return Image.fromarray(pixels)


@pytest.mark.parametrize("transposed", [True, False])
def test_boxes_and_landmarks_in_the_image(transposed: bool) -> None:
    """The image is half of the frame: cell x covers 2x..2x+12 of the level, twice that of the frame, once of the image."""
    seen: list[Array] = []
    cascade = _cascade(transposed, seen)
    assert cascade.settings.levels == ((48, 72), (24, 36), (12, 18))
    image = _ramp(72, 48)
    found = cascade.detect(image)
    # The second cell is suppressed by the first, the third is below 0.6. Level two: twice as large.
    wanted = np.array([[20.0, 10, 32, 22], [20 + 12, 12, 44 + 12, 36]])
    assert np.abs(found.boxes - wanted).max() < 1e-9
    assert found.scores.tolist() == [np.float32(0.9), np.float32(0.8)]
    x, y = [0.2, 0.8, 0.5, 0.3, 0.7], [0.4, 0.4, 0.6, 0.8, 0.9]
    for box, points in zip(wanted, found.landmarks, strict=True):
        side = box[2] - box[0]
        assert (
            np.abs(points - np.stack([box[0] + side * np.array(x), box[1] + side * np.array(y)], 1)).max()
            < 1e-5
        )
    assert [s.shape for s in seen] == [(1, 3, side, side) for side in (REFINE, REFINE, OUTPUT, OUTPUT)]
    for crop, box in zip(seen, [*wanted, *wanted], strict=True):
        planes = crop[0].transpose(0, 2, 1) if transposed else crop[0]
        side = planes.shape[1]
        centres = (np.arange(side) + 0.5) / side * (box[2] - box[0]) - 0.5
        inner = slice(side // 4, -side // 4)
        # The ramp is linear and stays so when it is stretched; values are rounded.
        assert np.abs(planes[0] - (box[0] + centres))[inner, inner].max() <= 0.51
        assert np.abs(planes[1] - (box[1] + centres)[:, None])[inner, inner].max() <= 0.51


def test_nothing_found_goes_through_all_steps() -> None:
    settings = _settings()
    pnet = tuple(_pnet(level, [], True) for level in settings.levels)
    seen: list[Array] = []
    found = Cascade(pnet, _judge((), seen), _judge((), seen, True), settings).detect(_ramp(30, 60))
    assert (len(found), found.landmarks.shape, seen) == (0, (0, 5, 2), [])
    nobody = _cascade(True, seen, refined=(0.1, 0.7)).detect(_ramp(72, 48))
    assert len(nobody) == 0, "a score of 0.7 is not above 0.7"


def test_stages_do_what_the_steps_do() -> None:
    images = [_ramp(72, 48), _ramp(144, 90).convert("L"), _ramp(20, 96)]
    cascade = _cascade(True, [])
    frames = list(Pipeline(cascade_stages(cascade)).run(images))
    for frame, image in zip(frames, images, strict=True):
        wanted = cascade.detect(image)
        assert np.array_equal(frame.value.boxes, wanted.boxes)
        assert np.array_equal(frame.value.landmarks, wanted.landmarks)
        assert frame.picture is not None and frame.picture.size == image.size


def test_pyramid_is_the_image_at_each_size() -> None:
    cascade = _cascade(True, [])
    image = _ramp(144, 48)  # fills the width of the frame and half of its height
    for level, (rows, columns) in zip(cascade.pyramid(image), cascade.settings.levels, strict=True):
        planes = level[0].transpose(0, 2, 1)
        assert planes.shape == (3, rows, columns)
        filled = rows // 2
        centres = (np.arange(columns) + 0.5) * 144 / columns - 0.5
        assert np.abs(planes[0, filled // 2] - centres)[1:-1].max() <= 0.51
        assert not planes[:, filled + 1 :].any()


def test_levels_of_the_pyramid() -> None:
    settings = Settings((480, 640), 40, 0.709)
    assert settings.levels[0] == (144, 192)
    for (a, _), (b, _) in zip(settings.levels, settings.levels[1:], strict=False):
        assert abs(b - 0.709 * a) <= 1
    last = settings.levels[-1]
    assert min(last) >= 12 and math.ceil(min(last) * 0.709) < 13
    assert Settings((12, 12), 12).levels == ((12, 12),)


def test_settings_that_are_wrong_are_told_together() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings((100, 100), 5, 1.0, (0.5, 0.5, 2.0), 0)
    assert str(caught.value) == (
        "smallest: expected 12 to 100 pixels, found 5\n"
        "factor: expected 0.1 to 0.95, found 1\n"
        "scores: expected three values of 0 to 1, found (0.5, 0.5, 2.0)\n"
        "most: expected at least 1 box, found 0"
    )
    with pytest.raises(
        ConfigError, match=r"frame: expected height and width of 12 to 4096, found \(8, 9000\)"
    ):
        Settings((8, 9000))
    with pytest.raises(ConfigError, match=r"frame: expected .*, found \(100, 99\.5\)"):
        Settings((100, 99.5))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected a PNet for each of 3 levels, found 0"):
        Cascade((), _judge((), []), _judge((), []), _settings())


def test_settings_as_a_file(tmp_path: Path) -> None:
    settings = Settings((100, 200), 20.5, 0.6, (0.1, 0.2, 0.3), 7, Preprocess(mean=(1, 2, 3), std=2), False)
    assert Settings.from_json(settings.to_json()) == settings
    for text, message in (
        ("[]", "expected an object of frame, smallest, factor, scores, most, preprocess, transposed"),
        ("{", "Expecting property name enclosed in double quotes"),
        (settings.to_json().replace("20.5", "[]"), "not supported between"),
        (settings.to_json().replace("[100, 200]", "3"), "'int' object is not iterable"),
    ):
        with pytest.raises(ConfigError, match=rf"^cascade\.json: is no settings of a cascade \(.*{message}"):
            Settings.from_json(text)
    with pytest.raises(ConfigError, match="factor: expected"):
        Settings.from_json(settings.to_json().replace("0.6", "2"))
    with pytest.raises(ConfigError, match=r"cascade\.json: cannot be read \("):
        Packages.load(tmp_path)


def test_networks_of_other_outputs_are_refused() -> None:
    cascade = _cascade(True, [])
    with pytest.raises(DataError) as caught:
        cascade.refine(np.zeros((1, 4)), [{"x": np.zeros((1, 3))}])
    assert str(caught.value) == "expected one output of 2 channels, found x of (1, 3)"
