"""Tutorial scripts as notebooks, which are executed and rendered with their plots."""

from __future__ import annotations

import os
import re
from pathlib import Path

_NUMBERED = re.compile(r"\d\d_\w+\.py")


def scripts(folder: Path) -> list[Path]:
    """The tutorials, in order."""
    return sorted(path for path in folder.glob("*.py") if _NUMBERED.fullmatch(path.name))


def notebook(script: Path) -> str:
    """The script, in cells of the percent format, as an .ipynb file.

    A hidden first cell gives it `__file__`, which notebooks have not. One that needs the folder of TILEWRIGHT_DATA is
    not executed where that is not set.
    """
    import jupytext
    from nbformat.v4 import new_code_cell

    made = jupytext.read(script, fmt="py:percent")
    hidden = f"__file__ = {str(script.resolve())!r}\nimport sys\nsys.argv = [__file__]"
    made.cells.insert(0, new_code_cell(hidden, metadata={"tags": ["remove-cell"]}))
    made.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    if "TILEWRIGHT_DATA" in script.read_text(encoding="utf-8") and "TILEWRIGHT_DATA" not in os.environ:
        made.metadata["mystnb"] = {"execution_mode": "off"}
    return str(jupytext.writes(made, fmt="ipynb"))
