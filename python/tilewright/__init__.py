"""Tilewright: trained ONNX and Caffe networks to a VTA-like accelerator on Xilinx Zynq.

    import tilewright as tw
    model = tw.load("net.prototxt", "net.caffemodel", preprocess=tw.Preprocess(mean=128, std=128))
    package = tw.compile(tw.quantize(model, calibration="images/"), target="ultra96-w8")
    package.save("net.twp")
    print(tw.evaluate(package, "test.npz"))

Importing this is fast: each name is loaded when it is first used, and TVM only where it compiles. What TVM needs to
load an exported library that holds accelerator regions is registered once TVM is there.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

from tilewright import tvm_hook

if TYPE_CHECKING:
    from tilewright.codegen.plan import Plan
    from tilewright.errors import TilewrightError
    from tilewright.evaluation import Evaluation, evaluate
    from tilewright.explore.api import Exploration, explore
    from tilewright.export.api import Exported, export
    from tilewright.frontend.dataset import Dataset, open_dataset
    from tilewright.frontend.model import Model, load
    from tilewright.frontend.preprocess import Preprocess
    from tilewright.pipeline import compile, plan, quantize, supported
    from tilewright.placement import LayerRow, Support
    from tilewright.quantize.options import QuantizeOptions
    from tilewright.runtime.package import Package
    from tilewright.runtime.remote import Board, connect
    from tilewright.runtime.session import Session
    from tilewright.target import target
    from tilewright.targets.config import Overlay, overlay, overlays
    from tilewright.tune.api import Tuned, tune
    from tilewright.verify.api import verify
    from tilewright.verify.result import Verification
    from tilewright.vision.pipeline import Pipeline

__all__ = [
    "Board",
    "Dataset",
    "Evaluation",
    "Exploration",
    "Exported",
    "LayerRow",
    "Model",
    "Overlay",
    "Package",
    "Pipeline",
    "Plan",
    "Preprocess",
    "QuantizeOptions",
    "Session",
    "Support",
    "TilewrightError",
    "Tuned",
    "Verification",
    "compile",
    "connect",
    "evaluate",
    "explore",
    "export",
    "load",
    "open_dataset",
    "overlay",
    "overlays",
    "plan",
    "quantize",
    "supported",
    "target",
    "tune",
    "verify",
]

_HOME = {
    "Board": "runtime.remote",
    "Dataset": "frontend.dataset",
    "Evaluation": "evaluation",
    "Exploration": "explore.api",
    "Exported": "export.api",
    "LayerRow": "placement",
    "Model": "frontend.model",
    "Overlay": "targets.config",
    "Package": "runtime.package",
    "Pipeline": "vision.pipeline",
    "Plan": "codegen.plan",
    "Preprocess": "frontend.preprocess",
    "QuantizeOptions": "quantize.options",
    "Session": "runtime.session",
    "Support": "placement",
    "TilewrightError": "errors",
    "Tuned": "tune.api",
    "Verification": "verify.result",
    "compile": "pipeline",
    "connect": "runtime.remote",
    "evaluate": "evaluation",
    "explore": "explore.api",
    "export": "export.api",
    "load": "frontend.model",
    "open_dataset": "frontend.dataset",
    "overlay": "targets.config",
    "overlays": "targets.config",
    "plan": "pipeline",
    "quantize": "pipeline",
    "supported": "pipeline",
    "target": "target",
    "tune": "tune.api",
    "verify": "verify.api",
}
"""Public name -> module of this package that defines it."""


class _Package(types.ModuleType):
    """Loads public names on first use, and keeps `explore`, `quantize`, `tune` and `verify` the functions.

    Python sets a folder that it imports as an attribute of its parent, and the folder `quantize` has the name
    of the function.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOME and isinstance(value, types.ModuleType):
            return
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package

tvm_hook.install()
