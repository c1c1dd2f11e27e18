"""What runs a package: the C++ runtime (`native/`), the same on a board as beside the simulators."""
