"""Give TVM, in any process that imports `tilewright`, what it needs of us: exported libraries that hold accelerator
regions can be loaded, `tilewright/OVERLAY` are targets, `relax_pipeline="tilewright"` is known.

Importing TVM here would make every import of `tilewright` slow, so each part waits until somebody imports the module
of TVM that it belongs to.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PIPELINE = "tilewright"


def _register_module() -> None:
    """The kind of our modules. The library that registers it needs tvm_ffi in the process."""
    from tilewright.runtime import tvm_module

    try:
        tvm_module.load()
    except ImportError:
        return  # an incomplete build: reported when a region is compiled or run


def _register_tags() -> None:
    importlib.import_module("tilewright.target").register_tags()


def _register_pipeline() -> None:
    """Our pipeline by its name; what it is made of is imported when somebody asks for it."""

    def make(**options: Any) -> Any:
        return importlib.import_module("tilewright.relay_passes.pipeline").tilewright_pipeline(**options)

    registered = importlib.import_module("tvm.relax.pipeline")
    if PIPELINE not in registered.PIPELINE_MAP:
        registered.register_pipeline(PIPELINE)(make)


_WAITING: dict[str, Callable[[], None]] = {
    "tvm_ffi": _register_module,
    "tvm.target": _register_tags,
    "tvm.relax.pipeline": _register_pipeline,
}
"""What is registered once a module of TVM is loaded."""


class _After(MetaPathFinder):
    """Finds TVM's modules as Python does, and registers our part once they are loaded."""

    def __init__(self, waiting: dict[str, Callable[[], None]]) -> None:
        self._waiting = waiting

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._waiting:
            return None
        register = self._waiting.pop(name)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                register()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Register each part now if its module is loaded, else as soon as it is. Calling it twice does no harm."""
    waiting: dict[str, Callable[[], None]] = {}
    for name, register in _WAITING.items():
        if name in sys.modules:
            register()
        else:
            waiting[name] = register
    if not any(isinstance(finder, _After) for finder in sys.meta_path):
        sys.meta_path.insert(0, _After(waiting))
