# mypy: ignore-errors
"""Modules in TVMScript, whose annotations are no Python types."""

from __future__ import annotations

from tvm.script import ir as I
from tvm.script import relax as R


@I.ir_module
class Before:
    @R.function
    def main(x: R.Tensor((1, 2, 4, 4), "uint8")) -> R.Tensor((1, 2, 2, 2), "uint8"):
        with R.dataflow():
            a: R.Tensor((1, 2, 4, 4), "float32") = R.dequantize(
                x, R.const(0.5, "float32"), R.const(7, "uint8"), out_dtype="float32", axis=1
            )
            b: R.Tensor((1, 2, 2, 2), "float32") = R.nn.max_pool2d(a, pool_size=[2, 2], strides=[2, 2])
            c: R.Tensor((1, 2, 2, 2), "uint8") = R.quantize(
                b, R.const(0.5, "float32"), R.const(7, "uint8"), out_dtype="uint8", axis=1
            )
            R.output(c)
        return c


@I.ir_module
class Expected:
    @R.function(private=True)
    def tilewright_max_pool2d_b(x0: R.Tensor((1, 2, 4, 4), "uint8")) -> R.Tensor((1, 2, 2, 2), "uint8"):
        R.func_attr({"Composite": "tilewright.max_pool2d", "Primitive": True, "tilewright.layer": "b"})
        with R.dataflow():
            gv: R.Tensor((1, 2, 2, 2), "uint8") = R.nn.max_pool2d(
                x0, pool_size=[2, 2], strides=[2, 2], dilation=[1, 1], padding=[0, 0, 0, 0]
            )
            R.output(gv)
        return gv

    @R.function
    def main(x: R.Tensor((1, 2, 4, 4), "uint8")) -> R.Tensor((1, 2, 2, 2), "uint8"):
        cls = Expected
        with R.dataflow():
            c: R.Tensor((1, 2, 2, 2), "uint8") = cls.tilewright_max_pool2d_b(x)
            R.output(c)
        return c
