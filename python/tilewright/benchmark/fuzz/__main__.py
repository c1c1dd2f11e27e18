"""Random networks through all levels, and damaged inputs: `fuzz networks`, `fuzz inputs`."""

from __future__ import annotations

import sys

from tilewright.benchmark.fuzz import inputs, networks

COMMANDS = {"networks": networks.main, "inputs": inputs.main}


def main(arguments: list[str]) -> int:
    """Run the command that the first argument names."""
    if not arguments or arguments[0] not in COMMANDS:
        print(  # noqa: T201
            f"usage: python -m tilewright.benchmark fuzz {{{','.join(COMMANDS)}}} [options]", file=sys.stderr
        )
        return 2
    return COMMANDS[arguments[0]](arguments[1:])
