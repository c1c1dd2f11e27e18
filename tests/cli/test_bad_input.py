"""Bad input: one message that says what, where and what to do; exit code 2; no traceback; nothing half-written."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import tilewright as tw
from tests.cli.commands import (
    DEMO,
    DEMO_MODEL,
    TARGET,
    fault,
    invoke,
    node,
    process,
    small_model,
    write_model,
)
from tilewright.frontend.caffe import read_caffemodel, write_caffemodel
from tilewright.targets.config import Overlay, overlays

CAFFEMODEL = DEMO / "digits.caffemodel"
PROTOTXT = DEMO / "digits.prototxt"


def supported(*arguments: str | Path) -> str:
    return fault(invoke("supported", *arguments, *TARGET))


# Model files.


@pytest.mark.parametrize("name", ["net.onnx", "net.bin"])
@pytest.mark.parametrize("content", [b"", b"\x93\x17 random \xff bytes", bytes(range(256)) * 40])
def test_no_onnx(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    message = supported(path)
    assert message.startswith(f"{path}: expected an ONNX model, found {len(content)} bytes")
    assert message.endswith("export or download the file again")


@pytest.mark.parametrize("keep", [0.5, 0.999])
def test_truncated_onnx(tmp_path: Path, keep: float) -> None:
    data = (DEMO / "digits.onnx").read_bytes()
    path = tmp_path / "net.onnx"
    path.write_bytes(data[: int(len(data) * keep)])
    assert str(path) in supported(path)


def test_truncated_prototxt(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(PROTOTXT.read_bytes()[:700])
    assert str(path) in supported(path, "--weights", CAFFEMODEL)


@pytest.mark.parametrize("content", [b"", b"layer {{{", bytes(range(256)), b"name: 'x'"])
def test_no_prototxt(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(content)
    assert str(path) in supported(path, "--weights", CAFFEMODEL)


@pytest.mark.parametrize("content", [b"", bytes(range(1, 256)), CAFFEMODEL.read_bytes()[:5000]])
def test_no_caffemodel(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    assert str(path) in supported(PROTOTXT, "--weights", path)


def test_missing_files(tmp_path: Path) -> None:
    assert supported(tmp_path / "no.onnx") == f"{tmp_path}/no.onnx: no such file; check the path"
    assert supported(tmp_path / "no.prototxt") == f"{tmp_path}/no.prototxt: no such file; check the path"
    assert str(tmp_path / "no.caffemodel") in supported(PROTOTXT, "--weights", tmp_path / "no.caffemodel")
    assert supported(tmp_path) == f"{tmp_path}: expected an ONNX file or a prototxt, found a folder"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "net.caffemodel",
            "holds the weights of a Caffe network; give its prototxt, and this file as weights",
        ),
        ("net.twp", "is a compiled package; give it to `tilewright run` or `tilewright evaluate`"),
        ("net.tflite", "is a TensorFlow Lite model; convert it to ONNX, with tf2onnx for instance"),
    ],
)
def test_another_kind_of_file(name: str, text: str) -> None:
    assert supported(name) == f"{name}: expected an ONNX file or a prototxt; this {text}"


def test_missing_weights(tmp_path: Path) -> None:
    message = fault(
        invoke("compile", PROTOTXT, *TARGET, "--calibration", "random:1", "-o", tmp_path / "net.twp")
    )
    assert "--weights" in message or "caffemodel" in message
    assert "random" in message


def test_weights_of_an_onnx_file() -> None:
    path = DEMO / "digits.onnx"
    assert supported(path, "--weights", CAFFEMODEL) == (
        f"weights: {path} is an ONNX file, which holds its weights itself; "
        f"leave {CAFFEMODEL} out, or give the prototxt that belongs to it"
    )
    assert (
        supported(path, "--weights", "random:x")
        == "weights: expected a number as seed, found 'x'; give random:1"
    )


def test_weights_that_do_not_fit_the_topology(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    text = PROTOTXT.read_text(encoding="utf-8")
    path.write_text(text.replace("kernel_size: 3 pad: 1", "kernel_size: 5 pad: 2"), encoding="utf-8")
    message = supported(path, "--weights", CAFFEMODEL)
    assert len(message.splitlines()) == 1 + text.count("kernel_size: 3 pad"), "every layer is listed"
    assert "conv1" in message and "res_a" in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    weight = np.ones((5, 3, 3, 3), np.float32)
    weight[1, 2] = value
    found = "9 NaN and 0 infinite" if np.isnan(value) else "0 NaN and 9 infinite"
    assert supported(small_model(tmp_path / "net.onnx", weight=weight)) == (
        f"initialiser w: expected finite numbers, found {found} of 135; train or export the model again"
    )
    blobs = {name: list(arrays) for name, arrays in read_caffemodel(CAFFEMODEL).items()}
    for layer in ("conv1", "res_b"):
        blobs[layer][0] = np.full_like(blobs[layer][0], value)
    write_caffemodel(tmp_path / "net.caffemodel", blobs)
    message = supported(PROTOTXT, "--weights", tmp_path / "net.caffemodel")
    assert message.startswith("2 faults") and "conv1" in message and "res_b" in message


@pytest.mark.parametrize("shape", [(1, 3, 0, 8), (1, 3, "height", 8), (1, "c", "h", "w")])
def test_zero_sized_and_dynamic_shapes(tmp_path: Path, shape: tuple[int | str, ...]) -> None:
    message = supported(small_model(tmp_path / "net.onnx", shape=shape))
    assert "input x" in message and (
        "--input-shape" in message or "expected dimensions of at least 1" in message
    )


@pytest.mark.parametrize("text", ["x", "x=", "x=1,a", "=1,3", "x=1,0,8,8"])
def test_input_shape_that_is_none(tmp_path: Path, text: str) -> None:
    assert supported(small_model(tmp_path / "net.onnx"), "--input-shape", text) == (
        f"--input-shape: expected a name and sizes above 0 such as data=1,3,120,96, found {text!r}"
    )


def test_input_shape_of_an_unknown_input(tmp_path: Path) -> None:
    assert "'y'" in supported(small_model(tmp_path / "net.onnx"), "--input-shape", "y=1,3,8,8")


@pytest.mark.parametrize("batch", ["0", "17"])
def test_a_batch_that_is_none(tmp_path: Path, batch: str) -> None:
    assert supported(small_model(tmp_path / "net.onnx"), "--batch", batch) == (
        f"batch: expected a batch of 1 to 16, found {batch}"
    )


def test_a_batch_of_what_has_no_first_dimension(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["y"]), node("Transpose", ["y"], ["z"], perm=[1, 0])]
    path = write_model(tmp_path / "net.onnx", nodes, {}, {"x": (1, 8)}, ["y", "z"])
    assert supported(path, "--batch", "4") == (
        "output z: expected a fixed shape (1, ...) for a batch of 4, found (8, 1); compile for a batch of 1"
    )


def test_all_unknown_operators_at_once(tmp_path: Path) -> None:
    nodes = [
        node("Convolute", ["x"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("Sparkle", ["b"], ["y"]),
        node("Mystery", ["y"], ["z"], domain="org.example"),
    ]
    message = supported(write_model(tmp_path / "net.onnx", nodes, {}, {"x": (1, 3, 8, 8)}, ["z"]))
    first, *faults = message.splitlines()
    assert first == "3 faults"
    assert [line.split(":")[0].strip() for line in faults] == ["node a", "node y", "node z"]
    assert "'Convolute'" in faults[0] and "'Sparkle'" in faults[1] and "org.example.Mystery" in faults[2]


def test_all_unknown_layers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    text = PROTOTXT.read_text(encoding="utf-8").replace('"ReLU"', '"Wow"').replace('"Softmax"', '"Wonder"')
    path.write_text(text, encoding="utf-8")
    message = supported(path, "--weights", CAFFEMODEL)
    assert "Wow" in message and "Wonder" in message


# Options.


def test_unknown_target() -> None:
    known = ", ".join(overlays())
    message = f"unknown overlay 'ultra96-w7', known are {known}; did you mean ultra96-w8?"
    assert fault(invoke("supported", "net.onnx", "--target", "ultra96-w7")) == message
    assert fault(invoke("compile", "net.onnx", "--target", "ultra96-w7", "-o", "x.twp")) == message


def test_wrong_preprocessing_is_listed_at_once() -> None:
    message = supported(
        DEMO / "digits.onnx", "--mean", "a,b", "--std", "0", "--crop", "x", "--input-shape", "q"
    )
    first, *faults = message.splitlines()
    assert first == "4 faults"
    assert [line.split(":")[0].strip() for line in faults] == ["--crop", "--mean", "--std", "--input-shape"]


def test_preprocessing_that_does_not_fit_the_input() -> None:
    assert supported(DEMO / "digits.onnx", "--crop", "28", "--channels", "rgb") == (
        "2 faults\n"
        "  crop: a crop of 28x28 is not the network's input of 32x32; give --crop 32\n"
        "  channels: rgb makes 3, the network takes 1"
    )


def test_bits(tmp_path: Path) -> None:
    assert "bits=7" in supported(small_model(tmp_path / "net.onnx"), "--bits", "7")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bits", "3"), "bits=3: post-training quantisation supports 1, 2, 4, 8 bit; give 4,"),
        (("--activation-bits", "0"), "activation_bits=0: post-training quantisation supports 1, 2, 4, 8 bit"),
        (("--mixed", "points=1"), "mixed: with bits=8 there is nothing to choose; give bits=4"),
        (
            ("--bits", "4", "--mixed", "1.0"),
            "mixed: expected points=P or width=W, found '1.0'; give points=1.0",
        ),
        (("--rounding", "up"), "--rounding: expected adaptive or nearest, found 'up'"),
    ],
)
def test_settings_of_the_quantiser(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    assert message in compile_small(tmp_path, "--calibration", "random:1", *arguments)


# Calibration and data.


def compile_small(tmp_path: Path, *arguments: str | Path) -> str:
    model, output = small_model(tmp_path / "net.onnx"), tmp_path / "net.twp"
    message = fault(invoke("compile", model, *TARGET, "-o", output, *arguments))
    assert not output.exists()
    assert not list(tmp_path.glob(".*"))
    return message


def test_no_calibration(tmp_path: Path) -> None:
    assert compile_small(tmp_path) == (
        "model net is float and needs a calibration set; "
        "give --calibration DIR or NPZ, or random:1 for studies of speed"
    )


def test_empty_calibration(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    assert compile_small(tmp_path, "--calibration", folder).startswith(f"{folder}: holds no image")
    np.savez(tmp_path / "none.npz", images=np.zeros((0, 8, 8, 3), np.uint8))
    assert (
        compile_small(tmp_path, "--calibration", tmp_path / "none.npz")
        == f"{tmp_path}/none.npz: holds no image"
    )
    assert "no such file or folder" in compile_small(tmp_path, "--calibration", tmp_path / "nowhere")


def test_images_of_another_size(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for name, size in (("a.png", (8, 8)), ("b.png", (5, 9)), ("c.png", (6, 7))):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(folder / name)
    message = compile_small(tmp_path, "--calibration", folder, "--crop", "8")
    first, *faults = message.splitlines()
    assert first == "2 faults"
    assert ["b.png" in faults[0], "c.png" in faults[1]] == [True, True]
    np.savez(tmp_path / "float.npz", images=np.zeros((4, 9, 9, 3), np.float32))
    assert "9" in compile_small(tmp_path, "--calibration", tmp_path / "float.npz")


def test_damaged_image(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "a.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:50])
    (folder / "c.png").write_bytes(b"no image")
    message = compile_small(tmp_path, "--calibration", folder)
    assert "c.png: cannot be read as an image" in message


def test_evaluate_without_labels(demo_package: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros((2, 32, 32), np.uint8))
    assert fault(invoke("evaluate", demo_package, "--data", tmp_path / "set.npz")) == (
        f"{tmp_path}/set.npz: has no labels, which accuracy needs; expected an array labels or y"
    )


def test_labels_that_are_no_classes(demo_package: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros((2, 32, 32), np.uint8), labels=[3, 10])
    assert "expected a class 0..9, found label 10" in fault(
        invoke("evaluate", demo_package, "--data", tmp_path / "set.npz")
    )


def test_inputs_that_do_not_fit(demo_package: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 31, 32), np.float32))
    assert fault(invoke("run", demo_package, "--input", tmp_path / "x.npy")) == (
        f"{tmp_path}/x.npy: expected float32 of shape 1x1x32x32, found float32 of 1x1x31x32; "
        "floats are not preprocessed; give the stored image as uint8 for that"
    )
    assert "no such file" in fault(invoke("run", demo_package, "--input", tmp_path / "y.npy"))
    assert "unknown back end 'sym'" in fault(
        invoke("run", demo_package, "--input", "random:1", "--backend", "sym")
    )


# Packages.


def damage(path: Path, change: Callable[[bytearray], bytes | bytearray]) -> None:
    path.write_bytes(change(bytearray(path.read_bytes())))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: d[:100], "truncated"),
        (lambda d: d[:-1], "truncated"),
        (lambda d: b"", "not a Tilewright package"),
        (lambda d: b"PK" + d[2:], "not a Tilewright package"),
        (lambda d: d[:8] + b"\x09" + d[9:], "format version 9"),
        (lambda d: d[:2000] + bytes([d[2000] ^ 1]) + d[2001:], "damaged (checksum)"),
        (lambda d: d + b"x", "something follows"),
    ],
)
@pytest.mark.parametrize("command", [("run", "--input", "random:1"), ("evaluate", "--data", "x.npz")])
def test_damaged_package(
    demo_package: Path,
    tmp_path: Path,
    change: Callable[[bytearray], bytes],
    text: str,
    command: tuple[str, ...],
) -> None:
    path = tmp_path / "net.twp"
    shutil.copy(demo_package, path)
    damage(path, change)
    message = fault(invoke(command[0], path, *command[1:]))
    assert message.startswith(str(path)) and text in message


def test_package_of_another_overlay(demo_package: Path, tmp_path: Path) -> None:
    package = tw.Package.load(demo_package)
    changed = package.overlay.to_dict() | {"mhz": 251, "description": "another"}
    other = tw.Package(
        package.name, Overlay.from_dict(changed), package.program, package.regions, tool_version="0"
    )
    other.save(tmp_path / "net.twp")
    assert fault(invoke("run", tmp_path / "net.twp", "--input", "random:1")) == (
        f"{tmp_path}/net.twp: section overlay: made for another ultra96-w8 (here) than the installed one (there): "
        "mhz: 251 here, 250 there; compile again, or give the changed overlay a name of its own"
    )


# Outputs.


def test_outputs_are_checked_before_the_work(demo_package: Path, tmp_path: Path) -> None:
    there = tmp_path / "no" / "net.twp"
    text = f"{there}: there is no folder {there.parent}; choose another output"
    assert fault(invoke("compile", "missing.onnx", *TARGET, "-o", there)) == text
    assert fault(invoke("run", demo_package, "--input", "random:1", "--output", there)) == text
    assert fault(invoke("compile", "missing.onnx", *TARGET, "-o", tmp_path)) == (
        f"{tmp_path}: is a folder, expected the name of a file; choose another output"
    )


def test_unwritable_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # tests may run as root, who may write everywhere
    assert fault(invoke("compile", "missing.onnx", *TARGET, "-o", tmp_path / "net.twp")) == (
        f"{tmp_path}/net.twp: the folder {tmp_path} is not writable; choose another output"
    )


def full_disk() -> None:
    """Files can grow to 100 kB, after which writing fails as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_full_disk(tmp_path: Path, demo_package: Path) -> None:
    """A package that was there before stays."""
    model, output = tmp_path / "qdq.onnx", tmp_path / "net.twp"
    quantised = tw.Package.load(demo_package).quantised_model
    assert quantised is not None
    model.write_bytes(quantised)
    output.write_bytes(b"before")
    found = process("compile", model, *TARGET, "-o", output, preexec_fn=full_disk)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith(f"error: {output}: cannot write ") and "Traceback" not in found.stderr
    assert found.stderr.endswith("File too large; nothing was written; choose another output\n")
    assert output.read_bytes() == b"before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.twp", "qdq.onnx"]


