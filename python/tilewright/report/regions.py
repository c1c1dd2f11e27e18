"""What a package holds, made ready for a report: the network again, and its layers."""

from __future__ import annotations

from typing import Any

import onnx
from google.protobuf.message import DecodeError

from tilewright.errors import Fault, PackageError
from tilewright.frontend.model import Model, SourceNode
from tilewright.targets.package import Package

_ROW = {"name": str, "op": str, "place": str, "reason": str, "macs": int}


def layer_rows(package: Package) -> list[dict[str, Any]]:
    """The compile report's rows, one for each imported node. Raises PackageError where they are damaged."""
    rows = package.report.get("layers")
    if not isinstance(rows, list | tuple) or not all(
        isinstance(row, dict) and all(isinstance(row.get(key), kind) for key, kind in _ROW.items())
        for row in rows
    ):
        message = f"expected rows with {', '.join(_ROW)} under `layers` of the compile report, found others"
        raise PackageError(Fault(message, f"package {package.name}", "compile again"))
    return list(rows)


def model_of(package: Package) -> Model:
    """The quantised network that a package was compiled from, as `tilewright.compile` takes it.

    Raises PackageError where the package was stripped of it, or it is damaged.
    """
    float_bytes, quantised = package.require_models("report")
    try:
        proto = onnx.ModelProto.FromString(quantised)
        float_proto = None if float_bytes is None else onnx.ModelProto.FromString(float_bytes)
    except DecodeError as error:
        fault = Fault(f"its model is damaged: {error}", f"package {package.name}", "compile again")
        raise PackageError(fault) from error
    return Model(
        proto,
        name=package.name,
        nodes=tuple(SourceNode(row["name"], row["op"]) for row in layer_rows(package)),
        float_proto=float_proto,
        batch=package.batch,
        random_weights=package.random_weights,
        random_calibration=package.random_calibration,
    )
