"""Simulators of the machine: the NumPy reference, which is the specification, and the fast one in C++."""
