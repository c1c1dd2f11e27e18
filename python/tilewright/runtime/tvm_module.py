"""Make TVM able to load and run our modules: needed in every process that loads an exported library."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from tilewright.errors import ConfigError
from tilewright.runtime.native import library_path


@cache
def load() -> None:
    """Load the library that registers `ffi.Module.load_from_bytes.tilewright` and
    `tilewright.host.operator`.

    Imports tvm_ffi (not TVM), for the library finds libtvm_ffi through it. Raises ImportError where the installation
    is not complete.
    """
    import tvm_ffi  # noqa: F401

    ctypes.CDLL(str(library_path("libtilewright_tvm.so")), mode=ctypes.RTLD_GLOBAL)


def use_device(module: Any, uri: str) -> None:
    """Let the regions of a TVM module run on the device of that text, as `Session` takes it, from now on.

    Args:
        module: a `tvm.runtime.Module`, such as a loaded library or the `mod` of what `tvm.compile` gives.
        uri: `sim` or `zynq:registers=..,memory=..`.

    Raises ConfigError where the module has no regions; else what the module's own functions raise, RuntimeError or
    ValueError: the text is wrong, no device answers, or it has another overlay.
    """
    found: list[Any] = []
    waiting: list[Any] = [module]
    while waiting:
        one = waiting.pop()
        waiting.extend(one.imports)
        if one.kind == "tilewright":
            found.append(one)
    if not found:
        raise ConfigError(f"the module of kind {module.kind!r} has no accelerator regions")
    for one in found:
        one["set_device"](uri)
