"""Read a network at any level, and run passes over it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tilewright.errors import ConfigError, Fault, FaultList
from tilewright.frontend.model import Model, load, of_proto
from tilewright.opt.equivalence import Checker, Comparison
from tilewright.opt.registry import DEFAULTS, PASSES, relax_level
from tilewright.opt.spec import Call, Item, Repeat, check_levels, near, parse
from tilewright.opt.state import Level, State
from tilewright.opt.text import check_suffix, read_onnx_text, read_relax, show
from tilewright.targets.config import Overlay

ALL = "all"
_ROUNDS = 64
"""Rounds of a repeated sequence; passes that undo each other's work would go on for ever."""


@dataclass
class Ran:
    """What a pass did.

    Attributes:
        name: of the pass.
        level: where it ran.
        runs, changes: how often it ran, and how often it changed something.
        seconds: of all runs.
        comparisons: of the runs that changed something, where each was verified.
    """

    name: str
    level: Level
    runs: int = 0
    changes: int = 0
    seconds: float = 0.0
    comparisons: list[Comparison] = field(default_factory=list)


def start(
    path: Path,
    overlay: Overlay,
    load_model: Callable[[], Model] | None = None,
    trust_script: bool = False,
) -> State:
    """A network as it is read, before any pass.

    Args:
        path: a prototxt, ONNX, or what :func:`tilewright.opt.text.check_suffix` wrote.
        load_model: reads a prototxt or ONNX, with weights and preprocessing, without rewrites.
        trust_script: read TVM script, which runs as Python.

    Raises:
        ModelError, UnsupportedModel: see :func:`tilewright.load`.
        ConfigError: TVM script that is not trusted.
    """
    suffix = path.suffix.lower()
    if suffix in (".json", ".py"):
        module = read_relax(path, trust_script)
        level = relax_level(module)
        state = State(level, overlay, module=module, imported=module, name=path.stem)
        if level == "regions":
            from tilewright.relay_passes.regions import Regions, graphs_of
            from tilewright.relay_passes.supported import Stages

            state.regions = Regions(Stages(module, module, {}), module, graphs_of(module))
        return state
    if suffix == ".textproto":
        model = of_proto(read_onnx_text(path), path.stem)
    else:
        model = load_model() if load_model is not None else load(path, rewrites=())
    return State("quantised" if model.is_quantised else "float", overlay, model=model, name=model.name)


@dataclass(frozen=True)
class Watch:
    """What is looked at while passes run.

    Attributes:
        before, after: names of passes before and after which the level is shown; "all" means each that changes it.
        show: takes a heading and the text.
        verify: compare results before and after each pass that changes something.
    """

    before: Collection[str] = ()
    after: Collection[str] = ()
    show: Callable[[str, str], None] = lambda heading, text: None
    verify: bool = False


_QUIET = Watch()


def sequence(
    text: str | None, level: Level, output: Path | None = None, watch: Watch = _QUIET
) -> tuple[Item, ...]:
    """The passes that a text asks for, by default those that the compiler runs, checked before anything runs.

    Raises ConfigError with everything that is wrong with them, with the names to be watched, or with the output.
    """
    faults = FaultList()
    items: tuple[Item, ...] = ()
    try:
        items = parse(DEFAULTS[level] if text is None else text)
    except ConfigError as error:
        faults.faults += error.faults
    for option, names in (("--print-before", watch.before), ("--print-after", watch.after)):
        for name in names:
            if name != ALL and name not in PASSES:
                faults.add(
                    f"there is no pass {name!r}",
                    where=option,
                    remedy=near(name, (ALL, *PASSES), "--list has all"),
                )
    if not faults:
        try:
            end = check_levels(items, level)
            if output is not None:
                check_suffix(end, output)
        except ConfigError as error:
            faults.faults += error.faults
    faults.raise_if_any(ConfigError)
    return items


def optimise(state: State, items: Sequence[Item], watch: Watch = _QUIET) -> list[Ran]:
    """Run a sequence over a network; what each pass did, in the order of their first run.

    Raises:
        VerificationError: a pass changed results more than it may, where that is verified.
        ConfigError: passes of a repeated sequence undo each other's work.
    """
    return _Runner(state, watch).run(items)


class _Runner:
    def __init__(self, state: State, watch: Watch) -> None:
        self.state = state
        self.watch = watch
        self.rows: dict[str, Ran] = {}
        self.checker = Checker(state) if watch.verify else None

    def run(self, items: Sequence[Item]) -> list[Ran]:
        for item in items:
            self.item(item)
        return list(self.rows.values())

    def item(self, item: Item) -> bool:
        if isinstance(item, Call):
            return self.call(item)
        return self.repeat(item)

    def repeat(self, item: Repeat) -> bool:
        # As the compiler: on a quantised network those run that leave its arithmetic alone.
        items = [i for i in item.items if isinstance(i, Repeat) or self.state.level in i.row.takes]
        for done in range(_ROUNDS):
            changes = [self.item(i) for i in items]
            if not any(changes):
                return done > 0
        raise ConfigError(
            Fault(
                f"still changing after {_ROUNDS} rounds: passes undo each other's work",
                f"-p {item}",
                "run them without ()*",
            )
        )

    def call(self, call: Call) -> bool:
        state, row, watch = self.state, call.row, self.watch
        level = state.level
        text = show(state) if {ALL, row.name} & set(watch.before) else ""
        begin = time.perf_counter()
        changed = row.run(state, call.options)
        seconds = time.perf_counter() - begin
        state.level = row.gives or level
        ran = self.rows.setdefault(row.name, Ran(row.name, level))
        ran.runs += 1
        ran.seconds += seconds
        ran.changes += changed
        if row.name in watch.before or (text and changed):
            watch.show(f"before {call} (level {level})", text)
        if row.name in watch.after or (ALL in watch.after and changed):
            watch.show(f"after {call} (level {state.level})", show(state))
        if changed and self.checker is not None:
            found = self.checker.check(row, level, state)
            if found is not None:
                ran.comparisons.append(found)
        return changed
