"""Bisection writes a small network that shows the fault on its own, by its command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import tilewright as tw
from tests.cli.commands import invoke
from tests.verify.test_faults import changed, swap_channels, with_scale
from tilewright.errors import ConfigError
from tilewright.targets.isa.codec import decode_stream
from tilewright.targets.isa.spec import Instruction, Vector
from tilewright.verify.api import Verifier
from tilewright.verify.bisect import Bisection, bisect

Feeds = Mapping[str, NDArray[Any]]


def bisected(package: tw.Package, feeds: Feeds, levels: tuple[str, ...], folder: Path) -> Bisection:
    verifier = Verifier(package, [feeds], levels, (), tw.Session, engine="numpy")
    return bisect(verifier, verifier.run(), folder)


def run_command(found: Bisection) -> tuple[int, dict[str, Any]]:
    """Exit code and document of the command that a bisection names."""
    assert (found.folder / "command.txt").read_text() == found.command + "\n"
    result = invoke(*shlex.split(found.command)[1:], "--json")
    assert result.exit_code in (0, 1), result.output
    return result.exit_code, json.loads(result.stdout)


def test_one_layer_shows_it(
    demo: tw.Model, feeds: Feeds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as planted:
        swap_channels(planted, "conv3")
        found = bisected(tw.compile(demo, "ultra96-w8"), feeds, ("integer", "tile"), tmp_path)
        assert (found.reproduced, found.layers) == (True, ("conv3",))
        model = onnx.load(tmp_path / "network.onnx")
        onnx.checker.check_model(model)
        assert [node.op_type for node in model.graph.node].count("Conv") == 1
        with np.load(tmp_path / "inputs.npz") as arrays:
            assert {name: arrays[name].shape for name in arrays.files} == {"conv2": (1, 64, 8, 8)}
        code, document = run_command(found)
        assert (code, document["first"]["level"], document["first"]["layer"]) == (1, "tile", "conv3")
    assert run_command(found)[0] == 0  # mended


def test_a_wrong_scale_with_its_float_network(package: tw.Package, feeds: Feeds, tmp_path: Path) -> None:
    model = onnx.ModelProto.FromString(package.quantised_model or b"")
    name = next(
        x.name for x in model.graph.initializer if x.name.startswith("mix_3x3/weight") and "scale" in x.name
    )
    wrong = replace(package, quantised_model=with_scale(model, name, 2).SerializeToString())
    found = bisected(wrong, feeds, ("float", "quantised"), tmp_path)
    assert (found.reproduced, found.layers) == (True, ("mix_3x3",))
    assert "--float" in found.command
    code, document = run_command(found)
    assert (code, document["first"]["level"], document["first"]["layer"]) == (1, "quantised", "mix_3x3")


def test_bytes_of_a_package(package: tw.Package, feeds: Feeds, tmp_path: Path) -> None:
    """The compiler is right, so nothing that is compiled again shows it."""
    (region,) = package.regions
    mine = [i for i, n in enumerate(region.layer_of) if region.layers[n] == "res_a"]
    last = max(i for i in mine if isinstance(decode_stream(region.stream)[i], Vector))

    def damage(i: int, x: Instruction) -> Instruction:
        return replace(x, hi=1) if i == last and isinstance(x, Vector) else x

    found = bisected(changed(package, damage), feeds, ("integer", "fast"), tmp_path)
    assert (found.reproduced, found.layers) == (False, ("res_a",))
    assert run_command(found)[0] == 0


def test_nothing_to_bisect(package: tw.Package, feeds: Feeds, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is nothing to bisect: nothing is wrong"):
        bisected(package, feeds, ("integer", "fast"), tmp_path)
