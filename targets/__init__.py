"""The machine: overlays and boards, the instruction set, its arithmetic and its simulators.

Imports neither TVM nor the compiler.
"""

if __name__ != "tilewright.targets":
    raise ImportError(f"import this package as tilewright.targets, not as {__name__}")
