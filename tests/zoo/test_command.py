from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tilewright.zoo import diracdeltanet_small
from tilewright.zoo.__main__ import main


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if "│" in line}
    assert {"3x224x224", "316,651,520", "3,269,704"} <= set(lines["diracdeltanet"].split())
    assert {"3x224x224", "144,907,992", "2,262,424", "16,180"} <= set(lines["shufflenet_v2"].split())
    assert "diracdeltanet_small" in lines


def test_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.onnx"
    assert main(["diracdeltanet_small", "--bits", "4", "--seed", "3", "-o", str(path)]) == 0
    expected = diracdeltanet_small(4, seed=3)
    assert onnx.load(path) == expected
    assert f"{len(expected.graph.node)} nodes" in capsys.readouterr().out


def test_there_are_not_three_bits(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["diracdeltanet", "--bits", "3"])
    assert caught.value.code == 2
    assert "argument --bits: invalid choice: 3" in capsys.readouterr().err
