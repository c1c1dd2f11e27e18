"""The Arm processors of Zynq parts, and what builds and emulates programs for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from tilewright.errors import ConfigError, Fault
from tilewright.targets.config import Board

Arch = Literal["aarch64", "armv7"]
ARCHS: tuple[Arch, ...] = get_args(Arch)


@dataclass(frozen=True)
class Processor:
    """A processor that runs the host part.

    Attributes:
        name: the architecture, as CMake and tools call it.
        parts: how the names of the Zynq parts begin that have it.
        triple: of LLVM.
        cpu, features: of LLVM.
        compiler: command of the cross compiler, and the Debian package that brings it.
        emulator: command of the user-mode emulator (package qemu-user).
        root: folder of the cross compiler's C library, for the emulator.
    """

    name: Arch
    parts: str
    triple: str
    cpu: str
    features: tuple[str, ...]
    compiler: str
    compiler_package: str
    emulator: str
    root: str


PROCESSORS: dict[Arch, Processor] = {
    p.name: p
    for p in (
        Processor(
            name="aarch64",
            parts="xczu",  # Zynq UltraScale+ (AMD DS891)
            triple="aarch64-linux-gnu",
            cpu="cortex-a53",
            features=("+neon",),
            compiler="aarch64-linux-gnu-g++",
            compiler_package="g++-aarch64-linux-gnu",
            emulator="qemu-aarch64",
            root="/usr/aarch64-linux-gnu",
        ),
        Processor(
            name="armv7",
            parts="xc7z",  # Zynq-7000 (AMD DS190)
            triple="armv7l-linux-gnueabihf",
            cpu="cortex-a9",
            features=("+neon",),
            compiler="arm-linux-gnueabihf-g++",
            compiler_package="g++-arm-linux-gnueabihf",
            emulator="qemu-arm",
            root="/usr/arm-linux-gnueabihf",
        ),
    )
}
"""Processors by name."""


def processor(board: Board) -> Processor:
    """The Arm processor of a board, by its part. Raises ConfigError where the part is of no known family.

    >>> from tilewright.targets.config import board
    >>> processor(board("ultra96")).name, processor(board("pynq-z1")).name
    ('aarch64', 'armv7')
    """
    for found in PROCESSORS.values():
        if board.part.startswith(found.parts):
            return found
    families = " or ".join(f"{p.parts}.. ({p.name})" for p in PROCESSORS.values())
    raise ConfigError(
        Fault(f"no Arm processor is known for part {board.part}, expected {families}", f"board {board.name}")
    )
