"""The BYOC hook: TVM's `RunCodegen` gives it the region functions and gets a module that runs them.

The module (`native/region_module.cc`) holds streams, constants and memory maps, is binary-serialisable and so survives
`export_library`; the process that loads it imports `tilewright` first, which registers the module's kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import tvm_ffi
from tvm import relax
from tvm.ir import IRModule

from tilewright.codegen.compile import compile_region
from tilewright.codegen.graph import Graph
from tilewright.errors import ConfigError, Fault, TilewrightError
from tilewright.runtime import tvm_module
from tilewright.targets.binary import Writer
from tilewright.targets.config import Overlay
from tilewright.targets.program import encode_region
from tilewright.targets.region import CompiledRegion

CODEGEN = "tilewright"
"""Name before the dot of a composite, and the value of a region function's attribute `Codegen`."""
OVERLAY_OPTION = "overlay"
"""Key of RunCodegen's options under which the overlay comes, as the JSON text of `Overlay.to_dict()`."""
MODULE_MAGIC = b"TWMB\x01\x00"

Lift: TypeAlias = Callable[[Any], Graph]
Module: TypeAlias = Any


class _Failure:
    """The last error of the hook: TVM turns a Python exception into one of its own kinds on its way."""

    error: TilewrightError | None = None


def module_bytes(regions: Sequence[CompiledRegion], overlay: Overlay) -> bytes:
    """What the C++ module is made from; `native/region_module.cc` defines the layout."""
    w = Writer()
    w.raw(MODULE_MAGIC)
    w.u32(len(regions))
    for region in regions:
        for part in (encode_region(region, overlay), region.stream, region.constants):
            w.u64(len(part))
            w.raw(part)
    return w.bytes()


def region_module(regions: Sequence[CompiledRegion], overlay: Overlay) -> Module:
    """A TVM module with one function for each region, named like it; arguments are operands, then results."""
    tvm_module.load()
    return tvm_ffi.get_global_func("ffi.Module.load_from_bytes.tilewright")(module_bytes(regions, overlay))


def overlay_of(options: Mapping[str, Any] | None) -> Overlay:
    """The overlay in RunCodegen's options. Raises ConfigError where they hold none."""
    if options is None or OVERLAY_OPTION not in options:
        raise ConfigError(
            Fault("RunCodegen was given no overlay", remedy="use byoc.run_codegen(module, overlay)")
        )
    return Overlay.from_dict(json.loads(str(options[OVERLAY_OPTION])), "the options of RunCodegen")


def register(lift: Lift) -> None:
    """Register `relax.ext.tilewright`; `lift` reads a region function. A second call replaces the first."""

    def hook(functions: Sequence[Any], options: Mapping[str, Any] | None, _: object) -> list[Module]:
        try:
            overlay = overlay_of(options)
            return [region_module([compile_region(lift(f), overlay) for f in functions], overlay)]
        except TilewrightError as error:
            _Failure.error = error
            raise

    tvm_ffi.register_global_func(f"relax.ext.{CODEGEN}", hook, override=True)


def run_codegen(mod: IRModule, overlay: Overlay) -> IRModule:
    """Replace the module's regions by calls of their compiled form.

    Needs :func:`register`. Raises ScheduleError and the like, of the region that does not compile.
    """
    options = {CODEGEN: {OVERLAY_OPTION: json.dumps(overlay.to_dict(), sort_keys=True)}}
    _Failure.error = None
    try:
        return relax.transform.RunCodegen(options)(mod)
    except Exception:
        error, _Failure.error = _Failure.error, None
        if error is not None:
            raise error from None
        raise
