"""Relax -> Relax passes, one a file, from the imported quantised graph to the integer level.

The folder keeps the name that the project was asked for; Relay was removed from TVM in 0.20 and these are
passes over its successor, Relax.
"""

if __name__ != "tilewright.relay_passes":
    raise ImportError(f"import this package as tilewright.relay_passes, not as {__name__}")
