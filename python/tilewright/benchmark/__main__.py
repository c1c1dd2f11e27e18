"""`python -m tilewright.benchmark NAME [options]`: the project's figures, measured here and now."""

from __future__ import annotations

import importlib
import sys

from tilewright.errors import TilewrightError

BENCHMARKS = {
    "accuracy": "tilewright.benchmark.accuracy",
    "compile": "tilewright.benchmark.compile_time",
    "equality": "tilewright.benchmark.equality",
    "fuzz": "tilewright.benchmark.fuzz.__main__",
    "parts": "tilewright.benchmark.parts",
    "runtime": "tilewright.benchmark.host_overhead",
    "simulator": "tilewright.benchmark.simulator",
    "tuning": "tilewright.benchmark.tuning",
    "zoo": "tilewright.benchmark.zoo",
}
"""Modules by name; each has `main(arguments) -> exit code`, its docstring's first line says what it does."""


def main(arguments: list[str]) -> int:
    """Run the benchmark that the first argument names."""
    if not arguments or arguments[0] not in BENCHMARKS:
        lines = []
        for name, module in BENCHMARKS.items():
            doc = importlib.import_module(module).__doc__ or ""
            lines.append(f"  {name:12} {doc.splitlines()[0]}")
        print("usage: python -m tilewright.benchmark NAME [options]", *lines, sep="\n", file=sys.stderr)  # noqa: T201
        return 2
    try:
        return int(importlib.import_module(BENCHMARKS[arguments[0]]).main(arguments[1:]))
    except TilewrightError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
