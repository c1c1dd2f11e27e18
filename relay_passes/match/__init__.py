"""Cones -> operators: one matcher for each kind of cone, found by the cone's base operator."""
