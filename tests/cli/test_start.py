"""What a command starts, and what it leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx

import tilewright as tw
from tests.cli.commands import TARGET

_CODE = """
import gc, json, os, sys
from tilewright.cli import main
sys.argv = ["tilewright", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    code = end.code
known = ("tvm", "onnxruntime", "tvm.backend.vulkan")
print(json.dumps({"code": code, "loaded": [name for name in known if name in sys.modules],
                  "frozen": gc.get_freeze_count() > 0}))
"""


def _run(*arguments: str | Path) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_quantised_network_needs_no_onnx_runtime(demo_package: Path, tmp_path: Path) -> None:
    """Nor the back ends of devices that TVM would look for."""
    model = tmp_path / "digits.onnx"
    proto = tw.Package.load(demo_package).quantised_model
    assert proto is not None
    onnx.save(onnx.ModelProto.FromString(proto), model)
    found = _run("compile", model, *TARGET, "-o", tmp_path / "net.twp")
    assert found == {"code": 0, "loaded": ["tvm"], "frozen": True}


def test_a_refusal_ends_alike(tmp_path: Path) -> None:
    """TVM is not started for a file that is not there."""
    found = _run("compile", tmp_path / "no.onnx", *TARGET, "-o", tmp_path / "net.twp")
    assert found == {"code": 2, "loaded": [], "frozen": True}