def test_full_disk_for_temporary_files(tmp_path: Path) -> None:
    calibrated = ("--calibration", "random:1", "-o", tmp_path / "net.twp")
    found = process("compile", *DEMO_MODEL, *TARGET, *calibrated, preexec_fn=full_disk)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == (
        "error: a temporary file cannot be written: File too large; "
        "free space, or set TMPDIR to another folder\n"
    )
    assert not list(tmp_path.iterdir())


def test_full_disk_for_outputs(tmp_path: Path) -> None:
    """One large map as output: 1 x 8 x 100 x 100 floats do not fit."""
    weight = np.ones((8, 1, 1, 1), np.float32)
    nodes = [node("Conv", ["x", "w"], ["y"], kernel_shape=[1, 1])]
    model = write_model(tmp_path / "net.onnx", nodes, {"w": weight}, {"x": (1, 1, 100, 100)}, ["y"])
    package = tmp_path / "net.twp"
    assert invoke("compile", model, *TARGET, "--calibration", "random:1", "-o", package).exit_code == 0
    output = tmp_path / "out.npz"
    found = process("run", package, "--input", "random:1", "--output", output, preexec_fn=full_disk)
    assert (found.returncode, found.stdout) == (2, "")
    assert "cannot write 320" in found.stderr and "File too large" in found.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.onnx", "net.twp"]


def test_full_standard_output() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        import subprocess
        import sys

        found = subprocess.run(
            [sys.executable, "-m", "tilewright", "targets", "--json"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert found.returncode == 2
    assert found.stderr.startswith("error: standard output: cannot be written: No space left on device")
    assert "Traceback" not in found.stderr


def test_our_own_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("tilewright.frontend.model.load", broken)
    result = invoke("supported", small_model(tmp_path / "net.onnx"), *TARGET)
    assert result.exit_code == 1 and isinstance(result.exception, ZeroDivisionError)


def test_onnx_fuzz(tmp_path: Path) -> None:
    """Single damaged bytes: each is taken, or refused with a message."""
    data = small_model(tmp_path / "net.onnx").read_bytes()
    generator = np.random.default_rng(3)
    for position in generator.choice(len(data), 40, replace=False).tolist():
        damaged = bytearray(data)
        damaged[position] ^= int(generator.integers(1, 256))
        (tmp_path / "bad.onnx").write_bytes(damaged)
        result = invoke("supported", tmp_path / "bad.onnx", *TARGET, "--json")
        if result.exit_code != 0:
            fault(result)
    assert isinstance(onnx.load(tmp_path / "net.onnx"), onnx.ModelProto)
