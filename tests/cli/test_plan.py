"""`compile --plan`, `--save-plan` and `--tuned`, and plans from Python."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilewright as tw
from tests.cli.commands import DEMO, TARGET, document, fault, invoke
from tilewright.cli.output import write_file
from tilewright.targets.sim.program import Program
from tilewright.targets.sim.timing import run


@pytest.fixture(scope="module")
def digits(demo_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's quantised network."""
    quantised = tw.Package.load(demo_package).quantised_model
    assert quantised is not None
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    path.write_bytes(quantised)
    return path


def compiled(network: Path, folder: Path, *options: str | Path) -> tw.Package:
    path = folder / "net.twp"
    document(invoke("compile", network, *TARGET, "-o", path, "--json", *options))
    return tw.Package.load(path)


def cycles(package: tw.Package) -> int:
    return sum(run(Program(region.stream, package.overlay)).cycles for region in package.regions)


def outputs(package: tw.Package) -> dict[str, Any]:
    session = tw.Session(package)
    (x,) = package.inputs
    image = np.random.default_rng(3).uniform(-1, 1, x.shape).astype(np.float32)
    return dict(session.run({x.name: image}).outputs)


def part(document: dict[str, Any]) -> None:
    """Part the longest group before its last layer, and let nothing stay on chip."""
    groups: list[dict[str, Any]] = document["regions"][0]["groups"]
    for group in groups:
        group["keep"] = []
    at = max(range(len(groups)), key=lambda g: len(groups[g]["layers"]))
    longest = groups[at]
    assert len(longest["layers"]) > 1
    tail = {"layers": [longest["layers"].pop()], "stripes": 2}
    groups.insert(at + 1, tail)


def test_a_saved_plan_can_be_edited_and_given_back(digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    first = compiled(digits, tmp_path, "--save-plan", path)
    assert first.plan == path.read_text(encoding="utf-8")
    again = compiled(digits, tmp_path, "--plan", path)
    assert (again.plan, again.regions) == (first.plan, first.regions)

    changed = json.loads(path.read_text(encoding="utf-8"))
    part(changed)
    path.write_text(json.dumps(changed), encoding="utf-8")
    other_path = tmp_path / "used.json"
    other = compiled(digits, tmp_path, "--plan", path, "--save-plan", other_path)
    assert other.plan is not None
    assert json.loads(other.plan)["regions"][0]["groups"] != json.loads(first.plan)["regions"][0]["groups"]
    assert other.plan == other_path.read_text(encoding="utf-8")
    assert cycles(other) > cycles(first)
    expected, found = outputs(first), outputs(other)
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.twp", "plan.json", "used.json"]


def test_in_python(digits: Path, demo_package: Path) -> None:
    model, machine = tw.load(digits), tw.overlay("ultra96-w8")
    plan = tw.plan(model, machine)
    package = tw.Package.load(demo_package)
    assert package.plan == plan.text()
    assert tw.Plan.parse(package.plan, machine) == plan
    (region,) = plan.regions
    apart = [group.model_copy(update={"keep": ()}) for group in region.groups]
    changed = tw.Plan.of([region.model_copy(update={"groups": tuple(apart)})], machine)
    other = tw.compile(model, machine, plan=changed, strip=True)
    assert (other.plan, other.quantised_model) == (changed.text(), None)
    with pytest.raises(tw.TilewrightError, match=r"^plan: the plan was made for overlay ultra96-w8 "):
        tw.compile(model, "pynq-z1-w8", plan=plan)


def test_report_shows_the_plan_of_a_package(demo_package: Path) -> None:
    package = tw.Package.load(demo_package)
    assert package.plan is not None
    plan = tw.Plan.parse(package.plan, package.overlay)
    assert document(invoke("report", demo_package, "--json"))["plan"] == json.loads(package.plan)
    lines = invoke("report", demo_package).stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("groups of tilewright_0"))
    shown = lines[start + 1 : start + 1 + len(plan.regions[0].groups)]
    assert [line.split()[0] for line in shown] == [group.layers[0] for group in plan.regions[0].groups]


def test_report_of_a_package_without_a_plan(demo_package: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.twp"
    replace(tw.Package.load(demo_package), plan=None).save(path)
    assert "plan" not in document(invoke("report", path, "--json"))
    replace(tw.Package.load(demo_package), plan='{"schema": 1}').save(path)
    assert (
        fault(invoke("report", path))
        .splitlines()[1]
        .startswith(f"  {path}: section plan, overlay: is missing")
    )


def test_a_float_network_has_no_plan() -> None:
    with pytest.raises(tw.TilewrightError, match="expected a quantised model, found a float one"):
        tw.plan(tw.load(DEMO / "digits.onnx"))


def test_wrong_plans(digits: Path, demo_package: Path, tmp_path: Path) -> None:
    path, output = tmp_path / "plan.json", tmp_path / "net.twp"

    def message(target: str = "ultra96-w8") -> str:
        return fault(invoke("compile", digits, "--target", target, "-o", output, "--plan", path))

    assert message() == f"{path}: the plan cannot be read: No such file or directory; check the path"
    path.write_text("groups: none", encoding="utf-8")
    assert message().startswith(
        f"{path}: expected JSON: expected value at line 1 column 1; compare with a plan"
    )
    text = tw.Package.load(demo_package).plan
    assert text is not None
    path.write_text(text, encoding="utf-8")
    assert message("pynq-z1-w8").startswith(f"{path}: the plan was made for overlay ultra96-w8 (")

    changed = json.loads(text)
    (region,) = changed["regions"]
    first, *rest = (layer for group in region["groups"] for layer in group["layers"])
    region["groups"] = [{"layers": [first], "stripes": 10**9, "keep": ["nobody"]}, {"layers": rest}]
    changed["regions"].append({"region": "tail", "groups": []})
    path.write_text(json.dumps(changed), encoding="utf-8")
    where = f"  plan of tilewright_0, group 1 ({first}): "
    assert message().splitlines() == [
        "3 faults",
        "  plan: the network has no region tail; it has tilewright_0; take it out, or plan the network anew",
        f"{where}no map nobody to keep; use the name of a layer or input",
        f"{where}expected stripes from 1 to 16, found 1000000000; there are no more rows",
    ]
    assert not output.exists()


def test_options_that_contradict(digits: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.twp"

    def message(*options: str | Path) -> str:
        return fault(invoke("compile", digits, *TARGET, "-o", output, *options))

    assert message("--plan", "a", "--tuned", "b") == (
        "expected one plan, found --plan and --tuned; leave one of them out"
    )
    assert message("--save-plan", output) == (
        "--save-plan: the plan would overwrite the package; name another file"
    )
    missing = tmp_path / "no" / "plan.json"
    assert message("--save-plan", missing) == (
        f"{missing}: there is no folder {tmp_path / 'no'}; choose another output"
    )
    assert not list(tmp_path.iterdir())


def test_the_best_plan_of_a_search(digits: Path, tmp_path: Path) -> None:
    log, best = tmp_path / "log.jsonl", tmp_path / "best.json"
    search = ("--backend", "analytic", "--trials", "12", "--jobs", "1", "--plan-out", best)
    document(invoke("tune", digits, *TARGET, "--log", log, *search, "--json"))
    assert compiled(digits, tmp_path, "--tuned", log).plan == best.read_text(encoding="utf-8")
    write_file(log, b"no log\n")
    message = fault(invoke("compile", digits, *TARGET, "-o", tmp_path / "net.twp", "--tuned", log))
    assert message.startswith(f"{log}")
