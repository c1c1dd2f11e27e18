"""Top-1 of classifiers below 8 bits, with one step of the quantiser more at a time."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tilewright.benchmark.networks import NETWORKS, Case
from tilewright.benchmark.report import Report, open_cases
from tilewright.frontend.model import fit_inputs
from tilewright.pipeline import calibration_samples
from tilewright.quantize.observe import open_session
from tilewright.quantize.options import Mixed, QuantizeOptions
from tilewright.quantize.quantizer import quantize_onnx
from tilewright.quantize.samples import Sample
from tilewright.quantize.scoring import Scores, agreement, decibels, noise, run_scores, scores_model
from tilewright.quantize.steps import variants

NETWORKS_BELOW_8 = ("squeezenet_v1.1", "resnet8", "resnet20", "m4", "m7", "kws", "vww")
WIDTH = 6.0
"""Average bits of the step with mixed precision."""
CALIBRATION = 100


def settings(bits: int) -> list[tuple[str, QuantizeOptions]]:
    """What is measured at a width: 8 bits, low operands both, low weights alone; first and last layers have 8."""
    low = QuantizeOptions(bits=bits)
    budget = Mixed(width=WIDTH) if bits < WIDTH else None
    return [
        ("W8A8", QuantizeOptions()),
        (f"W{bits}A{bits}", replace(low, mixed=budget)),
        (f"W{bits}A8", replace(low, activation_bits=8)),
    ]


class _Images:
    """Evaluation images of a network, with the float network's scores."""

    def __init__(self, case: Case) -> None:
        proto = case.model.proto
        self.feeds: list[Sample] = []
        labels = []
        for feeds, label in case.evaluation():
            self.feeds.append(fit_inputs(feeds, proto.graph))
            labels.append(-1 if label is None else label)
        self.labels: NDArray[np.int64] = np.array(labels, np.int64)
        self.exact = run_scores(open_session(scores_model(proto)), self.feeds)

    def top1(self, scores: Scores) -> float:
        """Percent of the images with their label's score the largest."""
        return 100.0 * float(np.mean(scores[0].argmax(axis=1) == self.labels))


def measure(names: list[str], data: str | None, bits: int, as_json: bool) -> int:
    """Quantise with one step after the other, and print what each is worth on the evaluation images."""
    percent = "{:.1f}".format
    report = Report(
        "top-1 below 8 bits, percent",
        [
            ("network", str),
            ("operands", str),
            ("step", str),
            ("float", percent),
            ("top1", percent),
            ("loss", percent),
            ("same_class", percent),
            ("snr_db", percent),
            ("seconds", percent),
        ],
        as_json,
    )
    progress = Console(stderr=True)
    for case in open_cases(names, [NETWORKS[name] for name in NETWORKS_BELOW_8], data):
        samples = calibration_samples(case.model, case.calibration(CALIBRATION))
        images = _Images(case)
        exact = images.top1(images.exact)
        for operands, options in settings(bits):
            for step, variant in variants(options):
                progress.print(case.row.name, operands, step)
                start = time.perf_counter()
                quantised = quantize_onnx(case.model.proto, samples, variant)
                seconds = time.perf_counter() - start
                found = run_scores(open_session(scores_model(quantised), exact=True), images.feeds)
                top1 = images.top1(found)
                report.add(
                    network=case.row.name,
                    operands=operands,
                    step=step,
                    float=exact,
                    top1=top1,
                    loss=exact - top1,
                    same_class=agreement(images.exact, found),
                    snr_db=decibels(noise(images.exact, found)),
                    seconds=seconds,
                )
    report.finish()
    return 0
