"""TVM targets: an overlay's name together with the host that runs the rest.

Every overlay is also a tag of TVM, `tilewright/NAME`: the board's Arm as host. Once `tilewright` is imported,
`tvm.compile(model.relax(), tvm.target.Target("tilewright/ultra96-w8"), relax_pipeline="tilewright")` compiles for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tvm.target import Target, register_tag

from tilewright.errors import ConfigError, Fault
from tilewright.runtime import cross
from tilewright.targets.config import Board, overlay, overlays
from tilewright.targets.processors import PROCESSORS, Processor, processor

HOSTS = ("x86", "arm")
"""Hosts by name; the code beside the accelerator is compiled for them by TVM llvm."""
TAGS = "tilewright/"


def target(name: str, host: str | None = None) -> Target:
    """The target of `tvm.compile` for an overlay; passes find the overlay in the target's `model`.

    `tvm.compile(model.relax(), target=target("ultra96-w8"), relax_pipeline="tilewright")` works from then on.

    Args:
        name: of an overlay, see `tilewright targets`.
        host: "x86" (the default): this machine, with the accelerator simulated; "arm": the processor of the overlay's
            board, as the tag `tilewright/NAME` has it.

    Raises:
        ConfigError: if there is no such overlay or host, or the board's part has no known processor.
    """
    found = overlay(name)
    if host not in (None, *HOSTS):
        raise ConfigError(Fault(f"expected one of the hosts {', '.join(HOSTS)}, found {host!r}", "host"))
    return Target(_arm(found.name, found.board) if host == "arm" else {"kind": "llvm", "model": found.name})


def export_library(executable: Any, path: Path | str, target: Target) -> Path:
    """Write what `tvm.compile` gave for an Arm as one library: the host's code and the accelerator's regions.

    The board loads it with `libtilewright_tvm.so` (`tilewright.runtime.cross.build`) and TVM's runtime.

    Args:
        executable: what `tvm.compile` returned.
        path: of the library, `.so`.
        target: that it was compiled for; of this machine, its own compiler is used.

    Raises:
        ConfigError: the cross compiler is missing (which, and the package that brings it), or cannot link.
    """
    path = Path(path)
    arm = _processor_of(target)
    arguments: dict[str, Any] = {}
    if arm is not None:
        from tvm.support import cc  # TVM registers our tags while it is being imported itself

        arguments["fcompile"] = cc.cross_compiler(cross.require_compiler(arm.name))
    try:
        executable.export_library(str(path), **arguments)
    except (OSError, RuntimeError) as error:
        raise ConfigError(Fault(f"cannot be written: {error}", str(path))) from error
    return path


def register_tags() -> None:
    """Give TVM the tags `tilewright/OVERLAY`; importing `tilewright` does so as soon as TVM is there."""
    for name, found in overlays().items():
        register_tag(TAGS + name, _arm(name, found.board), override=True)


def _arm(name: str, board: Board) -> dict[str, Any]:
    arm = processor(board)
    code = {"kind": "llvm", "mtriple": arm.triple, "mcpu": arm.cpu, "mattr": list(arm.features)}
    return {**code, "model": name, "host": code}


def _processor_of(target: Target) -> Processor | None:
    triple = str(target.attrs.get("mtriple", ""))
    return next((p for p in PROCESSORS.values() if p.triple == triple), None)
