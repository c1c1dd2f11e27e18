"""`tilewright.tune`: a better plan for a network, by search."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import onnx

from tilewright.codegen.plan import Plan
from tilewright.errors import ConfigError, Fault, FaultList
from tilewright.frontend.model import Model, require_quantised
from tilewright.runtime.calls import Address, parse_address
from tilewright.runtime.remote import connect
from tilewright.targets import config
from tilewright.targets.config import Overlay
from tilewright.targets.package import Package
from tilewright.tune.backends import BOARD, check_backend
from tilewright.tune.board import Boards, device_kind
from tilewright.tune.local import Processes, Serial
from tilewright.tune.log import Header, Log, Record
from tilewright.tune.measurement import Objective, Runner, at_least, check_objective
from tilewright.tune.remote import PATIENCE_S, Compiling, Opener, Remote
from tilewright.tune.tuner import Report, Result, run
from tilewright.tune.workload import TunedRegion, backend_of, payload, prepared_regions, tuned_regions


@dataclass(frozen=True)
class Tuned:
    """What tuning came to.

    Attributes:
        plan: the best plan found.
        objective: what was made small: "cycles", "dram" (bytes) or "energy" (mJ).
        default, best: its value with the planner's plan and with `plan`.
        trials: plans measured in all, those that the log held already included.
        measured: plans measured now.
        refused: of `trials`, plans that did not compile.
        origins: for each region the trial of its best plan, and how that plan was come by.
    """

    plan: Plan
    objective: Objective
    default: float
    best: float
    trials: int
    measured: int
    refused: int
    origins: Mapping[str, tuple[int, str]]

    @property
    def gain(self) -> float:
        """How much smaller `best` is than `default`, 0..1."""
        return 1 - self.best / self.default if self.default else 0.0


def tune(
    model: Model | Package,
    target: str | Overlay | None = None,
    *,
    objective: str = "cycles",
    backend: str = "timing",
    trials: int = 500,
    seed: int = 1,
    log: str | Path | None = None,
    jobs: int = 1,
    tracker: str | None = None,
    key: str | None = None,
    progress: Report = lambda done, total, best: None,
) -> Tuned:
    """Search for a plan that is better than the planner's.

    Args:
        model: a quantised network, or a package with its models.
        target: an overlay or its name; a package's own by default.
        objective: what is to become small: "cycles", "dram" or "energy".
        backend: what measures: "timing" (the timing simulator), "analytic" (the planner's estimate), or "board"
            (the counters of boards' devices, through the servers of `tracker` and `key`).
        trials: plans to measure in all.
        seed: equal seeds make equal searches.
        log: file of measurements. One that exists is continued, and nothing in it is measured again.
        jobs: processes of this machine that measure. A script that asks for more than one needs the usual
            `if __name__ == "__main__"`.
        tracker, key: HOST:PORT of TVM's RPC tracker and the key of workers or boards, to measure on them.
        progress: called with the trials done, those wanted, and the best value so far.

    Raises:
        ConfigError: an option is wrong, or there are no workers.
        UnsupportedModel: the model is float, or nothing of it runs on the accelerator.
        PackageError: the package was stripped of its models.
        DataError: the log was made for something else, or cannot be written.
        ScheduleError: a layer does not fit the overlay's memories.
    """
    address = _checked(objective, backend, trials, seed, jobs, tracker, key)
    proto, overlay, name = _network(model, target)
    regions = tuned_regions(proto, overlay)
    if trials < len(regions):
        text = f"expected {len(regions)} or more, one for each region's default plan, found {trials}"
        raise ConfigError(Fault(text, "--trials"))
    kind = None
    if backend == BOARD and address is not None and key is not None:
        with connect(address, key, timeout=PATIENCE_S) as board:
            kind = device_kind(board.device)
    header = Header(
        version=metadata.version("tilewright"),
        overlay=overlay.name,
        overlay_hash=overlay.hash,
        model=name,
        regions={region.name: region.fingerprint for region in regions},
        objective=check_objective(objective),
        backend=backend if kind is None else f"{backend} {kind}",
        seed=seed,
    )
    with Log(log, header) as opened, contextlib.ExitStack() as stack:
        if address is None or key is None:
            runner = _local(stack, regions, backend, jobs)
        else:
            opener: Opener = (
                Compiling(payload(proto, overlay, backend), {r.name: r.fingerprint for r in regions})
                if kind is None
                else Boards(*prepared_regions(regions), kind)
            )
            runner = stack.enter_context(Remote(address, key, opener))
        return _tuned(run(regions, runner, opened, header, trials, progress), overlay)


def _checked(
    objective: str, backend: str, trials: int, seed: int, jobs: int, tracker: str | None, key: str | None
) -> Address | None:
    """The tracker's address. Raises ConfigError with everything that is wrong."""
    faults = FaultList()
    address = None
    for check, name in ((check_objective, objective), (check_backend, backend)):
        try:
            check(name)
        except ConfigError as error:
            faults.faults += error.faults
    at_least(faults, "--trials", trials, 1)
    at_least(faults, "--seed", seed, 0)
    at_least(faults, "--jobs", jobs, 1)
    if tracker is not None:
        try:
            address = parse_address(tracker)
        except ConfigError as error:
            faults.faults += error.faults
        if not key:
            faults.add(
                "a tracker needs the workers' key", where="--key", remedy="give the key that they were given"
            )
    elif key is not None:
        faults.add("a key is for workers of a tracker", where="--key", remedy="give --tracker HOST:PORT")
    elif backend == BOARD:
        faults.add(
            "boards are measured on through their servers",
            where="--backend board",
            remedy="give --tracker HOST:PORT and --key; see `python -m tilewright.runtime.server --help`",
        )
    faults.raise_if_any(ConfigError)
    return address


def _network(model: Model | Package, target: str | Overlay | None) -> tuple[onnx.ModelProto, Overlay, str]:
    if isinstance(model, Package):
        _, quantised = model.require_models("tune")
        if model.batch != 1:
            text = f"expected a package for a batch of 1, found {model.batch}"
            raise ConfigError(Fault(text, f"package {model.name}", "compile it with --batch 1"))
        proto, chosen = onnx.ModelProto.FromString(quantised), target or model.overlay
    else:
        require_quantised(model)
        if model.batch != 1:
            text = f"expected a batch of 1, found {model.batch}"
            raise ConfigError(Fault(text, "--batch", "tune without a batch; its plan is made by the planner"))
        if target is None:
            raise ConfigError(
                Fault("a network needs a target", "--target", "`tilewright targets` lists them")
            )
        proto, chosen = model.proto, target
    return proto, chosen if isinstance(chosen, Overlay) else config.overlay(chosen), model.name


def _local(stack: contextlib.ExitStack, regions: list[TunedRegion], backend: str, jobs: int) -> Runner:
    measuring = backend_of(backend, regions)
    # An estimate takes less time than sending a plan to another process.
    return (
        stack.enter_context(Processes(measuring, jobs))
        if jobs > 1 and backend != "analytic"
        else Serial(measuring)
    )


def _tuned(result: Result, overlay: Overlay) -> Tuned:
    records: Mapping[str, Record] = result.records
    return Tuned(
        plan=Plan.of(result.plans, overlay),
        objective=result.objective,
        default=result.default,
        best=result.best,
        trials=result.trials,
        measured=result.measured,
        refused=result.refused,
        origins={name: (record.trial, record.origin) for name, record in records.items()},
    )
