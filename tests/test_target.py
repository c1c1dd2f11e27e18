"""Targets of TVM: tags with the board's Arm, hosts by name, libraries for Arm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tvm

import tilewright as tw
from tilewright.errors import ConfigError
from tilewright.target import export_library, target
from tilewright.targets.config import overlays
from tilewright.targets.processors import processor


@pytest.mark.parametrize("name", overlays())
def test_a_tag_has_the_overlay_and_the_boards_arm(name: str) -> None:
    found = tvm.target.Target(f"tilewright/{name}")
    arm = processor(overlays()[name].board)
    assert str(found.attrs["model"]) == name
    for part in (found, found.host):
        assert (part.kind.name, str(part.attrs["mtriple"]), str(part.attrs["mcpu"])) == (
            "llvm",
            arm.triple,
            arm.cpu,
        )
        assert [str(feature) for feature in part.attrs["mattr"]] == ["+neon"]
    assert str(target(name, "arm")) == str(found)


def test_the_default_host_is_this_machine() -> None:
    assert str(tw.target("ultra96-w8")) == str(tw.target("ultra96-w8", "x86"))
    assert "cortex" not in str(tw.target("ultra96-w8"))


def test_an_unknown_host() -> None:
    with pytest.raises(ConfigError, match=r"^host: expected one of the hosts x86, arm, found 'riscv'$"):
        tw.target("ultra96-w8", host="riscv")


@pytest.mark.parametrize(
    "order", ["import tilewright, tvm", "import tvm; from tvm import relax; import tilewright"]
)
def test_a_tvm_user_needs_only_the_import(order: str) -> None:
    script = (
        f"{order}\n"
        "import tvm.relax\n"
        "assert 'tilewright' in tvm.relax.pipeline.PIPELINE_MAP\n"
        "print(tvm.target.Target('tilewright/pynq-z1-w8').attrs['model'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "pynq-z1-w8\n", "")


def test_a_library_for_arm_without_its_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    class Never:
        def export_library(self, *_: Any, **__: Any) -> None:
            raise AssertionError("was called without a compiler")

    with pytest.raises(ConfigError, match=r"^arm-linux-gnueabihf-g\+\+ is not installed; install it, .*"):
        export_library(Never(), tmp_path / "net.so", target("pynq-z1-w8", "arm"))
