"""Every command on the demo network: its JSON document, its text, its files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tilewright as tw
from tests.cli.commands import DEMO, DEMO_MODEL, TARGET, document, fault, invoke, process, small_model
from tilewright.stages import STAGES

DEMO_MACS = 6_832_768
"""Of the ONNX graph; `tests/test_accelerator_macs.py` counts them."""


def test_compile_json(demo_compiled: tuple[Path, dict[str, object]]) -> None:
    path, found = demo_compiled
    assert list(found) == [
        "schema",
        "accelerator_macs",
        "host_macs",
        "regions",
        "instructions",
        "package_bytes",
        "seconds",
    ]
    assert (found["schema"], found["accelerator_macs"], found["host_macs"]) == (1, DEMO_MACS, 0)
    assert found["regions"] == 1
    assert found["package_bytes"] == path.stat().st_size
    seconds = found["seconds"]
    assert isinstance(seconds, dict)
    assert list(seconds) == list(STAGES)
    assert all(value > 0 for value in seconds.values())
    package = tw.Package.load(path)
    assert found["instructions"] == sum(len(r.stream) // 64 for r in package.regions)
    assert not list(path.parent.glob(".*"))


def test_compile_tells_what_each_step_of_the_quantiser_is_worth(tmp_path: Path) -> None:
    model = small_model(tmp_path / "net.onnx")
    low = ("--bits", "4", "--activation-bits", "8", "--calibration", "random:1")
    arguments: list[str | Path] = ["compile", model, *TARGET, *low, "--verbose", "-o", tmp_path / "net.twp"]
    names = ["plain", "+ clipping", "+ equalisation", "+ bias correction"]
    lines = invoke(*arguments, "--mixed", "width=8").stdout.splitlines()
    assert lines[0].split("  ")[0] == "quantiser"
    assert [line.split("  ")[0] for line in lines[1:6]] == [*names, "+ mixed precision"]
    steps = document(invoke(*arguments, "--json"))["steps"]
    assert isinstance(steps, list)
    assert [step["name"] for step in steps] == names
    assert all(step["snr"] > 10 and 0 <= step["agreement"] <= 100 for step in steps)


def test_compile_text_and_strip(demo_package: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.twp"
    result = invoke(
        "compile",
        small_model(tmp_path / "net.onnx"),
        *TARGET,
        "--calibration",
        "random:1",
        "--strip",
        "-o",
        output,
    )
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1] == "MACs on the accelerator: 8,640, on the host: 0"
    assert result.stderr == "note: net has random calibration; its answers mean nothing\n"
    assert fault(invoke("evaluate", output, "--data", DEMO / "digits_test.npz")) == (
        "package net: `evaluate` needs the quantised model, and this package was stripped of it; "
        "compile without --strip"
    )


def test_supported_json() -> None:
    found = document(invoke("supported", *DEMO_MODEL, *TARGET, "--json"))
    assert list(found) == ["schema", "layers", "accelerator_macs", "host_macs"]
    assert found["schema"] == 1
    rows = {row["name"]: row for row in found["layers"]}
    assert all(list(row) == ["name", "op", "place", "reason", "remedy", "macs"] for row in found["layers"])
    model = tw.load(*DEMO_MODEL[:3:2])
    assert [row["name"] for row in found["layers"]] == [node.name for node in model.nodes]
    assert {row["place"] for name, row in rows.items() if name != "prob"} == {"accelerator"}
    assert rows["prob"]["place"] == "host" and rows["prob"]["reason"]
    assert rows["conv1"] == {
        "name": "conv1", "op": "Conv", "place": "accelerator", "reason": "", "remedy": "", "macs": 32 * 32 * 16 * 9,
    }  # fmt: skip
    folded = rows["conv1_bn"]
    assert (folded["reason"], folded["macs"]) == ("folded into conv1", 0)
    assert found["accelerator_macs"] == DEMO_MACS == sum(row["macs"] for row in found["layers"])
    assert found["host_macs"] == 0


def test_supported_without_weights() -> None:
    with_weights, without = (
        document(invoke("supported", *model, *TARGET, "--json")) for model in (DEMO_MODEL, DEMO_MODEL[:1])
    )
    assert without == with_weights


def test_supported_text() -> None:
    result = invoke("supported", DEMO / "digits.onnx", "--target", "pynq-z1-w8")
    assert result.exit_code == 0 and result.stderr == ""
    assert "MACs on the accelerator: 6,832,768, on the host: 0" in result.stdout
    assert "folded into conv1_conv" in result.stdout


def test_targets() -> None:
    found = document(invoke("targets", "--json"))
    assert list(found) == ["schema", "targets"]
    rows = {row["name"]: row for row in found["targets"]}
    assert set(rows) == set(tw.overlays())
    assert rows["ultra96-w8"]["part"] == "xczu3eg-sbva484-1-e"
    assert rows["ultra96-w8"]["hash"] == tw.overlay("ultra96-w8").hash
    text = invoke("targets").stdout
    assert all(name in text for name in tw.overlays())


@pytest.fixture
def digit(tmp_path: Path) -> Path:
    """A test image, which shows a 5."""
    test = np.load(DEMO / "digits_test.npz")
    path = tmp_path / "digit.png"
    Image.fromarray(test["images"][list(test["labels"]).index(5)]).save(path)
    return path


def test_run_json_and_output(demo_package: Path, digit: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npz"
    found = document(invoke("run", demo_package, "--input", digit, "--output", output, "--json"))
    assert list(found) == ["schema", "backend", "outputs", "top", "instructions"]
    assert (found["schema"], found["backend"]) == (1, "sim")
    (described,) = found["outputs"]
    scores = np.load(output)["prob"]
    assert described == {
        "name": "prob",
        "shape": [1, 10],
        "dtype": "float32",
        "sha256": hashlib.sha256(scores.tobytes()).hexdigest(),
    }
    assert [list(row) for row in found["top"]] == [["index", "label", "score"]] * 5
    assert found["top"][0] == {"index": 5, "label": None, "score": pytest.approx(float(scores[0, 5]), abs=0)}
    assert [row["score"] for row in found["top"]] == sorted(scores[0].tolist(), reverse=True)[:5]
    report = tw.Package.load(demo_package).report
    assert found["instructions"] == report["instructions"]


def test_run_takes_the_same_image_in_every_form(demo_package: Path, digit: Path, tmp_path: Path) -> None:
    pixels = np.asarray(Image.open(digit))
    prepared = ((pixels.astype(np.float32) - 128) / 128).reshape(1, 1, 32, 32)
    np.save(tmp_path / "image.npy", pixels)
    np.save(tmp_path / "input.npy", prepared)
    np.savez(tmp_path / "input.npz", data=prepared)
    sources = [digit, *(tmp_path / name for name in ("image.npy", "input.npy", "input.npz"))]
    found = [document(invoke("run", demo_package, "--input", s, "--json"))["outputs"] for s in sources]
    assert found == [found[0]] * 4


def test_reference_gives_the_same_bytes(demo_package: Path, digit: Path) -> None:
    runs = [
        document(invoke("run", demo_package, "--input", digit, "--backend", name, "--json"))
        for name in ("sim", "reference")
    ]
    assert [run.pop("backend") for run in runs] == ["sim", "reference"]
    assert runs[0] == runs[1]


def test_run_text(demo_package: Path, digit: Path) -> None:
    lines = invoke("run", demo_package, "--input", digit).stdout.splitlines()
    assert lines[0].split() == ["class", "score", "label"]
    assert lines[1].split()[0] == "5"


def test_evaluate_json(demo_package: Path, tmp_path: Path) -> None:
    test = np.load(DEMO / "digits_test.npz")
    np.savez(tmp_path / "some.npz", images=test["images"][::8], labels=test["labels"][::8])
    found = document(invoke("evaluate", demo_package, "--data", tmp_path / "some.npz", "--json"))
    assert list(found) == ["schema", "images", "float", "quantised", "simulated", "flips"]
    assert (found["schema"], found["images"]) == (1, 50)
    for level in ("float", "quantised", "simulated"):
        assert list(found[level]) == ["top1", "top5"]
        assert 95 <= found[level]["top1"] <= found[level]["top5"] <= 100
    assert set(found["flips"]) == {"won", "lost"}
    difference = found["simulated"]["top1"] - found["float"]["top1"]
    assert (found["flips"]["won"] - found["flips"]["lost"]) * 2 == difference


def test_evaluate_counts_flips_against_wrong_labels(demo_package: Path, tmp_path: Path) -> None:
    test = np.load(DEMO / "digits_test.npz")
    np.savez(tmp_path / "wrong.npz", images=test["images"][:8], labels=(test["labels"][:8] + 1) % 10)
    result = invoke("evaluate", demo_package, "--data", tmp_path / "wrong.npz")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["8", "images", "top-1", "%", "top-5", "%"]
    assert [line.split()[0] for line in lines[1:4]] == ["float", "quantised", "simulated"]
    assert lines[4] == "simulated against float: 0 won, 0 lost"


def test_quantised_model_needs_no_calibration_and_has_no_float(tmp_path: Path) -> None:
    model = tw.load(small_model(tmp_path / "net.onnx"))
    samples = np.random.default_rng(1).standard_normal((20, 1, 3, 8, 8)).astype(np.float32)
    (tmp_path / "qdq.onnx").write_bytes(tw.quantize(model, iter(samples)).proto.SerializeToString())
    output = tmp_path / "net.twp"
    assert (
        document(invoke("compile", tmp_path / "qdq.onnx", *TARGET, "-o", output, "--json"))["host_macs"] == 0
    )
    np.savez(tmp_path / "set.npz", images=np.zeros((4, 8, 8, 3), np.uint8), labels=np.arange(4))
    found = document(invoke("evaluate", output, "--data", tmp_path / "set.npz", "--json"))
    assert found["float"] is None
    assert found["quantised"]["top5"] == found["simulated"]["top5"] == 100
    assert fault(
        invoke("compile", tmp_path / "qdq.onnx", *TARGET, "--calibration", "random:1", "-o", output)
    ) == ("model qdq: the model is quantised already and keeps its own scales; leave the calibration out")


def test_label_offset_is_kept(tmp_path: Path) -> None:
    output = tmp_path / "net.twp"
    model = small_model(tmp_path / "net.onnx")
    assert (
        invoke(
            "compile", model, *TARGET, "--calibration", "random:1", "--label-offset", "1", "-o", output
        ).exit_code
        == 0
    )
    np.savez(tmp_path / "set.npz", images=np.zeros((1, 8, 8, 3), np.uint8), labels=[4])
    message = fault(invoke("evaluate", output, "--data", tmp_path / "set.npz"))
    assert "expected a class 0..4, found label 4 + offset 1" in message
    assert invoke("evaluate", output, "--data", tmp_path / "set.npz", "--label-offset", "0").exit_code == 0


def test_labels_of_the_calibration_set_name_the_classes(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "images" / "a.png")
    (folder / "labels.csv").write_text("file,label,name\na.png,2,tench\n", encoding="utf-8")
    output = tmp_path / "net.twp"
    assert (
        invoke(
            "compile", small_model(tmp_path / "n.onnx"), *TARGET, "--calibration", folder, "-o", output
        ).exit_code
        == 0
    )
    found = document(invoke("run", output, "--input", "random:1", "--json"))
    assert {row["index"]: row["label"] for row in found["top"]} == {
        0: None,
        1: None,
        2: "tench",
        3: None,
        4: None,
    }


def test_a_symbolic_batch_is_one(tmp_path: Path) -> None:
    model = small_model(tmp_path / "net.onnx", shape=("N", 3, 8, 8))
    assert document(invoke("supported", model, *TARGET, "--json"))["accelerator_macs"] == 8640
    model = small_model(tmp_path / "net.onnx", shape=(1, 3, "height", "width"))
    found = document(invoke("supported", model, *TARGET, "--input-shape", "x=1,3,16,8", "--json"))
    assert found["accelerator_macs"] == 2 * 8640


def test_help_has_examples() -> None:
    for command in ("supported", "compile", "run", "evaluate", "targets"):
        text = invoke(command, "--help").stdout
        assert "Examples" in text and f"tilewright {command} " in text.replace("\n", " ")


def test_process_prints_only_json_on_stdout(demo_package: Path) -> None:
    found = process(
        "compile",
        DEMO / "digits.onnx",
        *TARGET,
        "--calibration",
        "random:2",
        "-o",
        demo_package.parent / "p.twp",
        "--json",
    )
    assert (found.returncode, found.stderr) == (
        0,
        "note: digits has random calibration; its answers mean nothing\n",
    )
    assert found.stdout.startswith('{\n  "schema": 1,')


def test_version_and_usage() -> None:
    found = process("--version")
    assert found.returncode == 0 and found.stdout.startswith("tilewright 0.")
    found = process("compile", "x.onnx")
    assert found.returncode == 2 and "Traceback" not in found.stderr


def test_supported_needs_a_model_and_an_overlay(tmp_path: Path) -> None:
    result = invoke("supported")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: 2 faults\n"
        "  expected MODEL or --list; give a prototxt or an ONNX file\n"
        "  --target: expected an overlay; `tilewright targets` lists them\n",
    )
    result = invoke("supported", tmp_path / "a.onnx", "--list")
    assert (
        result.stderr
        == f"error: expected no model beside --list, found {tmp_path / 'a.onnx'}; leave one out\n"
    )
