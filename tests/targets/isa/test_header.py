"""The C++ header decodes what the Python encoder wrote."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import tilewright.targets.isa
from tilewright.targets.isa.codec import encode_stream
from tilewright.targets.isa.spec import INSTRUCTIONS, Instruction, Matrix, layout


def _random(kind: type[Instruction], rng: np.random.Generator) -> Instruction:
    values: dict[str, int] = {}
    for spec in layout(kind):
        bits = spec.bits
        legal = (
            [int(m) for m in bits.kind]
            if bits.kind
            else [bits.lo, bits.hi, int(rng.integers(bits.lo, bits.hi + 1))]
        )
        values[spec.name] = legal[int(rng.integers(len(legal)))]
    own = 15 if kind.unit is None else 1 << kind.unit
    values |= {"wait": values["wait"] & ~own, "give": values["give"] & ~own}
    if kind is Matrix:
        values |= {f"order_{i}": int(v) for i, v in enumerate(rng.permutation(6))}
    return kind(**values)


def _driver() -> str:
    """A program that prints opcode and fields of each instruction, then the tables."""
    cases = ""
    tables = ""
    for kind in INSTRUCTIONS:
        name = kind.__name__
        prints = "".join(f'std::printf(" %lld", (long long)x.{s.name});' for s in layout(kind))
        cases += f"if (GetOpcode(b) == {int(kind.opcode)}) {{ {name} x = Decode{name}(b); {prints} }}\n"
        tables += (
            f"for (const Field& f : k{name}Fields)"
            ' std::printf("%s %d %d %lld %lld\\n", f.name, f.offset, f.width, (long long)f.lo, (long long)f.hi);\n'
        )
    return (
        '#include "isa.h"\n#include <cstdio>\nusing namespace tilewright::isa;\n'
        "int main() {\n std::uint8_t b[kInstructionBytes];\n"
        " while (std::fread(b, 1, sizeof b, stdin) == sizeof b) {\n"
        f' std::printf("%d", GetOpcode(b));\n{cases} std::printf("\\n");\n }}\n{tables} return 0;\n}}\n'
    )


def test_cpp_decoder_agrees(tmp_path: Path) -> None:
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler found (c++, or what CXX says)")
    source, program = tmp_path / "driver.cc", tmp_path / "driver"
    source.write_text(_driver(), encoding="utf-8")
    include = Path(tilewright.targets.isa.__file__).parent
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-O1", f"-I{include}"]
    subprocess.run([compiler, *flags, str(source), "-o", str(program)], check=True)

    rng = np.random.default_rng(9)
    instructions = [_random(kind, rng) for kind in INSTRUCTIONS for _ in range(40)]
    shown = subprocess.run([str(program)], input=encode_stream(instructions), capture_output=True, check=True)
    lines = shown.stdout.decode().splitlines()
    for x, row in zip(instructions, lines, strict=False):
        assert row.split() == [str(int(v)) for v in (x.opcode, *x.__dict__.values())]
    expected = []
    for spec in (spec for kind in INSTRUCTIONS for spec in layout(kind)):
        bits = spec.bits
        lo, hi = (min(bits.kind), max(bits.kind)) if bits.kind else (bits.lo, bits.hi)
        expected.append(f"{spec.name} {spec.offset} {bits.width} {int(lo)} {int(hi)}")
    assert lines[len(instructions) :] == expected
