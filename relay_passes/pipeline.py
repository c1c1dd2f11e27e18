"""The passes in their order, by name, and the pipeline that `tvm.compile(..., relax_pipeline="tilewright")` runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tvm import relax, transform
from tvm.ir import IRModule
from tvm.target import Target

from tilewright import debug
from tilewright.errors import ConfigError, Fault
from tilewright.relay_passes.collapse_layouts import CollapseLayouts
from tilewright.relay_passes.partition import Partition
from tilewright.relay_passes.qdq_to_integer import QdqToInteger
from tilewright.targets.config import Overlay, overlay

PIPELINE = "tilewright"


class Pass(Protocol):
    """A pass: a frozen dataclass whose fields are its options.

    `takes` and `gives` are the levels of modules: graph (as imported), integer, regions.
    """

    name: str
    takes: str
    gives: str

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


def run_pass(step: Pass, module: IRModule) -> IRModule:
    """Run a pass, and tell of it where TILEWRIGHT_DEBUG asks for that."""
    after = step(module)
    if debug.enabled(debug.PASSES):
        counts = [sum(len(block.bindings) for block in m["main"].body.blocks) for m in (module, after)]
        debug.tell(debug.PASSES, "pass %s: %d bindings of main, %d before", step.name, *reversed(counts))
    return after


def integer_passes(target: Overlay) -> list[Pass]:
    """The passes down to the integer level."""
    return [PASSES[name](target) for name in INTEGER_PASSES]


def partitioned(module: IRModule, target: Overlay) -> IRModule:
    """An imported quantised module with its accelerator regions."""
    for make in PASSES.values():
        module = run_pass(make(target), module)
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
        from tilewright.codegen.host_calls import host_calls
        from tilewright.codegen.lift import lift

        target = current_overlay()
        byoc.register(lift)
        return host_lowering()(host_calls(byoc.run_codegen(partitioned(module, target), target)))

    return run
