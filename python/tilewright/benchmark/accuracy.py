"""Compare the accuracy of float, quantised and simulated classifiers on their evaluation sets."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from tilewright.benchmark.accuracy_steps import measure as measure_steps
from tilewright.benchmark.networks import NETWORKS, Case
from tilewright.benchmark.report import Report, open_cases, parser
from tilewright.evaluation import Evaluation, evaluate
from tilewright.pipeline import compile
from tilewright.quantize.options import WHOLE_BITS

JUDGED = ("squeezenet_v1.1", "m4", "m7", "resnet20", "resnet8", "kws", "vww", "lenet")
"""Trained float classifiers with images of their own task."""
SMALL_SET = 300
LIMIT, LIMIT_SMALL, LIMIT_MEAN = 1.0, 2.0, 0.5
"""Points of top-1 that the simulated network may lose: on its own, on a set of up to SMALL_SET images, on average."""


@dataclass(frozen=True)
class Loss:
    """A network's evaluation against its limit."""

    name: str
    evaluation: Evaluation

    @property
    def points(self) -> float:
        """Top-1 lost against float, in points of percent; negative where it gained."""
        assert self.evaluation.float is not None  # the judged networks are float
        return self.evaluation.float.top1 - self.evaluation.simulated.top1

    @property
    def limit(self) -> float:
        """Points that it may lose."""
        return LIMIT_SMALL if self.evaluation.images <= SMALL_SET else LIMIT

    @property
    def holds(self) -> bool:
        """Whether it keeps its limit; the margin is for the last bit of a percentage."""
        return self.points <= self.limit + 1e-9


def measure(case: Case) -> Loss:
    """Quantise on the whole calibration set, compile, evaluate."""
    package = compile(case.quantised(), case.row.overlays[0])
    return Loss(case.row.name, evaluate(package, case.evaluation()))


def mean_loss(losses: list[Loss]) -> float:
    """Points on average."""
    return sum(loss.points for loss in losses) / len(losses)


def main(arguments: list[str]) -> int:
    """Evaluate and print; exit code 1 where a limit is passed."""
    options = parser("accuracy", str(__doc__))
    options.add_argument(
        "networks", nargs="*", help=f"float classifiers of the list; default: {', '.join(JUDGED)}"
    )
    options.add_argument(
        "--bits",
        type=int,
        default=WHOLE_BITS,
        help="below 8: top-1 after each step of the quantiser, in ONNX Runtime, in place of the limits' table",
    )
    chosen = options.parse_args(arguments)
    if chosen.bits != WHOLE_BITS:
        return measure_steps(chosen.networks, chosen.data, chosen.bits, chosen.json)
    percent = "{:.2f}".format
    report = Report(
        "top-1, percent",
        [
            ("network", str),
            ("images", str),
            ("float", percent),
            ("quantised", percent),
            ("simulated", percent),
            ("loss", percent),
            ("limit", percent),
            ("won", str),
            ("lost", str),
        ],
        chosen.json,
    )
    progress = Console(stderr=True)
    losses: list[Loss] = []
    for case in open_cases(chosen.networks, [NETWORKS[name] for name in JUDGED], chosen.data):
        progress.print(case.row.name)
        loss = measure(case)
        losses.append(loss)
        found = loss.evaluation
        assert found.float is not None
        report.add(
            network=loss.name,
            images=found.images,
            float=found.float.top1,
            quantised=found.quantised.top1,
            simulated=found.simulated.top1,
            loss=loss.points,
            limit=loss.limit,
            won=found.flips.won,
            lost=found.flips.lost,
        )
    if not losses:
        report.finish()
        return 0
    mean = mean_loss(losses)
    report.finish(mean_loss=round(mean, 3), limit_of_the_mean=LIMIT_MEAN)
    return 0 if mean <= LIMIT_MEAN and all(loss.holds for loss in losses) else 1
