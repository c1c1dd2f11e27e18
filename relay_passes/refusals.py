"""Why a layer stays on the host: every rule of the matchers and of partitioning, with what the user can do.

A rule is a sentence, with names in braces for what is filled in where it is broken. The matchers raise them, reports
show them, and the page of supported operators (`page.py`) is printed from them. What the code generator cannot take has
its own table (`codegen/legal.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.integer.predicate import Reject
from tilewright.relay_passes.thresholds import MOST_BITS

STAYS = "it runs on the host; "
"""Begins a remedy where `tvm.compile` needs none; it does not hold where the host's part is a package's."""
ON_HOST = f"{STAYS}express it by other operators to change that"
PAIR_BEFORE = "put a QuantizeLinear/DequantizeLinear pair before it"
PAIR_BEHIND = "put a QuantizeLinear/DequantizeLinear pair behind it"
PAIR_EACH = "put a QuantizeLinear/DequantizeLinear pair behind each operand"
CHECK_SCALES = "calibrate again: one of the scales belongs to a tensor that is always 0, or to other data"
WEIGHT_MAX = 255
"""Largest magnitude of a weight less its zero point: 8 bits and a sign."""
SCALES_LIMIT_BITS = 22


@dataclass(frozen=True)
class Refusal:
    """A rule that a layer can break.

    Attributes:
        rule: what is expected, with names in braces.
        remedy: what the reader can do; "" where the value found says it.
    """

    rule: str
    remedy: str = ON_HOST

    def reject(self, found: str, where: str = "", remedy: str = "", **values: object) -> Reject:
        """The rule broken by what was found, with its names filled in."""
        return Reject(self.rule.format(**values), found, where, remedy or self.remedy)


# Every layer
NOT_QUANTISED = Refusal(
    "a layer must lie between DequantizeLinear and QuantizeLinear",
    "quantise the model, or put a QuantizeLinear/DequantizeLinear pair behind it",
)
OPERATOR = Refusal("an operator must be one that the integer level has")
ALL_OPERANDS = Refusal("all operands must be quantised tensors, {layer} is not", "")
OPERAND = Refusal("operand {layer} must be a quantised tensor", "")
OPERAND_SCALE = Refusal("the operand {layer} must be a quantised tensor", PAIR_BEHIND)
CONSTANT_OPERAND = Refusal("an operand must be computed at run time")
CONSTANT = Refusal("a tensor must be computed at run time")
ONE_IMAGE = Refusal("a tensor must be that of one image", "compile the model of one image with --batch")
BEHIND_HOST = Refusal("a layer must not depend on a function of the host's runtime", "nothing can be done")

# Convolution, dense
CONV_LAYOUT = Refusal("a convolution must be NCHW with OIHW weights")
TRANSPOSED_LAYOUT = Refusal("a transposed convolution must be NCHW with IOHW weights")
MATRIX_PRODUCT = Refusal(
    "a matrix product must be a vector (1, K) times a constant matrix (K, N)",
    "use a 1x1 convolution for several positions",
)
WEIGHTS = Refusal(
    "the weights must be constants behind a DequantizeLinear",
    "quantise the weights as well: integers behind a DequantizeLinear",
)
WEIGHT_RANGE = Refusal(
    f"weights less their zero point must lie in -{WEIGHT_MAX}..{WEIGHT_MAX}", "quantise the weights to 8 bits"
)
WEIGHT_SCALES = Refusal(
    "weights must have one scale per output channel (axis {axis})",
    "quantise per output channel or per tensor",
)
SUMS = Refusal(
    "sums must fit {bits} bits (at most {top})",
    "compile for an overlay of wider sums (`tilewright targets`), quantise with a larger weight scale, or split the "
    "layer's input channels",
)
SIGN_SUMS = Refusal(
    "sums before one bit must fit {bits} bits (at most {top})",
    "compile for an overlay of wider sums (`tilewright targets`), or split the input channels",
)
SCALES = Refusal("scale(inputs) / scale(output) must be below {limit}", CHECK_SCALES)
THRESHOLDS = Refusal(
    f"results of {MOST_BITS} bits or fewer must change at the quantised model's own sums",
    "choose an even zero point, or scales that are no powers of two times each other",
)
SIGN_PRELU = Refusal("no PReLU may come before one bit", "leave it out: it keeps the sign")

# What follows a sum
CHANNEL_CONSTANT = Refusal(
    "the constant operand of {layer} ({op}) must be one number or one a channel", PAIR_BEFORE
)
PRELU_FIRST = Refusal("at most one PReLU may come before QuantizeLinear, and no bound before it", PAIR_BEFORE)
PRELU_THEN_ADD = Refusal("nothing may be added after a PReLU before QuantizeLinear", PAIR_BEFORE)
BOUND_THEN_ADD = Refusal("what is added after Relu or Clip must be one number", PAIR_BEFORE)
POSITIVE_FACTOR = Refusal("a factor after PReLU, Relu or Clip must be positive", PAIR_BEFORE)
CLIP_THEN_FACTOR = Refusal("a factor after Clip must be one number", PAIR_BEFORE)
DIVISOR = Refusal("a sum must not be a divisor", PAIR_BEFORE)
PRELU_CHANNELS = Refusal("the slope of a PReLU must be one constant a channel", PAIR_BEFORE)
SLOPE = Refusal("the slope of a PReLU must be below 64")
ONE_BOUND = Refusal("a bound must be one number for all channels")
AFFINE_RANK = Refusal(
    "a factor or offset a channel needs a map (1, C, H, W)", "fold it into the layer before"
)

# Sums and products of two tensors
PAIR_OPERAND = Refusal("an operand of a sum or product must be a quantised tensor", PAIR_EACH)
PAIR_RANK = Refusal("a sum or product must be of maps (1, C, H, W) or vectors (1, K)")
PAIR_SHAPE = Refusal(
    "one operand of a sum or product must have the result's shape", "resize one operand before"
)
PAIR_EPILOGUE = Refusal(
    "what follows a sum or product of tensors must be the same for all channels", PAIR_BEFORE
)
PAIR_ONE_BIT = Refusal(
    "a sum of two tensors must be rounded to more than one bit",
    "put a QuantizeLinear/DequantizeLinear pair of 8 bits behind the sum",
)
PAIR_SCALES = Refusal(f"scale(input) / scale(output) must be in 0..2^{SCALES_LIMIT_BITS}", CHECK_SCALES)
PLAIN_FACTOR = Refusal("a factor must be a quantised tensor", PAIR_EACH)

# Pooling
MAX_POOL = Refusal("max pooling must be 2-D with explicit padding")
FALLING = Refusal(
    "what follows a max pool whose operand has no scale of its own must be a function that never falls",
    "put a QuantizeLinear/DequantizeLinear pair behind the pool",
)
AVERAGE_RANK = Refusal("average pooling must be 2-D")
AVERAGE_LAYOUT = Refusal("average pooling must be NCHW without dilation")
AVERAGE_WINDOW = Refusal("each window of an average pool must hold an element")
AVERAGE_EPILOGUE = Refusal(
    "what follows an average pool must be the same for all channels",
    "put a QuantizeLinear/DequantizeLinear pair behind the pool",
)
MEAN_AXES = Refusal("a mean must be over H and W")
ADAPTIVE = Refusal("adaptive average pooling must give one element")

# Functions of one element
ELEMENT_FUNCTION = Refusal(
    "{op} must be a function of one element with one number for all channels",
    "put a QuantizeLinear/DequantizeLinear pair between it and its neighbours",
)
TABLE_BITS = Refusal("a function of one element {does} 8 bits", "quantise to 8 bits")
GRID = Refusal(
    "a function between DequantizeLinear and this layer must give values of the tensor's own grid",
    "put a QuantizeLinear/DequantizeLinear pair behind the function",
)

# Changes of layout, shifts
LAYOUT = Refusal("a layout operator must be one that the integer level has")
LONE_LAYOUT = Refusal(
    "a layout runs on the accelerator if a layer there makes what it reads, or reads what it makes",
    "nothing needs to be done",
)
FLATTENED = Refusal(
    "a flattened map may be read by dense layers only",
    f"{STAYS}keep the map's shape up to the dense layer",
)
SHIFT_PADDING = Refusal(
    "the padding of {layer} must be a value that the tensor's scale can hold",
    "put a QuantizeLinear/DequantizeLinear pair behind the padding",
)

# Rounding
MAGNITUDE_ROUNDING = Refusal(
    "numbers that may be negative must be rounded to the nearest, down or up",
    "export with rounding mode ROUND, FLOOR, CEIL, HALF_UP or HALF_DOWN",
)
DEAD_CHANNEL = Refusal(
    "a channel that does not depend on the input must be rounded to the nearest",
    "export with rounding mode ROUND",
)
PRELU_ROUNDING = Refusal("a PReLU's result must be rounded to even, down or up", "export with ROUND")

GROUPS: dict[str, tuple[Refusal, ...]] = {
    "every layer": (
        NOT_QUANTISED,
        OPERATOR,
        ALL_OPERANDS,
        OPERAND,
        OPERAND_SCALE,
        CONSTANT_OPERAND,
        CONSTANT,
        ONE_IMAGE,
        BEHIND_HOST,
    ),
    "convolutions and dense layers": (
        CONV_LAYOUT,
        TRANSPOSED_LAYOUT,
        MATRIX_PRODUCT,
        WEIGHTS,
        WEIGHT_RANGE,
        WEIGHT_SCALES,
        SUMS,
        SIGN_SUMS,
        SCALES,
        THRESHOLDS,
        SIGN_PRELU,
    ),
    "what follows a layer before its rounding": (
        CHANNEL_CONSTANT,
        PRELU_FIRST,
        PRELU_THEN_ADD,
        BOUND_THEN_ADD,
        POSITIVE_FACTOR,
        CLIP_THEN_FACTOR,
        DIVISOR,
        PRELU_CHANNELS,
        SLOPE,
        ONE_BOUND,
        AFFINE_RANK,
    ),
    "sums and products of two tensors": (
        PAIR_OPERAND,
        PAIR_RANK,
        PAIR_SHAPE,
        PAIR_EPILOGUE,
        PAIR_ONE_BIT,
        PAIR_SCALES,
        PLAIN_FACTOR,
    ),
    "pooling": (
        MAX_POOL,
        FALLING,
        AVERAGE_RANK,
        AVERAGE_LAYOUT,
        AVERAGE_WINDOW,
        AVERAGE_EPILOGUE,
        MEAN_AXES,
        ADAPTIVE,
    ),
    "functions of one element": (ELEMENT_FUNCTION, TABLE_BITS, GRID),
    "changes of layout and shifts": (LAYOUT, LONE_LAYOUT, FLATTENED, SHIFT_PADDING),
    "rounding": (MAGNITUDE_ROUNDING, DEAD_CHANNEL, PRELU_ROUNDING),
}
"""All refusals, by what they are about."""


@dataclass(frozen=True)
class Unquantised:
    """Why a tensor is not taken for a quantised one: what is found where an operand must be one.

    Attributes:
        why: with names in braces.
        remedy: what the reader can do.
    """

    why: str
    remedy: str = "put a QuantizeLinear/DequantizeLinear pair before this layer"


NO_PAIR = Unquantised("it is not quantised")
NO_TENSOR = Unquantised("it is no tensor")
A_TUPLE = Unquantised("it is a tuple")
OTHER_TUPLE = Unquantised("it comes from {op}, which the integer level does not have")
COMPUTED_SCALE = Unquantised("its scale is computed at run time", "quantise with scales that are constants")
WIDE_TENSOR = Unquantised(
    "it is quantised to {dtype} and not to 16 bits or fewer", "quantise it to 8 bits or fewer"
)
CHANNEL_SCALES = Unquantised(
    "it has {count} scales and not one for the tensor",
    "quantise activations per tensor; per channel is for weights",
)

UNQUANTISED = (NO_PAIR, NO_TENSOR, A_TUPLE, OTHER_TUPLE, COMPUTED_SCALE, WIDE_TENSOR, CHANNEL_SCALES)
"""All reasons why an operand is none that the accelerator can have."""
