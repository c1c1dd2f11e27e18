"""`fuzz networks`: random float networks, quantised and taken through all levels on random overlays.

A finding is made smaller and kept in a folder of its own, which `fuzz networks --replay FOLDER` runs again.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from tilewright.benchmark.fuzz.case import Case, Outcome, check
from tilewright.benchmark.fuzz.draw import draw_network, draw_overlay, write_float
from tilewright.benchmark.fuzz.layers import NetworkPlan
from tilewright.benchmark.fuzz.shrink import shrink
from tilewright.targets.config import overlay

PLAIN_OVERLAY = "ultra96-w8"


def draw_case(seed: int, number: int) -> tuple[NetworkPlan, Case]:
    """The case of this number."""
    rng = np.random.default_rng([seed, number])
    plan, machine = draw_network(rng), draw_overlay(rng)
    bits = int(rng.choice([8, 8, 4, 2, 1]))
    while machine.inp_bits == 1 < bits:  # MATRIX of a 1-bit overlay refuses wider operands
        machine = draw_overlay(rng)
    case = Case(
        model=write_float(plan),
        overlay=machine,
        bits=bits,
        activation_bits=int(rng.choice([8, 4, 2])) if bits < 8 and rng.random() < 0.3 else None,
        edge_bits=8 if rng.random() < 0.7 else None,
        seed=number,
    )
    return plan, case


def smallest(plan: NetworkPlan, case: Case, kind: str) -> Case:
    """A case that fails in the same way, of fewer and plainer parts."""

    def fails(candidate: NetworkPlan) -> bool:
        return check(replace(case, model=write_float(candidate))).kind == kind

    for plainer in (
        replace(case, overlay=overlay(PLAIN_OVERLAY)),
        replace(case, activation_bits=None),
        replace(case, bits=8, activation_bits=None),
        replace(case, edge_bits=8),
        replace(case, plans=0),
    ):
        merged = replace(
            case,
            **{f: getattr(plainer, f) for f in ("overlay", "bits", "activation_bits", "edge_bits", "plans")
               if getattr(plainer, f) != getattr(case, f)},
        )  # fmt: skip
        if merged != case and check(merged).kind == kind:
            case = merged
    return replace(case, model=write_float(shrink(plan, fails)))


def fuzz(
    count: int,
    seed: int,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    first: int = 0,
    shrinking: bool = True,
) -> tuple[Counter[str], list[tuple[int, Outcome]]]:
    """Check `count` networks of a seed.

    Args:
        count, seed, first: networks, what they are drawn from, and the first's number.
        folder: where findings are kept; None: nowhere.
        say: gets a line for each finding, and for each hundred networks.
        shrinking: make findings smaller before they are kept.

    Returns how many cases came out how, with `regions` and `elements` compared; and the findings by number.
    """
    counts: Counter[str] = Counter()
    findings: list[tuple[int, Outcome]] = []
    for number in range(first, first + count):
        plan, case = draw_case(seed, number)
        outcome = check(case)
        counts[outcome.kind] += 1
        counts["regions"] += outcome.regions
        counts["elements"] += outcome.elements
        if (number + 1 - first) % 100 == 0:
            say(f"{number + 1 - first} of {count} networks, {len(findings)} findings")
        if not outcome.found:
            continue
        findings.append((number, outcome))
        last = outcome.text.strip().splitlines()[-1] if outcome.text.strip() else ""
        say(f"network {number}: {outcome.kind}: {last[:300]}")
        if folder is not None:
            where = folder / f"network-{seed}-{number}"
            (smallest(plan, case, outcome.kind) if shrinking else case).save(where)
            command = f"python -m tilewright.benchmark fuzz networks --replay {where}"
            (where / "finding.txt").write_text(f"{command}\n\n{outcome.kind}\n{outcome.text}\n")
            say(f"  {command}")
    return counts, findings


def main(arguments: list[str]) -> int:
    """Run the command; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tilewright.benchmark fuzz networks", description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="networks (default: 50)")
    parser.add_argument("--seed", type=int, default=1, help="what they are drawn from (default: 1)")
    parser.add_argument("--first", type=int, default=0, help="number of the first (default: 0)")
    parser.add_argument(
        "--folder", type=Path, default=Path("findings"), help="of findings (default: findings)"
    )
    parser.add_argument("--no-shrink", action="store_true", help="keep findings as they are drawn")
    parser.add_argument("--replay", type=Path, help="run a finding again")
    options = parser.parse_args(arguments)
    if options.replay is not None:
        outcome = check(Case.load(options.replay))
        print(outcome.kind, outcome.text, sep="\n")  # noqa: T201
        return int(outcome.found)
    start = time.perf_counter()
    counts, findings = fuzz(
        options.count,
        options.seed,
        options.folder,
        lambda line: print(line, flush=True),  # noqa: T201
        options.first,
        not options.no_shrink,
    )
    seconds = time.perf_counter() - start
    print(  # noqa: T201
        f"{options.count} networks in {seconds:.0f} s: {counts['equal']} equal at all levels "
        f"({counts['regions']} regions, {counts['elements']:,} elements), {counts['refused']} refused, "
        f"{len(findings)} findings"
    )
    return int(bool(findings))
