"""Functions of the host part whose last bits depend on who computes them -> calls of the runtime's own operators.

IEEE 754 fixes one addition, product, quotient, root or comparison to the bit, so TVM's code and the interpreter of
packages agree on those. It fixes neither exp and its kin nor the order of a long sum: the module calls the runtime for
them, and an exported library gives the bits that a package gives, on every processor.
"""

from __future__ import annotations

from typing import Any

from tvm import relax
from tvm.ir import IRModule, StringImm

from tilewright.codegen.host_lowerings import single_step
from tilewright.targets.host_ops import OPERATOR_FUNCTION, call_text

FUNCTIONS = frozenset(
    f"relax.{name}"
    for name in (
        *("nn.softmax", "nn.log_softmax", "sigmoid", "tanh", "exp", "log", "erf", "power", "rsqrt"),
        *("sum", "mean"),
    )
)
"""The operators, where operands and result are float32."""


def host_calls(module: IRModule) -> IRModule:
    """A module whose `main` calls the runtime for FUNCTIONS; shapes that are not known leave an operator as it is."""
    module = IRModule(module.functions, attrs=module.attrs)
    module["main"] = _Rewrite(module).visit_expr(module["main"])
    return module


@relax.expr_functor.mutator
class _Rewrite(relax.expr_functor.PyExprMutator):  # type: ignore[misc]
    def visit_call_(self, call: Any) -> Any:
        call = self.visit_expr_post_order(call)
        step = single_step(call) if getattr(call.op, "name", None) in FUNCTIONS else None
        if step is None:
            return call
        text = StringImm(call_text(step.op, **step.attributes))
        operands = [a for a in call.args if isinstance(a.ty, relax.TensorType)]
        return relax.call_pure_packed(OPERATOR_FUNCTION, *operands, text, ty_args=call.ty)
