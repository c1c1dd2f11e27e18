"""What targets/README.md says of overlays, and that the package stands alone."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import tilewright.targets
from tilewright.errors import ConfigError
from tilewright.targets.config import Overlay, overlay, overlays
from tilewright.targets.isa.spec import Matrix, Vector, layout

FOLDER = Path(tilewright.targets.__file__).parent


def test_overlays_are_listed_with_their_figures() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for o in overlays().values():
        sizes = f"{o.act_kib}/{o.wgt_kib}/{o.acc_kib}/{o.param_kib}"
        bits = f"{o.inp_bits}/{o.wgt_bits}/{o.acc_bits}"
        row = f"| `{o.name}` | {o.board.name} | {o.block_in} x {o.block_out} | {bits} | {o.vector_lanes} "
        assert f"{row}| {sizes} | {o.mhz} |" in text


def test_bits_used() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    vector, matrix = (layout(kind)[-1].offset + layout(kind)[-1].bits.width for kind in (Vector, Matrix))
    assert f"VECTOR fills it ({vector} bits); MATRIX uses {matrix}." in text


def test_quoted_messages_are_real() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    try:
        Overlay.from_dict(
            overlay("ultra96-w8").to_dict() | {"act_kib": 100, "acc_kib": 64}, "overlays/x.toml"
        )
    except ConfigError as error:
        assert str(error) in text


def test_imports_neither_tvm_nor_the_compiler() -> None:
    allowed = {"numpy", "tomli", *sys.stdlib_module_names}
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                names = [node.module or ""]
            for name in names:
                ours = name == "tilewright.errors" or name.startswith("tilewright.targets")
                assert ours or name.split(".")[0] in allowed, f"{path} imports {name}"
