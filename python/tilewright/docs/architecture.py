"""The stages of the compiler and who uses whom: as declared, as imported, and as a picture.

`STAGES` is what the page shows. A test compares it with `imported`, so that the page cannot differ from the code.
"""

from __future__ import annotations

import ast
import functools
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from tilewright.docs.markdown import table

ROOT = Path(__file__).resolve().parents[1]
"""The package; `relay_passes`, `codegen` and `targets` are links in it."""

EVERYONE = frozenset({"errors"})
"""Used by all; not drawn."""

STAGES: Mapping[str, tuple[str, frozenset[str]]] = {
    stage: (what, frozenset(uses.split()))
    for stage, what, uses in (
        ("benchmark", "prints the figures that the documentation quotes",
         "codegen evaluation frontend integer integer_level pipeline quantize relay_passes report "
         "runtime stages targets tune zoo"),
        ("cli", "the command line, a file a command",
         "codegen debug doctor evaluation explore export frontend opt pipeline quantize relay_passes "
         "report runtime stages targets tune verify"),
        ("codegen", "integer level to instruction stream: planner, memory, tokens, instructions; the BYOC hook",
         "debug frontend integer runtime targets"),
        ("debug", "the ladder TILEWRIGHT_DEBUG", ""),
        ("docs", "this site", "cli targets"),
        ("doctor", "whether an installation is sound", "runtime targets"),
        ("evaluation", "accuracy of float, quantised and simulated side by side", "frontend runtime targets"),
        ("explore", "which overlay a network would like",
         "codegen frontend relay_passes report targets tune"),
        ("export", "the folder that is copied to a board, and the Python class in it",
         "evaluation frontend relay_passes runtime target targets"),
        ("frontend", "ONNX, QONNX and Caffe files to one canonical ONNX form, and that to Relax; images and labels",
         "targets"),
        ("integer", "the integer level: operators, their bodies in Relax, their meaning in NumPy", "targets"),
        ("integer_level", "the integer level of a whole network: made, run by TVM, compared with ONNX Runtime",
         "frontend integer relay_passes targets"),
        ("onnx_backend", "ONNX's interface of back ends", "frontend target targets"),
        ("opt", "any sequence of passes by name: looked at, verified, timed",
         "codegen frontend integer_level pipeline quantize relay_passes runtime targets"),
        ("pipeline", "load, quantise, compile: the stages in order",
         "codegen evaluation frontend placement quantize relay_passes runtime stages targets"),
        ("placement", "what runs where, and why", "codegen frontend relay_passes targets"),
        ("quantize", "float to QDQ after training", "frontend"),
        ("relay_passes", "Relax to Relax: from the imported graph to the integer level, parted into regions",
         "codegen debug frontend integer targets"),
        ("report", "cycles, traffic and energy by layer, against the bound",
         "codegen frontend integer pipeline relay_passes targets"),
        ("runtime", "runs packages: host operators and accelerator regions", "targets"),
        ("stages", "names of the stages, for progress", "debug"),
        ("target", "`tilewright.target`: an overlay as a TVM target", "runtime targets"),
        ("targets", "the machine: overlays, instructions, arithmetic, simulators, the runtime in C++", ""),
        ("tune", "searches plans with a cost model", "codegen frontend relay_passes report runtime targets"),
        ("tvm_hook", "registers the accelerator's module with TVM when that is imported", "runtime"),
        ("verify", "every level of a network on the same input; the first layer that is wrong",
         "codegen evaluation frontend integer integer_level pipeline quantize relay_passes report "
         "runtime targets"),
        ("vision", "image pipelines: stages, decoders, face detection by a cascade",
         "frontend pipeline runtime targets"),
        ("zoo", "networks with seeded weights", "frontend quantize"),
    )
}  # fmt: skip
"""Stage: what it does, and the stages that it uses."""


def imported() -> dict[str, frozenset[str]]:
    """Stage: the stages that its files import when they run; imports for types alone are left out."""
    found: dict[str, set[str]] = {}
    for path in _files():
        parts = path.relative_to(ROOT).with_suffix("").parts
        stage = parts[0]
        if stage in ("__init__", "__main__"):
            continue
        used = found.setdefault(stage, set())
        used.update(name.split(".")[1] for name in _imports(ast.parse(path.read_text(encoding="utf-8"))))
        used -= {stage} | EVERYONE
    return {stage: frozenset(used) for stage, used in found.items() if stage not in EVERYONE}


def _files() -> Iterator[Path]:
    for folder, _, names in os.walk(ROOT, followlinks=True):
        yield from (Path(folder) / name for name in names if name.endswith(".py"))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "tilewright":
            yield from (f"tilewright.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tilewright."):
            yield str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("tilewright."))
        else:
            yield from _imports(node)


def depth(uses: Mapping[str, frozenset[str]]) -> dict[str, int]:
    """Stage: longest way down from it, in uses.

    Raises ValueError, naming the stages, where they use each other in a circle.
    """
    open_: list[str] = []

    @functools.cache
    def below(stage: str) -> int:
        if stage in open_:
            raise ValueError(f"stages use each other: {' -> '.join([*open_[open_.index(stage) :], stage])}")
        open_.append(stage)
        found = 1 + max(map(below, uses[stage]), default=-1)
        open_.pop()
        return found

    return {stage: below(stage) for stage in uses}


def direct(uses: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """The uses that no chain of others implies (the transitive reduction)."""

    @functools.cache
    def reach(stage: str) -> frozenset[str]:
        return uses[stage].union(*map(reach, uses[stage]))

    return {
        s: frozenset(u for u in used if not any(u in reach(v) for v in used - {u}))
        for s, used in uses.items()
    }


def picture(uses: Mapping[str, frozenset[str]]) -> str:
    """The stages as an SVG, each above those that it uses; uses that others imply are not drawn."""
    depths = depth(uses)
    rows: dict[int, list[str]] = {}
    for stage in sorted(uses):
        rows.setdefault(depths[stage], []).append(stage)
    where = {
        stage: ((i + 0.5) / len(row), level) for level, row in rows.items() for i, stage in enumerate(row)
    }
    with matplotlib.rc_context({"svg.hashsalt": "tilewright", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8.4, 0.75 * len(rows) + 0.4))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.set_xlim(0, 1)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        for stage, below in direct(uses).items():
            for other in sorted(below):
                axes.annotate(
                    "", (where[other][0], where[other][1] + 0.22), (where[stage][0], where[stage][1] - 0.22),
                    arrowprops={"arrowstyle": "-|>", "color": "#8794a5", "linewidth": 0.9},
                )  # fmt: skip
        for stage, (x, y) in where.items():
            box = {"boxstyle": "round,pad=0.45", "facecolor": "#eef3fa", "edgecolor": "#4a6fa5"}
            axes.text(x, y, stage, ha="center", va="center", fontsize=10, bbox=box)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    return text.getvalue()


def page() -> str:
    """The page: picture, then the stages with what they do and use."""
    uses = {stage: used for stage, (_, used) in STAGES.items()}
    depths = depth(uses)
    rows = [
        [f"`{stage}`", STAGES[stage][0], ", ".join(f"`{other}`" for other in sorted(uses[stage])) or "none"]
        for stage in sorted(uses, key=lambda s: (-depths[s], s))
    ]
    return (
        "\n\n".join(
            [
                "# Architecture",
                "A folder is a stage. Imports point down in this picture, never up; uses that follow from others are "
                "not drawn. `errors` is used by all.",
                "![The stages of the compiler, each above those that it uses](architecture.svg)",
                table(["stage", "what it does", "uses"], rows),
            ]
        )
        + "\n"
    )
