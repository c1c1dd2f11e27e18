"""The page of supported operators, as `tilewright supported --list` prints it and SUPPORTED.md holds it.

It is printed from the tables that decide: matchers, layouts and functions of one element (`match/`), the rules of the
matchers (`refusals.py`), those of the code generator (`codegen/legal.py`) with the machine's figures, and the operators
of the host's runtime (`targets/host_ops.py`). Only the ONNX names are this file's own; a test brings each to the
accelerator.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tilewright.codegen.legal import rules
from tilewright.relay_passes.float_ops import ELEMENTWISE
from tilewright.relay_passes.match.lowering import LAYOUTS
from tilewright.relay_passes.refusals import GROUPS, UNQUANTISED, Refusal
from tilewright.targets.config import Overlay
from tilewright.targets.host_ops import HOST_OPS


@dataclass(frozen=True)
class Family:
    """ONNX operators that run in the same way.

    Attributes:
        operators: of ONNX.
        relax: what they become.
        how: where and how they run.
    """

    operators: tuple[str, ...]
    relax: tuple[str, ...]
    how: str


_AFTER = ("nn.relu", "clip", "maximum", "minimum", "nn.leakyrelu", "nn.prelu", "nn.batch_norm")

FAMILIES = (
    Family(("Conv",), ("nn.conv2d",), "MATRIX; depthwise on VECTOR; a shift costs nothing"),
    Family(("ConvTranspose",), ("nn.conv2d_transpose",), "MATRIX; depthwise on VECTOR"),
    Family(("Gemm", "MatMul"), ("matmul",), "MATRIX"),
    Family(("MaxPool",), ("nn.max_pool2d",), "VECTOR"),
    Family(
        ("AveragePool", "GlobalAveragePool", "ReduceMean"),
        ("nn.avg_pool2d", "nn.adaptive_avg_pool2d", "mean"),
        "VECTOR",
    ),
    Family(("Add", "Sub", "Sum"), ("add", "subtract"), "VECTOR; of a constant: folded into the layer before"),
    Family(("Mul",), ("multiply",), "VECTOR; by a constant: folded into the layer before"),
    Family(
        ("BatchNormalization", "Clip", "LeakyRelu", "PRelu", "Relu"),
        _AFTER,
        "folded into the layer before; alone a function of one element or a depthwise layer",
    ),
    Family(
        (
            "Abs",
            "Ceil",
            "Cos",
            "Div",
            "Elu",
            "Erf",
            "Exp",
            "Floor",
            "Gelu",
            "HardSigmoid",
            "HardSwish",
            "Log",
            "Max",
            "Min",
            "Mish",
            "Neg",
            "Pow",
            "Reciprocal",
            "Round",
            "Selu",
            "Sigmoid",
            "Sign",
            "Sin",
            "Softplus",
            "Softsign",
            "Sqrt",
            "Tanh",
            "ThresholdedRelu",
            "Where",
        ),
        tuple(sorted(set(ELEMENTWISE) - {*_AFTER, "add", "subtract", "multiply"})),
        "VECTOR, by a table of 256 entries; constants only beside the tensor",
    ),
    Family(
        (
            "Concat",
            "DepthToSpace",
            "Flatten",
            "Pad",
            "Reshape",
            "Resize",
            "Slice",
            "Split",
            "Squeeze",
            "Transpose",
            "Unsqueeze",
        ),
        (*LAYOUTS, "split"),
        "where the next layer reads, or where this one writes; as copies where that cannot be",
    ),
    Family(("QuantizeLinear", "DequantizeLinear"), ("quantize", "dequantize"), "the rounding of each layer"),
)


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    columns = list(columns)
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *cells)]


def _refusals(found: Iterable[Refusal]) -> list[str]:
    return _table(
        ("rule", "remedy"),
        ((_names(r.rule), r.remedy or "see below, by what is found") for r in found),
    )


def _names(rule: str) -> str:
    """Names in braces as a page shows them."""
    return rule.replace("{", "*").replace("}", "*")


def page(overlay: Overlay) -> str:
    """The page for an overlay, as Markdown."""
    command = f"tilewright supported --list --target {overlay.name}"
    parts = [
        "# Supported operators",
        f"Printed by `{command}` from the rules that the compiler applies; a test holds this file equal. Of a model,"
        "\n`tilewright supported MODEL --target T` says of each operator where it runs, and why.",
        "## On the accelerator",
        "Between DequantizeLinear and QuantizeLinear, which the quantiser puts there in float models.",
        "\n".join(
            _table(
                ("ONNX", "where", "Relax"),
                ((", ".join(f.operators), f.how, ", ".join(f"`{op}`" for op in f.relax)) for f in FAMILIES),
            )
        ),
        "Other operators of ONNX are first written as these where that can be: see `tilewright opt --list`.",
        "## What a layer must be",
        "A layer that breaks one of these rules runs on the host. Words in italics are filled in.",
    ]
    for group, found in GROUPS.items():
        parts += [f"### Rules: {group}", "\n".join(_refusals(found))]
    parts += [
        "### Where an operand is no quantised tensor",
        "\n".join(_table(("found", "remedy"), ((_names(u.why), u.remedy) for u in UNQUANTISED))),
        f"## What the machine takes: {overlay.name}",
        f"Operands of {overlay.inp_bits} bits and weights of {overlay.wgt_bits}; wider ones, up to 16 and 8 bits, run"
        f" as planes. Sums have {overlay.acc_bits} bits.",
        "\n".join(_table(("rule", "remedy"), rules())),
        "## On the host, in a package",
        "What the package's interpreter runs. A model whose host part needs more compiles with `tvm.compile`.",
        "\n".join(_table(("operator", "what it does"), ((f"`{op.name}`", op.doc) for op in HOST_OPS))),
    ]
    return "\n\n".join(parts) + "\n"
