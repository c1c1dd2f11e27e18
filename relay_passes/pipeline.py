"""The passes in their order, by name, and the pipeline that `tvm.compile(..., relax_pipeline="tilewright")` runs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Protocol

from tvm import relax, transform
from tvm.ir import IRModule
from tvm.target import Target

from tilewright.errors import ConfigError, Fault
from tilewright.relay_passes.collapse_layouts import CollapseLayouts
from tilewright.relay_passes.partition import Partition
from tilewright.relay_passes.qdq_to_integer import QdqToInteger
from tilewright.targets.config import Overlay, overlay

PIPELINE = "tilewright"


class Pass(Protocol):
    """A pass: a frozen dataclass whose fields are its options."""

    name: str

    def __call__(self, module: IRModule) -> IRModule:
        """Rewrite a module."""


PASSES: dict[str, Callable[[Overlay], Pass]] = {
    QdqToInteger.name: lambda target: QdqToInteger(target.acc_bits, target.inp_bits),
    CollapseLayouts.name: lambda target: CollapseLayouts(),
    Partition.name: Partition,
}
"""All passes by name, in the order of the pipeline; made for an overlay."""

INTEGER_PASSES = (QdqToInteger.name, CollapseLayouts.name)
"""Those that come before partitioning; their result runs by TVM llvm alone."""

_SPEC = re.compile(r"(?P<name>\w+)(\{(?P<options>[^{}]*)\})?")


def make_pass(spec: str, target: Overlay) -> Pass:
    """A pass from `name` or `name{option=value,...}`. Raises ConfigError naming what is unknown.

    >>> from tilewright.targets.config import overlay
    >>> make_pass("qdq_to_integer{acc_bits=27}", overlay("ultra96-w8"))
    QdqToInteger(acc_bits=27, inp_bits=8)
    """
    match = _SPEC.fullmatch(spec.strip())
    if match is None or match["name"] not in PASSES:
        raise ConfigError(Fault(f"expected one of the passes {', '.join(PASSES)}, found {spec!r}", "-p"))
    found = PASSES[match["name"]](target)
    fields = {f.name: f for f in dataclasses.fields(found) if f.type in ("int", int)}  # type: ignore[arg-type]
    options: dict[str, Any] = {}
    for item in filter(None, (match["options"] or "").split(",")):
        key, _, value = item.partition("=")
        if key.strip() not in fields:
            known = ", ".join(fields) or "none"
            raise ConfigError(
                Fault(f"expected an option of {found.name} ({known}), found {key.strip()!r}", "-p")
            )
        try:
            options[key.strip()] = int(value)
        except ValueError:
            raise ConfigError(
                Fault(f"expected a whole number for {key.strip()}, found {value!r}", "-p")
            ) from None
    return dataclasses.replace(found, **options)  # type: ignore[type-var]


def integer_passes(target: Overlay) -> list[Pass]:
    """The passes down to the integer level."""
    return [PASSES[name](target) for name in INTEGER_PASSES]


def partitioned(module: IRModule, target: Overlay) -> IRModule:
    """An imported quantised module with its accelerator regions."""
    for make in PASSES.values():
        module = make(target)(module)
    return module


def current_overlay() -> Overlay:
    """The overlay that the current TVM target names in `model`. Raises ConfigError without one."""
    target = Target.current(allow_none=True)
    model = None if target is None else target.attrs.get("model")
    if model is None:
        raise ConfigError(
            Fault("no overlay is known", remedy='compile with target=tilewright.target("ultra96-w8")')
        )
    return overlay(str(model))


def host_lowering() -> transform.Pass:
    """TVM's own passes for what stays on the host: its operators fused, then the default build pipeline."""
    return transform.Sequential([relax.get_pipeline("zero"), relax.get_pipeline("default_build")])


def tilewright_pipeline() -> transform.Pass:
    """Integer level, regions, their streams by the BYOC hook, and TVM's lowering of the host's part."""

    @transform.module_pass(opt_level=0)  # type: ignore[untyped-decorator]
    def run(module: IRModule, context: transform.PassContext) -> IRModule:
        # Imported here: the hook needs the native runtime, the passes do not.
        from tilewright.codegen import byoc
        from tilewright.codegen.lift import lift

        target = current_overlay()
        byoc.register(lift)
        return host_lowering()(byoc.run_codegen(partitioned(module, target), target))

    return run
