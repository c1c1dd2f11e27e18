"""Real face detectors on photographs: simulated at 8 bits against the float networks.

Boxes of one face by two networks are taken for the same if their intersection over union is 0.7 or more: far above the
0.3 at which suppression takes them for one face, and no two faces of these photographs overlap so much. Landmarks agree
within a tenth of the face's width in the mean, the error at which benchmarks of face alignment call a face failed. Of
the photograph of 47 small faces one in forty may fall to the other side of a threshold, where a float score is a hundredth
above it; in the others every face is found, and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import tilewright as tw
from tilewright.errors import ConfigError, PackageError
from tilewright.frontend.pixels import read_image
from tilewright.vision import Detections, Geometry, Pipeline
from tilewright.vision.boxes import match
from tilewright.vision.decoders import Decoder, decoder_for
from tilewright.vision.mtcnn import Cascade, Packages, Runner, Settings
from tilewright.vision.mtcnn_build import Networks

pytestmark = pytest.mark.slow
OVERLAP, LANDMARK = 0.7, 0.1
FACES = {"test1": 2, "test2": 1, "1": 47, "6": 14, "12": 5, "20": 10}
"""Photograph -> faces that both detectors find in float."""


@pytest.fixture(scope="module")
def photographs(shared_data: Path) -> dict[str, Path]:
    folders = [shared_data / "caffe" / "mtcnn", shared_data / "images" / "faces"]
    found = {path.stem: path for folder in folders for path in folder.glob("*.jpg")}
    return {name: found[name] for name in FACES}


def _agree(found: Detections, wanted: Detections, name: str) -> None:
    assert len(wanted) == FACES[name], name
    pairs = [pair for pair in match(found.boxes, wanted.boxes) if pair[2] >= OVERLAP]
    assert max(len(found), len(wanted)) - len(pairs) <= len(wanted) // 40, name
    for i, j, _ in pairs:
        if wanted.landmarks.shape[1]:
            apart = np.linalg.norm(found.landmarks[i] - wanted.landmarks[j], axis=1).mean()
            assert apart <= LANDMARK * (wanted.boxes[j, 2] - wanted.boxes[j, 0]), name


@pytest.fixture(scope="module")
def networks(shared_data: Path) -> Networks:
    return Networks.load(shared_data / "caffe" / "mtcnn", Settings())


@pytest.fixture(scope="module")
def references(networks: Networks, photographs: dict[str, Path]) -> dict[str, Detections]:
    cascade = networks.cascade()
    return {name: cascade.detect(read_image(path)) for name, path in photographs.items()}


@pytest.fixture(scope="module")
def packages(networks: Networks, photographs: dict[str, Path]) -> Packages:
    return networks.compile([photographs[name] for name in ("6", "12", "20")])


def _opencv_runner(stem: Path) -> Runner:
    cv2 = pytest.importorskip("cv2")
    network = cv2.dnn.readNetFromCaffe(f"{stem}.prototxt", f"{stem}.caffemodel")
    names = network.getUnconnectedOutLayersNames()

    def run(inputs: Sequence[Any]) -> list[dict[str, Any]]:
        found = []
        for array in inputs:
            network.setInput(array)
            found.append({n: a.copy() for n, a in zip(names, network.forward(names), strict=True)})
        return found

    return run


def test_float_cascade_is_opencvs(
    shared_data: Path, photographs: dict[str, Path], references: dict[str, Detections]
) -> None:
    """The same steps with networks that OpenCV reads and runs: faces to a tenth of a pixel."""
    pnet, rnet, onet = (_opencv_runner(shared_data / "caffe" / "mtcnn" / f"det{n}") for n in (1, 2, 3))
    settings = Settings()
    cascade = Cascade((pnet,) * len(settings.levels), rnet, onet, settings)
    for name, path in photographs.items():
        found, wanted = cascade.detect(read_image(path)), references[name]
        pairs = match(found.boxes, wanted.boxes)[: len(wanted)]
        assert len(found) == len(wanted) == len(pairs) == FACES[name]
        for i, j, _ in pairs:
            assert np.abs(found.boxes[i] - wanted.boxes[j]).max() < 0.1
            assert np.abs(found.landmarks[i] - wanted.landmarks[j]).max() < 0.1


def test_mtcnn_on_the_accelerator(
    packages: Packages, photographs: dict[str, Path], references: dict[str, Detections]
) -> None:
    pipeline = Pipeline(packages.stages(draw=False))
    frames = list(pipeline.run((name, str(path)) for name, path in photographs.items()))
    assert [frame.name for frame in frames] == list(FACES)
    for frame in frames:
        _agree(frame.value, references[frame.name], frame.name)


def test_saved_packages_find_the_same(
    packages: Packages, photographs: dict[str, Path], tmp_path: Path
) -> None:
    packages.save(tmp_path / "faces")
    image = read_image(photographs["test1"])
    loaded = Packages.load(tmp_path / "faces")
    found, wanted = loaded.cascade().detect(image), packages.cascade().detect(image)
    assert np.array_equal(found.boxes, wanted.boxes) and np.array_equal(found.landmarks, wanted.landmarks)
    with pytest.raises(ConfigError) as caught:
        dataclasses.replace(loaded, rnet=loaded.onet).cascade()
    assert str(caught.value) == "package det3: expected one input of (3, 24, 24), found [(3, 48, 48)]"
    (tmp_path / "faces" / "rnet.twp").unlink()
    with pytest.raises(PackageError, match=r"onet\.twp/cascade: cannot be written \("):
        packages.save(tmp_path / "faces" / "onet.twp" / "cascade")
    with pytest.raises(PackageError, match=r"rnet\.twp"):
        Packages.load(tmp_path / "faces")


def test_levels_share_their_weights(packages: Packages) -> None:
    """A level's scores are those of a larger level where the window sees the same pixels."""
    cascade = packages.cascade()
    first, second = packages.settings.levels[:2]
    big = np.zeros(packages.settings.input_shape(*first), np.float32)
    generator = np.random.default_rng(0)
    small = generator.uniform(-1, 1, packages.settings.input_shape(*second)).astype(np.float32)
    big[:, :, : small.shape[2], : small.shape[3]] = small
    (of_big,), (of_small,) = cascade.pnet[0]([big]), cascade.pnet[1]([small])
    for name, values in of_small.items():
        rows, columns = values.shape[2] - 1, values.shape[3] - 1  # the last pool may reach over the border
        assert np.array_equal(of_big[name][:, :, :rows, :columns], values[:, :, :rows, :columns])


