"""Running packages: the binding to the simulators and the interpreter of host operators."""
