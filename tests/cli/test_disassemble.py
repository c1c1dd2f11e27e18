"""`disassemble` and `assemble` on the demo, and on larger networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

import tilewright as tw
from tests.cli.commands import invoke
from tilewright.targets.listing import assemble, disassemble, replaced
from tilewright.zoo import diracdeltanet, diracdeltanet_small


def test_listing_of_the_demo_gives_the_same_package(demo_package: Path, tmp_path: Path) -> None:
    text, out, stream = tmp_path / "demo.lst", tmp_path / "again.twp", tmp_path / "stream.bin"
    assert invoke("disassemble", demo_package, "-o", text).exit_code == 0
    result = invoke("assemble", text, "--package", demo_package, "-o", out)
    count = sum(len(region.layer_of) for region in tw.Package.load(demo_package).regions)
    assert result.stdout == f"{out}: {out.stat().st_size:,} bytes, {count:,} instructions\n"
    assert out.read_bytes() == demo_package.read_bytes()
    assert invoke("assemble", text, "-o", stream).exit_code == 0
    assert stream.read_bytes() == tw.Package.load(demo_package).regions[0].stream


def test_a_layer(demo_package: Path) -> None:
    result = invoke("disassemble", demo_package, "--layer", "conv2")
    head, *rows = result.stdout.splitlines()
    assert head == f"; region tilewright_0, {len(rows)} instructions" and rows
    assert all(row.endswith("  ; conv2") for row in rows)
    result = invoke("disassemble", demo_package, "--layer", "con2", "--region", "tilewright_1")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: 2 faults\n"
        "  package digits: there is no region 'tilewright_1'; did you mean tilewright_0?\n"
        "  package digits: there is no layer 'con2'; did you mean conv2?\n",
    )


def test_wrong_listings(demo_package: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.bin"

    def refused(data: bytes | None) -> str:
        path = tmp_path / "a.lst"
        if data is not None:
            path.write_bytes(data)
        result = invoke("assemble", path, "-o", out)
        assert result.exit_code == 2 and not out.exists()
        return result.stderr.replace(str(path), "a.lst")

    assert refused(None) == "error: a.lst: cannot be read: No such file or directory; check the path\n"
    assert refused(b"\xff") == (
        "error: a.lst: expected text: invalid start byte; give a listing that `disassemble` wrote\n"
    )
    assert refused(b"FINISH\nLOAD n0=0\n") == (
        "error: a.lst, line 2: LOAD.n0: 0 does not fit 12 bits (1..4095); outer count\n"
    )
    heads = b"; region a, 1 instruction\nFINISH\n; region b, 1 instruction\nFINISH\n"
    assert refused(heads) == (
        "error: a.lst: expected one region for a stream, found 2 (a, b); give --package, or list one region\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "target"), [(diracdeltanet, "ultra96-w4"), (diracdeltanet_small, "ultra96-w8")]
)
def test_networks_of_the_zoo(make: Callable[..., onnx.ModelProto], target: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(make(bits=4), path)
    package = tw.compile(tw.load(path), target)
    text = disassemble(package)
    assert replaced(package, assemble(text)).to_bytes() == package.to_bytes()
