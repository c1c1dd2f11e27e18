"""Compare integer level, reference simulator and fast simulator bit for bit on every network.

Networks up to 400 M MACs run whole on one image of their evaluation set; of larger ones every layer of a shape of its
own runs alone, on its own weights and random integers.
"""

from __future__ import annotations

import argparse

from rich.console import Console

from tilewright.benchmark.levels import (
    Comparison,
    compare_layer,
    compare_package,
    distinct_layers,
)
from tilewright.benchmark.networks import NETWORKS, QUICK, Case
from tilewright.benchmark.report import Report, open_cases, parser
from tilewright.evaluation import package_feeds
from tilewright.frontend.model import Model
from tilewright.pipeline import compile
from tilewright.relay_passes.regions import find_regions
from tilewright.targets.config import overlay

CALIBRATION = 2
"""Images that ranges come from: they decide multipliers, not which instructions run."""


def compare_whole(case: Case, model: Model, target: str) -> list[Comparison]:
    """The regions of a network on one image."""
    package = compile(model, target)
    feeds, _ = next(iter(case.evaluation(1)))
    return compare_package(package, model, package_feeds(package, feeds))


def compare_layers(model: Model, target: str) -> list[Comparison]:
    """Every layer of a shape of its own."""
    machine = overlay(target)
    return [
        compare_layer(node, machine) for node in distinct_layers(find_regions(model.relax(), machine).graphs)
    ]


def main(arguments: list[str]) -> int:
    """Compare and print; exit code 1 where levels differ."""
    options = parser("equality", str(__doc__))
    options.add_argument("networks", nargs="*", help="of the list; default: all")
    options.add_argument("--layers", action="store_true", help="a row for each region or layer")
    chosen = options.parse_args(arguments)
    number, seconds = "{:,}".format, "{:.2f}".format
    report = Report(
        "integer level = reference simulator = fast simulator",
        [
            ("network", str),
            ("overlay", str),
            ("compared", str),
            ("elements", number),
            ("differ", number),
            ("integer_s", seconds),
            ("reference_s", seconds),
            ("fast_s", seconds),
        ],
        chosen.json,
    )
    progress = Console(stderr=True)
    different = 0
    for case in open_cases(chosen.networks, NETWORKS.values(), chosen.data):
        model = case.quantised(CALIBRATION, QUICK)
        for target in case.row.overlays:
            progress.print(f"{case.row.name} on {target}")
            found = compare_layers(model, target) if case.row.big else compare_whole(case, model, target)
            different += _rows(report, case, target, found, chosen)
    report.finish(elements_that_differ=different)
    return 1 if different else 0


def _rows(
    report: Report, case: Case, target: str, found: list[Comparison], chosen: argparse.Namespace
) -> int:
    """Add a network's rows; returns how many elements differ."""
    kind = "layers" if case.row.big else "regions"
    groups = [(c.name, [c]) for c in found] if chosen.layers else [(f"{len(found)} {kind}", found)]
    for label, group in groups:
        report.add(
            network=case.row.name,
            overlay=target,
            compared=label,
            elements=sum(c.elements for c in group),
            differ=sum(max(c.reference_differs, c.integer_differs) for c in group),
            **{
                f"{level}_s": sum(c.seconds[level] for c in group)
                for level in ("integer", "reference", "fast")
            },
        )
    return sum(max(c.reference_differs, c.integer_differs) for c in found)
