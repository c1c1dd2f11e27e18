"""Rewrites of ONNX graphs before quantisation, one a file; see :func:`canonicalise`.

Everything whose values need a range of their own must be a node of the graph when the quantiser looks at
it: later passes never introduce a rounding that the quantised model does not show.

The canonical form of a float model. Shapes are fixed, maps are NCHW, constants are initialisers, axes and
indices are not negative; of two operands the constant or broadcast one is the second.

    Conv, ConvTranspose     2-D, all attributes given, no auto_pad; inputs x, weight, bias; a shift without bias
    Gemm                    transB = 1 only; inputs x [M,K], weight [N,K], bias [N]
    MaxPool, AveragePool    2-D, all attributes given, no auto_pad; ceil_mode stays
    GlobalAveragePool
    Add, Mul                of two activations, or of one and a number
    Max, Min                of two activations
    Pow, Div                of an activation and a number; Div also of two activations that are no norm
    Relu, Clip, PRelu       Clip with two constant bounds; slope [C,1,1], or [C] after Gemm
    unary                   LeakyRelu, Sigmoid, Tanh, HardSigmoid, HardSwish, Elu, Selu, Celu, Softplus,
                            Softsign, Abs, Exp, Log, Sqrt, Erf, Gelu, Mish, ... as in the file
    Concat, Slice, Split, Reshape, Transpose, DepthToSpace, SpaceToDepth, Pad
    Resize                  nearest by whole factors: asymmetric, floor, scales given; others as in the file
    Identity                only where an input or an output is an output as well

A per-channel scale and shift that nothing takes in is a Conv with group = C and a 1x1 kernel. Everything
else (Softmax, ArgMax, MatMul of two activations, reductions over other axes, ...) is as in the file.

A quantised model keeps its operators and their arithmetic; of these passes only those run that leave it alone.
Weights are integers behind a DequantizeLinear, and sums that nothing rounds are closed (close_outputs).
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx import ModelProto

from ...errors import Fault, ModelError
from ..graph import OPSET, Graph
from ..infer_types import infer_types
from .add_bias import AddBias
from .affine_to_conv import AffineToConv
from .base import NodePass, RewritePass, check_graph, run_passes
from .clip_forms import ClipForms
from .close_outputs import CloseOutputs
from .div_to_mul import DivToMul
from .explicit_windows import ExplicitWindows
from .fold_affine import FoldAffine
from .fold_constants import FoldConstants
from .fold_pad import FoldPad
from .fold_quantised import FoldQuantised
from .gemm_forms import GemmForms
from .hard_activations import HardActivations
from .index_forms import IndexForms
from .lift_1d import Lift1d
from .lower_lrn import LowerLrn
from .lower_normalize import LowerNormalize
from .merge_duplicates import MergeDuplicates
from .operand_order import OperandOrder
from .pact_forms import PactForms
from .prelu_forms import PreluForms
from .reduce_forms import ReduceForms
from .remove_dead import RemoveDead
from .remove_identity import RemoveIdentity
from .reshape_forms import ReshapeForms
from .resize_forms import ResizeForms
from .shift_forms import ShiftForms
from .sum_to_add import SumToAdd

# Folding comes before affine_to_conv, which takes what no layer could take in.
PASSES: tuple[RewritePass, ...] = (
    FoldConstants(),
    FoldQuantised(),
    RemoveDead(),
    OperandOrder(),
    RemoveIdentity(),
    MergeDuplicates(),
    IndexForms(),
    ReshapeForms(),
    ExplicitWindows(),
    ResizeForms(),
    Lift1d(),
    GemmForms(),
    SumToAdd(),
    ReduceForms(),
    PactForms(),
    ClipForms(),
    PreluForms(),
    HardActivations(),
    ShiftForms(),
    FoldPad(),
    LowerLrn(),
    LowerNormalize(),
    DivToMul(),
    FoldAffine(),
    AffineToConv(),
    AddBias(),
    CloseOutputs(),
)

__all__ = ["PASSES", "NodePass", "RewritePass", "canonicalise", "check_graph", "run_passes"]


def canonicalise(
    model: ModelProto, passes: Sequence[RewritePass] = PASSES, *, debug: bool | None = None
) -> ModelProto:
    """Bring a model into the form that quantiser and compiler work on.

    Args:
        model: from :func:`tilewright.frontend.load_onnx`; it is not changed.
        passes: what to run, to a fixed point. On a model with QuantizeLinear or DequantizeLinear nodes only
            those run that leave its arithmetic as it is.
        debug: check the graph after each pass; default: if ``TILEWRIGHT_DEBUG`` is 2 or more.

    Returns:
        a model with the same inputs and outputs. :func:`tilewright.frontend.folded_nodes` tells what became
        of nodes that are gone, :func:`tilewright.frontend.node_origins` where new ones come from.

    Raises:
        ModelError: the model is not at opset 21, or contradicts itself.
    """
    found = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if found != [OPSET]:
        message = f"expected opset {OPSET}, found {found or 'none'}"
        raise ModelError(Fault(message, "opset_import", "read the model with load_onnx"))
    graph = Graph.from_model(model)
    infer_types(graph)
    run_passes(graph, passes, debug=debug)
    return graph.to_model()
