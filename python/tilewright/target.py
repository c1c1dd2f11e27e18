"""TVM targets: an overlay's name together with the host that runs the rest."""

from __future__ import annotations

import importlib

from tvm.target import Target

from tilewright.errors import ConfigError, Fault
from tilewright.targets.config import overlay

HOSTS: dict[str, dict[str, str]] = {"x86": {"kind": "llvm"}}
"""Hosts by name; the code beside the accelerator is compiled for them by TVM llvm."""


def target(name: str, host: str | None = None) -> Target:
    """The target of `tvm.compile` for an overlay; passes find the overlay in the target's `model`.

    `tvm.compile(model.relax(), target=target("ultra96-w8"), relax_pipeline="tilewright")` works from then on.

    Args:
        name: of an overlay, see `tilewright targets`.
        host: "x86", which is also the default.

    Raises:
        ConfigError: if there is no such overlay or host.
    """
    found = overlay(name)
    kind = HOSTS.get(host or "x86")
    if kind is None:
        raise ConfigError(Fault(f"expected one of the hosts {', '.join(HOSTS)}, found {host!r}", "host"))
    # tvm.compile finds the pipeline by its name, under which this import registers it.
    importlib.import_module("tilewright.relay_passes.pipeline")
    return Target({**kind, "model": found.name})
