"""Hard testing by seed: `fuzz networks` through all levels, `fuzz inputs` of damaged files.

    python -m tilewright.benchmark fuzz networks --count 2000 --seed 1
    python -m tilewright.benchmark fuzz inputs --count 100000 --seed 1 [--kind onnx]

Both print what they tried and what they found; findings go to a folder, with the command that repeats each.
"""
