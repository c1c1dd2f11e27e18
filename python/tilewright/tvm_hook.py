"""Let TVM load exported libraries that hold accelerator regions, in any process that imports `tilewright`.

The module's kind is registered by a library of ours, which needs tvm_ffi in the process. Importing that here would make
every import of `tilewright` slow, so it waits until somebody imports TVM.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_FFI = "tvm_ffi"


class _AfterFfi(MetaPathFinder):
    """Finds tvm_ffi as Python does, and registers our module once it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _FFI:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _register()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _register() -> None:
    from tilewright.runtime import tvm_module

    try:
        tvm_module.load()
    except ImportError:
        return  # an incomplete build: reported when a region is compiled or run


def install() -> None:
    """Register our module kind with TVM now if it is loaded, else as soon as it is. Calling it twice does no harm."""
    if _FFI in sys.modules:
        _register()
    elif not any(isinstance(finder, _AfterFfi) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterFfi())
