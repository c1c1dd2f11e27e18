"""Every level as text: to look at, to write to a file, and to read back.

| level | looked at | written (`-o`) and read back |
|---|---|---|
| float, quantised | ONNX's own text, large constants left out | `.onnx`; `.textproto`, protobuf's text, all bits |
| graph, integer, regions | TVM script, constants left out | `.json`, TVM's; `.py`, TVM script with constants |
| planned | the plan's JSON | `.json` |
| stream | the listing of each region | `.lst`, which `tilewright assemble` reads |
| package | the listing of each region | `.twp` |

ONNX's text (onnx.printer) is not read back: it writes six digits of each float and dots for 8-bit constants. Reading
TVM script runs Python, so a `.py` is read only where its reader says that he trusts it; JSON is data.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx.printer
from google.protobuf import text_format

from tilewright.errors import ConfigError, Fault, ModelError
from tilewright.frontend.graph import Graph
from tilewright.opt.state import ONNX_LEVELS, RELAX_LEVELS, Level, State
from tilewright.targets.listing import region_listing

if TYPE_CHECKING:
    from tvm.ir import IRModule

_LARGE = 16
"""Elements of a constant that is left out where a level is looked at."""


def show(state: State) -> str:
    """A level as text to look at."""
    if state.level in ONNX_LEVELS:
        graph = state.graph or Graph.from_model(state.onnx())
        model = graph.to_model()
        for item in model.graph.initializer:
            if _elements(item) > _LARGE:
                item.ClearField("raw_data")
                for kind in (
                    "float_data",
                    "int32_data",
                    "int64_data",
                    "double_data",
                    "uint64_data",
                    "string_data",
                ):
                    item.ClearField(kind)
                item.data_location = onnx.TensorProto.EXTERNAL  # printed as "..."
        return str(onnx.printer.to_text(model)).rstrip() + "\n"
    if state.level in RELAX_LEVELS:
        assert state.module is not None
        return str(state.module.script(show_meta=False)).rstrip() + "\n"
    if state.level == "planned":
        assert state.plan is not None
        return state.plan.text()
    return "\n".join(region_listing(region) for region in state.streams)


def _elements(item: onnx.TensorProto) -> int:
    count = 1
    for d in item.dims:
        count *= d
    return count


def _relax(state: State) -> IRModule:
    assert state.module is not None
    return state.module


def _json(state: State) -> bytes:
    import tvm.ir

    return str(tvm.ir.save_json(_relax(state))).encode()


_HEAD = "# Written by `tilewright opt`. Reading this file back runs it as Python.\n"

WRITERS: Mapping[tuple[Level, ...], Mapping[str, Callable[[State], bytes]]] = {
    ("float", "quantised"): {
        ".onnx": lambda s: bytes(s.onnx().SerializeToString(deterministic=True)),
        ".textproto": lambda s: text_format.MessageToString(s.onnx()).encode(),
        ".txt": lambda s: show(s).encode(),
    },
    ("graph", "integer", "regions"): {
        ".json": _json,
        ".py": lambda s: (_HEAD + _relax(s).script(show_meta=True)).encode(),
        ".txt": lambda s: show(s).encode(),
    },
    ("planned",): {".json": lambda s: show(s).encode()},
    ("stream",): {".lst": lambda s: show(s).encode()},
    ("package",): {
        ".twp": lambda s: s.package.to_bytes() if s.package is not None else b"",
        ".lst": lambda s: show(s).encode(),
    },
}
"""By level and suffix what is written."""

READ_SUFFIXES = (".textproto", ".json", ".py")
"""What is read beside networks as `tilewright.load` takes them."""


def check_suffix(level: Level, path: Path) -> Callable[[State], bytes]:
    """What writes a level to a file. Raises ConfigError where its suffix is none of the level's."""
    (formats,) = (formats for levels, formats in WRITERS.items() if level in levels)
    found = formats.get(path.suffix.lower())
    if found is None:
        message = f"expected a file of {', '.join(formats)} for level {level}, found {path.name!r}"
        raise ConfigError(Fault(message, "-o", "choose one of these suffixes"))
    return found


def read_onnx_text(path: Path) -> onnx.ModelProto:
    """Read protobuf's text of a model. Raises ModelError."""
    try:
        return text_format.Parse(_read(path), onnx.ModelProto())
    except text_format.ParseError as error:
        raise ModelError(Fault(f"expected the text of an ONNX model: {error}", str(path), _WROTE)) from None


_WROTE = "give a file that `tilewright opt -o` wrote"


def read_relax(path: Path, trusted: bool) -> IRModule:
    """Read a module from JSON, or from TVM script where it is trusted.

    Raises:
        ConfigError: TVM script that is not trusted.
        ModelError: the file is damaged, or holds no module with a function `main`.
    """
    import tvm
    from tvm.ir import IRModule

    text = _read(path)
    if path.suffix.lower() == ".py":
        if not trusted:
            raise ConfigError(
                Fault(
                    "reading TVM script runs the file as Python",
                    str(path),
                    "give --trust-script for a file of your own, or write it as .json",
                )
            )
        parse: Callable[[str], object] = tvm.script.from_source
    else:
        parse = tvm.ir.load_json
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            module = parse(text)
    except Exception as error:  # noqa: BLE001  TVM raises what it likes, and script whatever its author wrote
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(Fault(f"expected a Relax module: {lines[-1]}", str(path), _WROTE)) from None
    if not isinstance(module, IRModule) or "main" not in {gv.name_hint for gv in module.functions}:
        raise ModelError(
            Fault(f"expected a module with a function main, found {type(module).__name__}", str(path), _WROTE)
        )
    return module


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(
            Fault(f"cannot be read: {error.strerror or error}", str(path), "check the path")
        ) from None
    except UnicodeDecodeError as error:
        raise ModelError(Fault(f"expected text: {error.reason}", str(path), _WROTE)) from None