@pytest.fixture(scope="module")
def ultraface(shared_data: Path) -> Iterator[tuple[tw.Package, Any]]:
    stem = shared_data / "caffe" / "ultraface_slim" / "slim-320"
    preprocess = tw.Preprocess(mean=127, std=128)
    model = tw.load(f"{stem}.prototxt", f"{stem}.caffemodel", preprocess=preprocess)
    package = tw.compile(tw.quantize(model, calibration=shared_data / "images" / "faces"))
    yield (
        package,
        onnxruntime.InferenceSession(model.proto.SerializeToString(), providers=["CPUExecutionProvider"]),
    )


def test_ultraface_on_the_accelerator(
    ultraface: tuple[tw.Package, Any], photographs: dict[str, Path], shared_data: Path
) -> None:
    package, session = ultraface
    shape = (1, 3, 240, 320)
    decode: Decoder = decoder_for("ssd", package)
    names = [output.name for output in session.get_outputs()]
    opencv = _opencv_runner(shared_data / "caffe" / "ultraface_slim" / "slim-320")
    preprocess = tw.Preprocess(mean=127, std=128)
    for frame in Pipeline.of(package, "ssd").run(photographs.values()):
        assert frame.image is not None
        x = preprocess.apply(frame.image, shape)
        geometry = Geometry.of(preprocess, frame.image.size, shape)
        name = Path(frame.name).stem
        wanted = decode(dict(zip(names, session.run(names, {"input": x}), strict=True)), geometry)
        _agree(frame.value, wanted, name)
        (other,) = opencv([x])
        again = decode({n: other[n].reshape(1, -1, w) for n, w in (("boxes", 4), ("scores", 2))}, geometry)
        assert np.abs(again.boxes - wanted.boxes).max() < 0.1
