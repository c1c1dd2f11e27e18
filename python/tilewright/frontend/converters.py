"""ONNX operators whose TVM converter is wrong, incomplete or opaque, as Relax operators.

Found by `onnx.backend.test`: TVM's converters leave out attributes (IsInf's signs, Resize's axes and antialiasing, the
training modes), give wrong optional outputs (Dropout, LayerNormalization), or refuse types that ONNX allows (Pow). A
converter here returns None where TVM's is right, and raises ValueError for what neither can do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx.helper import tensor_dtype_to_np_dtype
from tvm import relax, runtime
from tvm.ir import GenericConst

from tilewright.frontend.resize_axes import ResizeAxis

Expr: TypeAlias = relax.Expr
Attributes: TypeAlias = dict[str, object]
Converter: TypeAlias = Callable[[relax.BlockBuilder, Sequence[Expr], Attributes], "Expr | None"]


def constant(value: object) -> GenericConst:
    """A Relax constant of exactly the array's type (`relax.const` narrows int64)."""
    return relax.const(runtime.tensor(np.array(value, order="C")))


def value_of(expr: Expr | None) -> NDArray[Any] | None:
    """The value of an optional operand. Raises ValueError where it is computed at run time."""
    if expr is None:
        return None
    if not isinstance(expr, GenericConst):
        raise ValueError("expected a constant operand, found one computed at run time")
    return np.asarray(expr.value.numpy())


def dims_of(expr: Expr) -> list[int]:
    """The shape of an expression."""
    return [int(d) for d in expr.ty.shape.values]


def dtype_of(expr: Expr) -> str:
    """The element type of an expression."""
    return str(expr.ty.dtype).removeprefix("T.")


def _operand(inputs: Sequence[Expr], index: int) -> Expr | None:
    return inputs[index] if index < len(inputs) else None


def _int(attributes: Attributes, key: str, default: int) -> int:
    return int(attributes.get(key, default))  # type: ignore[call-overload, no-any-return]


def _text(attributes: Attributes, key: str, default: str) -> str:
    found = attributes.get(key, default)
    return found.decode() if isinstance(found, bytes) else str(found)


def _outputs(attributes: Attributes) -> int:
    return int(attributes["tvm_custom"]["num_outputs"])  # type: ignore[index]


def _float(bb: relax.BlockBuilder, x: Expr, dtype: str = "float32") -> Expr:
    return x if dtype_of(x) == dtype else bb.normalize(relax.op.astype(x, dtype))


