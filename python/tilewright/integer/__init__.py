"""The integer level: operators of accelerator regions as data, and their bodies in plain Relax."""
