"""Integer level -> tile programs -> instruction stream, and the BYOC hook that TVM calls."""

if __name__ != "tilewright.codegen":
    raise ImportError(f"import this package as tilewright.codegen, not as {__name__}")