def dropout(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> Expr:
    """Nothing at inference; the mask is true everywhere."""
    if _outputs(attributes) == 1:
        return inputs[0]
    return relax.Tuple([inputs[0], constant(np.ones(dims_of(inputs[0]), np.bool_))])


def is_inf(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> Expr:
    """Infinities of the signs that are asked for."""
    x, wanted = inputs[0], []
    for key, value in (("detect_positive", np.inf), ("detect_negative", -np.inf)):
        if _int(attributes, key, 1):
            wanted.append(bb.normalize(relax.op.equal(x, constant(np.asarray(value, dtype_of(x))))))
    if not wanted:
        return constant(np.zeros(dims_of(x), np.bool_))
    return wanted[0] if len(wanted) == 1 else relax.op.logical_or(*wanted)


def layer_normalization(
    bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes
) -> Expr | None:
    """With its optional results, mean and reciprocal deviation, which TVM leaves empty."""
    if _outputs(attributes) == 1:
        return None
    x, rank = inputs[0], len(dims_of(inputs[0]))
    axes = list(range(_int(attributes, "axis", -1) % rank, rank))
    epsilon = constant(np.float32(attributes.get("epsilon", 1e-5)))  # type: ignore[arg-type]
    mean = bb.normalize(relax.op.mean(x, axes, keepdims=True))
    centred = bb.normalize(relax.op.subtract(x, mean))
    variance = bb.normalize(
        relax.op.mean(bb.normalize(relax.op.multiply(centred, centred)), axes, keepdims=True)
    )
    inverse = bb.normalize(relax.op.rsqrt(bb.normalize(relax.op.add(variance, epsilon))))
    y = bb.normalize(relax.op.multiply(bb.normalize(relax.op.multiply(centred, inverse)), inputs[1]))
    bias = _operand(inputs, 2)
    if bias is not None:
        y = bb.normalize(relax.op.add(y, bias))
    return relax.Tuple([y, mean, inverse][: _outputs(attributes)])


def power(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> Expr | None:
    """The result has the type of the base; integers by float64, which holds them up to 2^53."""
    x, exponent = inputs[:2]
    kind = dtype_of(x)
    if kind.startswith("float"):
        return None if dtype_of(exponent) == kind else relax.op.power(x, _float(bb, exponent, kind))
    wide = [_float(bb, v, "float64") for v in (x, exponent)]
    found = bb.normalize(relax.op.power(*wide))
    if not dtype_of(exponent).startswith("float"):
        found = bb.normalize(relax.op.round(found))
    return relax.op.astype(found, kind)


def _boolean(op: Callable[..., Expr]) -> Converter:
    """A reduction that TVM has not for booleans, by bytes."""

    def convert(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> Expr | None:
        if dtype_of(inputs[0]) != "bool":
            return None
        axes = value_of(_operand(inputs, 1))
        x = bb.normalize(relax.op.astype(inputs[0], "uint8"))
        keep = bool(_int(attributes, "keepdims", 1))
        found = bb.normalize(op(x, None if axes is None else [int(a) for a in axes], keepdims=keep))
        return relax.op.astype(found, "bool")

    return convert


def celu(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> Expr:
    """`max(0, x) + min(0, alpha (exp(x / alpha) - 1))`."""
    x = inputs[0]
    alpha, zero, one = (
        constant(np.asarray(v, dtype_of(x))) for v in (attributes.get("alpha", 1.0), 0.0, 1.0)
    )
    grown = bb.normalize(relax.op.exp(bb.normalize(relax.op.divide(x, alpha))))
    below = bb.normalize(relax.op.multiply(alpha, bb.normalize(relax.op.subtract(grown, one))))
    return relax.op.add(bb.normalize(relax.op.maximum(x, zero)), bb.normalize(relax.op.minimum(below, zero)))


def shape(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> Expr:
    """All shapes are fixed; TVM's own gives a shape where a tensor is wanted."""
    dims = dims_of(inputs[0])
    part = slice(_int(attributes, "start", 0), _int(attributes, "end", len(dims)))
    return constant(np.asarray(dims[part], np.int64))


def mish(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> Expr:
    """`x tanh(log(1 + e^x)) = x t / (t + 2)` with `t = e^x (e^x + 2)`, which loses no digits where e^x is small.

    Above 20 the quotient is 1 in float32.
    """
    x = inputs[0]
    two, most = (constant(np.asarray(v, dtype_of(x))) for v in (2.0, 20.0))
    e = bb.normalize(relax.op.exp(bb.normalize(relax.op.minimum(x, most))))
    t = bb.normalize(relax.op.multiply(e, bb.normalize(relax.op.add(e, two))))
    tanh = bb.normalize(relax.op.divide(t, bb.normalize(relax.op.add(t, two))))
    return relax.op.multiply(x, tanh)


def one_hot(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> Expr:
    """`equal(index, position)` along a new axis; negative indices count from the end."""
    depth, values = value_of(inputs[1]), value_of(inputs[2])
    assert depth is not None and values is not None
    count = int(depth.reshape(-1)[0])
    rank = len(dims_of(inputs[0])) + 1
    axis = _int(attributes, "axis", -1) % rank
    index = bb.normalize(relax.op.expand_dims(_float(bb, inputs[0], "int64"), axis))
    wrapped = bb.normalize(relax.op.add(index, constant(np.int64(count))))
    negative = bb.normalize(relax.op.less(index, constant(np.int64(0))))
    index = bb.normalize(relax.op.where(negative, wrapped, index))
    positions = np.arange(count, dtype=np.int64).reshape([-1 if i == axis else 1 for i in range(rank)])
    hit = bb.normalize(relax.op.equal(index, constant(positions)))
    off, on = (constant(v) for v in values)
    return relax.op.where(hit, on, off)


def compress(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> None:
    """TVM's lowering of it stops at the shape that is known at run time only."""
    raise ValueError("the number of elements that it keeps is known at run time only")


def eye_like(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> Expr:
    """Ones on a diagonal of a fixed shape, in a type of their own."""
    rows, columns = dims_of(inputs[0])
    wanted = _int(attributes, "dtype", 0)
    dtype = tensor_dtype_to_np_dtype(wanted) if wanted else np.dtype(dtype_of(inputs[0]))
    return constant(np.eye(rows, columns, _int(attributes, "k", 0), dtype))


def lp_normalization(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> Expr:
    """`x / norm` of order 1 or 2 along an axis; 0 where the norm is 0."""
    x, order = inputs[0], _int(attributes, "p", 2)
    if order not in (1, 2):
        raise ValueError(f"expected p of 1 or 2, found {order}")
    terms = bb.normalize(relax.op.abs(x) if order == 1 else relax.op.multiply(x, x))
    norm = bb.normalize(relax.op.sum(terms, [_int(attributes, "axis", -1)], keepdims=True))
    if order == 2:
        norm = bb.normalize(relax.op.sqrt(norm))
    zero, one = (constant(np.asarray(v, dtype_of(x))) for v in (0.0, 1.0))
    empty = bb.normalize(relax.op.equal(norm, zero))
    return relax.op.divide(x, bb.normalize(relax.op.where(empty, one, norm)))


def roi_align(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> None:
    """Only mode avg: TVM's maximum is over the interpolated values, ONNX's over their terms."""
    mode = _text(attributes, "mode", "avg")
    if mode != "avg":
        raise ValueError(f"expected mode avg, found {mode}")


def top_k(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> None:
    """TVM sorts no 64-bit numbers without sign."""
    if dtype_of(inputs[0]) == "uint64":
        raise ValueError("expected float or integers up to int64, found uint64")


def resize(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> Expr | None:
    """Axis by axis where TVM's is wrong: sizes that are no product of a scale, chosen axes, antialiasing."""
    x = inputs[0]
    dims = dims_of(x)
    mode = _text(attributes, "mode", "nearest")
    coordinate = _text(attributes, "coordinate_transformation_mode", "half_pixel")
    axes = [int(a) % len(dims) for a in attributes.get("axes", range(len(dims)))]  # type: ignore[attr-defined]
    roi, scales, sizes = (value_of(_operand(inputs, i)) for i in (1, 2, 3))
    policy = _text(attributes, "keep_aspect_ratio_policy", "stretch")
    lengths = [dims[a] for a in axes]
    if sizes is not None and sizes.size:
        factors, out = _from_sizes(lengths, [int(s) for s in sizes], policy)
    elif scales is not None and scales.size:
        factors = [float(s) for s in scales]
        out = [math.floor(f * n) for f, n in zip(factors, lengths, strict=True)]
    else:
        raise ValueError("expected scales or sizes, found neither")
    antialias = bool(_int(attributes, "antialias", 0))
    spatial = all(o == n for a, o, n in zip(axes, out, lengths, strict=True) if a < 2)
    exact = all(f * n == o for f, n, o in zip(factors, lengths, out, strict=True))
    if (
        exact
        and spatial
        and not antialias
        and policy == "stretch"
        and axes == list(range(len(dims)))
        and len(dims) in (3, 4, 5)
        and coordinate != "half_pixel_symmetric"
        and (coordinate != "align_corners" or 1 not in out)
    ):
        return None
    inside = np.ones([1] * len(dims), np.bool_)
    for i, axis in enumerate(axes):
        if out[i] == lengths[i] and coordinate != "tf_crop_and_resize":
            continue
        part = ResizeAxis(
            lengths[i],
            out[i],
            factors[i],
            mode,
            coordinate,
            _text(attributes, "nearest_mode", "round_prefer_floor"),
            float(attributes.get("cubic_coeff_a", -0.75)),  # type: ignore[arg-type]
            bool(_int(attributes, "exclude_outside", 0)),
            antialias,
            (float(roi[i]), float(roi[i + len(axes)])) if roi is not None and roi.size else (0.0, 1.0),
        )
        inside = inside & part.inside().reshape([-1 if a == axis else 1 for a in range(len(dims))])
        x = _along(bb, x, axis, part)
    if not inside.all():
        outside = constant(np.asarray(attributes.get("extrapolation_value", 0.0), dtype_of(x)))
        x = bb.normalize(relax.op.where(constant(inside), x, outside))
    return x


def _from_sizes(lengths: Sequence[int], sizes: Sequence[int], policy: str) -> tuple[list[float], list[int]]:
    """Factors and lengths of the result."""
    factors = [s / n for s, n in zip(sizes, lengths, strict=True)]
    if policy == "stretch":
        return factors, list(sizes)
    one = min(factors) if policy == "not_larger" else max(factors)
    return [one] * len(lengths), [math.floor(one * n + 0.5) for n in lengths]


def _along(bb: relax.BlockBuilder, x: Expr, axis: int, part: ResizeAxis) -> Expr:
    if part.mode == "nearest":
        return bb.normalize(relax.op.take(x, constant(part.indices()), axis))
    rank, kind = len(dims_of(x)), dtype_of(x)
    order = list(range(rank))
    order[axis], order[-1] = order[-1], order[axis]
    turned = bb.normalize(relax.op.permute_dims(_float(bb, x), order))
    found = bb.normalize(relax.op.matmul(turned, constant(part.matrix().T)))
    found = bb.normalize(relax.op.permute_dims(found, order))
    return found if kind == "float32" else bb.normalize(relax.op.astype(found, kind))


CONVERTERS: dict[str, Converter] = {
    "Celu": celu,
    "Compress": compress,
    "Dropout": dropout,
    "EyeLike": eye_like,
    "IsInf": is_inf,
    "LayerNormalization": layer_normalization,
    "LpNormalization": lp_normalization,
    "Mish": mish,
    "OneHot": one_hot,
    "Pow": power,
    "ReduceMax": _boolean(relax.op.max),
    "ReduceMin": _boolean(relax.op.min),
    "Resize": resize,
    "RoiAlign": roi_align,
    "Shape": shape,
    "TopK": top_k,
}
"""Operator of the standard domain -> its converter."""
