"""What tuning gains over the planner's plan: frames/s of the best plan found beside those of the default one.

Cycles of all regions by the timing simulator, batch 1; equal seeds make equal searches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tilewright.benchmark.architectures import ALL, ZOO
from tilewright.benchmark.machine import machine
from tilewright.benchmark.networks import find_data
from tilewright.benchmark.quantised import Quantised
from tilewright.benchmark.report import Report, choose, parser
from tilewright.benchmark.zoo import default_overlays
from tilewright.errors import TilewrightError
from tilewright.targets.config import Overlay, overlay

if TYPE_CHECKING:
    from tilewright.benchmark.networks import Network

TRIALS = 80


@dataclass(frozen=True)
class Row:
    """A network on an overlay.

    Attributes:
        default_cycles, tuned_cycles: with the planner's plan, and with the best that tuning found.
        gain: frames/s gained, 0..
        trials, refused: plans measured, and those of them that did not compile.
        seconds: of the search, from the quantised network.
    """

    network: str
    overlay: str
    default_cycles: int
    tuned_cycles: int
    gain: float
    trials: int
    refused: int
    seconds: float


def rows(
    networks: Sequence[Network], targets: Sequence[Overlay], quantised: Quantised, trials: int, seed: int
) -> Iterator[Row | dict[str, str]]:
    """Tune all networks one after the other; what fails is told and does not stop the others."""
    from tilewright.tune.api import tune

    for network in networks:
        for target in targets or default_overlays(network.name):
            start = time.perf_counter()
            try:
                found = tune(quantised.model(network), target, trials=trials, seed=seed)
            except TilewrightError as error:
                yield {"network": network.name, "overlay": target.name, "error": str(error)}
                continue
            yield Row(
                network=network.name,
                overlay=target.name,
                default_cycles=round(found.default),
                tuned_cycles=round(found.best),
                gain=found.default / found.best - 1,
                trials=found.trials,
                refused=found.refused,
                seconds=time.perf_counter() - start,
            )


COLUMNS: list[tuple[str, Callable[[Any], str]]] = [
    ("network", str),
    ("overlay", str),
    ("default_cycles", "{:,}".format),
    ("tuned_cycles", "{:,}".format),
    ("gain", "{:.1%}".format),
    ("trials", str),
    ("refused", str),
    ("seconds", "{:.0f}".format),
    ("error", str),
]


def main(arguments: list[str]) -> int:
    """Tune networks and print the table. Exit code 1 where one could not be tuned."""
    options = parser("tuning", __doc__ or "")
    options.add_argument("networks", nargs="*", help=f"of {', '.join(ALL)} (the zoo)")
    options.add_argument(
        "--target", action="append", help="an overlay; may be repeated (those of the network's width)"
    )
    options.add_argument("--trials", type=int, default=TRIALS, help=f"plans to measure ({TRIALS})")
    options.add_argument("--seed", type=int, default=1, help="of the search (1)")
    options.add_argument("--cache", type=Path, help="folder that keeps quantised networks between runs")
    options.add_argument("--csv", type=Path, help="file for the table, with machine and versions")
    chosen = options.parse_args(arguments)
    data = find_data(chosen.data)
    networks = choose(chosen.networks, [ALL[name] for name in ZOO], data, ALL)
    targets = [overlay(name) for name in chosen.target or ()]
    table = Report("what tuning gains", COLUMNS, chosen.json)
    failed = False
    for row in rows(networks, targets, Quantised(data, chosen.cache), chosen.trials, chosen.seed):
        values = asdict(row) if isinstance(row, Row) else row
        failed |= "error" in values
        Console(stderr=True).print(f"{values['network']} {values['overlay']}", highlight=False)
        table.add(**values)
        if chosen.csv is not None:  # after every network: a run that is stopped leaves what it has
            table.write_csv(chosen.csv, machine())
    table.finish(machine=machine())
    return int(failed)
