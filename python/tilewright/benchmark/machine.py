"""What a figure was measured on, and with which versions."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

_PACKAGES = ("tilewright", "apache-tvm", "onnx", "onnxruntime", "numpy")


def processor() -> str:
    """The processor's name, with the cores that this process may use."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


def machine() -> dict[str, str]:
    """Processor, system, and versions, in words for people."""
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    return {
        "machine": processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": f"Python {platform.python_version()}, {packages}",
    }
