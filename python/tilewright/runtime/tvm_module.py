"""Make TVM able to load and run our modules: needed in every process that loads an exported library."""

from __future__ import annotations

import ctypes
from functools import cache

from tilewright.runtime.native import library_path


@cache
def load() -> None:
    """Load the library that registers `ffi.Module.load_from_bytes.tilewright` and
    `tilewright.host.detection_output`.

    Imports tvm_ffi (not TVM), for the library finds libtvm_ffi through it. Raises ImportError where the installation
    is not complete.
    """
    import tvm_ffi  # noqa: F401

    ctypes.CDLL(str(library_path("libtilewright_tvm.so")), mode=ctypes.RTLD_GLOBAL)
