"""What a user may import, and that importing it starts nothing."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import tilewright as tw

NAMES = [
    "Board",
    "Dataset",
    "Evaluation",
    "Exploration",
    "Exported",
    "LayerRow",
    "Model",
    "Overlay",
    "Package",
    "Pipeline",
    "Plan",
    "Preprocess",
    "QuantizeOptions",
    "Session",
    "Support",
    "TilewrightError",
    "Tuned",
    "Verification",
    "compile",
    "connect",
    "evaluate",
    "explore",
    "export",
    "load",
    "open_dataset",
    "overlay",
    "overlays",
    "plan",
    "quantize",
    "supported",
    "target",
    "tune",
    "verify",
]


def test_names() -> None:
    assert tw.__all__ == NAMES == sorted(NAMES)
    assert set(NAMES) <= set(dir(tw))


def test_names_for_type_checkers_are_the_same() -> None:
    """The imports under TYPE_CHECKING, from which checkers and editors know the names."""
    tree = ast.parse(Path(inspect.getfile(tw)).read_text(encoding="utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If))
    found = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(found) == NAMES
    assert found == {name: f"tilewright.{module}" for name, module in tw._HOME.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_documented(name: str) -> None:
    value = getattr(tw, name)
    assert value.__doc__ and value.__module__.startswith("tilewright")


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'tilewright' has no attribute 'quantise'"):
        tw.quantise  # type: ignore[attr-defined]  # noqa: B018


def test_the_folder_quantize_does_not_hide_the_function() -> None:
    code = (
        "import tilewright as tw\n"
        "import tilewright.quantize.options\n"
        "from tilewright.quantize import QuantizeOptions\n"
        "assert tw.quantize.__module__ == 'tilewright.pipeline'\n"
        "assert tw.QuantizeOptions is QuantizeOptions\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_importing_is_light() -> None:
    """Neither `import tilewright` nor loading and quantising starts TVM."""
    code = (
        "import sys, tilewright as tw\n"
        "heavy = {'tvm', 'onnx', 'onnxruntime', 'numpy', 'typer'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "tw.load, tw.quantize, tw.compile, tw.evaluate, tw.Package\n"
        "assert 'tvm' not in sys.modules and 'typer' not in sys.modules\n"
        "import tilewright.cli.app\n"
        "assert 'tvm' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
