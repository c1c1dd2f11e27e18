"""Passes by name give what the compiler gives; levels are written and read back; damage by a pass is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tests.cli.commands import document, invoke, small_model

import tilewright as tw
from tilewright.errors import ConfigError, ModelError, UnsupportedModel, VerificationError
from tilewright.frontend.model import load
from tilewright.opt import PASSES, State, Watch, optimise, sequence, start
from tilewright.opt.registry import PassRow
from tilewright.opt.spec import Call
from tilewright.opt.text import WRITERS, check_suffix, show
from tilewright.quantize import factors
from tilewright.quantize.options import QuantizeOptions
from tilewright.targets.isa.codec import encode_stream
from tilewright.targets.listing import assemble, region_listing

OVERLAY = tw.overlay("ultra96-w8")
IMAGES = np.random.default_rng(3).standard_normal((4, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("opt") / "images.npz"
    np.savez(path, images=(IMAGES * 40 + 128).clip(0, 255).astype(np.uint8), labels=np.zeros(4, np.int64))
    return str(path)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("opt") / "net.onnx")


@pytest.fixture(scope="module")
def quantised(network: Path, calibration: str) -> tw.Model:
    return tw.quantize(tw.load(network), calibration, target=OVERLAY, layout="nchw")


def begin(path: Path, calibration: str | None = None) -> State:
    state = start(path, OVERLAY)
    state.calibration, state.layout = calibration, "nchw"
    return state


def run(state: State, text: str, **watch: Any) -> State:
    optimise(state, sequence(text, state.level), Watch(**watch))
    return state


def test_default_sequence_gives_what_compile_gives(
    network: Path, quantised: tw.Model, calibration: str
) -> None:
    state = begin(network, calibration)
    optimise(state, sequence(None, state.level))
    assert state.package is not None and state.level == "package"
    assert state.package.to_bytes() == tw.compile(quantised, OVERLAY).to_bytes()


def test_rewrites_give_what_loading_gives(network: Path) -> None:
    state = begin(network)
    before = state.onnx().SerializeToString()
    run(state, "canonicalise")
    assert state.onnx().SerializeToString() == tw.load(network).proto.SerializeToString() != before


def test_equalisation_is_the_quantisers_first_step(tmp_path: Path) -> None:
    from tests.cli.commands import node, write_model

    rng = np.random.default_rng(1)
    weights = {
        "w1": (rng.standard_normal((8, 3, 3, 3)) * rng.uniform(0.1, 4, (8, 1, 1, 1))).astype(np.float32),
        "w2": rng.standard_normal((4, 8, 3, 3)).astype(np.float32),
    }
    nodes = [node("Conv", ["x", "w1"], ["a"]), node("Relu", ["a"], ["r"]), node("Conv", ["r", "w2"], ["y"])]
    path = write_model(tmp_path / "two.onnx", nodes, weights, {"x": (1, 3, 8, 8)}, ["y"])

    def result(text: str, **watch: Any) -> State:
        state = start(path, OVERLAY)
        state.calibration = "random:1"
        return run(state, text, **watch)

    apart = result("canonicalise,equalise,quantise{equalise=false}")
    together = result("canonicalise,quantise")
    results = [apart.onnx(), together.onnx()]
    for model in results:  # factors are told against the network before `quantise`, which differs
        kept = [p for p in model.metadata_props if p.key != factors.KEY]
        del model.metadata_props[:]
        model.metadata_props.extend(kept)
    assert results[0].SerializeToString() == results[1].SerializeToString()
    assert result("canonicalise,quantise{equalise=false}").onnx() != together.onnx()
    # What equalisation does to a float network is rounding, and as such it is verified.
    (ran,) = optimise(result("canonicalise"), sequence("equalise", "float"), Watch(verify=True))
    (found,) = ran.comparisons
    assert found.keeps == "rounding" and 0 < found.largest <= found.allowed < 1000 * found.largest


@pytest.mark.slow
def test_every_pass_is_verified(network: Path, calibration: str) -> None:
    state = begin(network, calibration)
    ran = optimise(state, sequence(None, "float"), Watch(verify=True))
    kept = {r.name: r.comparisons[-1] for r in ran if r.comparisons}
    assert (
        kept["add_bias"].keeps == "rounding" and kept["add_bias"].largest <= kept["add_bias"].allowed < 0.02
    )
    assert kept["quantise"].snr > 20
    assert (kept["qdq_to_integer"].keeps, kept["qdq_to_integer"].allowed) == ("steps", 1)
    for name in ("partition", "emit"):
        assert (kept[name].keeps, kept[name].largest, kept[name].allowed) == ("bits", 0, 0)


def planted(name: str, damage: Callable[[State], None]) -> Call:
    """The pass `name`, after which its result is damaged."""
    row = PASSES[name]

    def damaged(state: State, options: Mapping[str, Any]) -> bool:
        row.run(state, options)
        damage(state)
        return True

    return Call(dataclasses.replace(row, run=damaged), {})


def scaled_weight(state: State) -> None:
    graph = state.rewritable()
    name = next(n for n, a in graph.constants.items() if a.ndim == 4)
    weight = graph.constants[name].copy()
    weight[0] *= 1.01
    graph.set_constant(name, weight)


def swapped_scale(state: State) -> None:
    text = state.onnx()
    graph = state.rewritable()
    name = next(n for n, a in graph.constants.items() if n.endswith("_scale") and a.ndim == 0)
    graph.set_constant(name, np.asarray(graph.constants[name] * np.float32(1.1)))
    assert state.onnx() != text


def other_scale(state: State) -> None:
    """As if the pass had read the scale of the first layer's results wrong."""
    other = State("quantised", OVERLAY, model=state.model)
    swapped_scale(other)
    run(other, "import,qdq_to_integer")
    state.module = other.module


def other_row(state: State) -> None:
    """A MATRIX instruction reads its map a row higher."""
    text = region_listing(state.streams[0]).replace("offset_y=3", "offset_y=2", 1)
    (found,) = assemble(text)
    state.streams = (dataclasses.replace(state.streams[0], stream=found.stream),)


@pytest.mark.parametrize(
    ("before", "name", "damage"),
    [
        ("canonicalise", "remove_dead", scaled_weight),
        ("canonicalise,quantise", "remove_dead", swapped_scale),
        pytest.param("canonicalise,quantise,import", "qdq_to_integer", other_scale, marks=pytest.mark.slow),
        ("canonicalise,quantise,import,lower,plan", "emit", other_row),
    ],
)
def test_damage_is_found(
    network: Path, calibration: str, before: str, name: str, damage: Callable[[State], None]
) -> None:
    state = run(begin(network, calibration), before)
    with pytest.raises(VerificationError) as error:
        optimise(state, [planted(name, damage)], Watch(verify=True))
    text = str(error.value)
    assert text.startswith(f"pass {name}: expected a difference of at most ")
    assert text.endswith(f"; look at what it did: --print-before {name} --print-after {name}")


def test_every_level_is_written_and_read_back(network: Path, calibration: str, tmp_path: Path) -> None:
    """What is read back leads to the same stream as what was written."""
    state = run(begin(network, calibration), "canonicalise,quantise")
    whole = run(begin(network, calibration), "canonicalise,quantise,import,lower,plan,emit")
    steps = [
        (".onnx", "import,lower,plan,emit"),
        (".textproto", "import,lower,plan,emit"),
        ("import", ".json", "lower,plan,emit"),
        ("", ".py", "lower,plan,emit"),
        ("qdq_to_integer", ".json", "collapse_layouts,partition,plan,emit"),
        ("", ".py", "collapse_layouts,partition,plan,emit"),
        ("collapse_layouts,partition", ".json", "plan,emit"),
        ("", ".py", "plan,emit"),
    ]
    for *passes, suffix, rest in steps:
        if passes and passes[0]:
            run(state, passes[0])
        path = tmp_path / f"net{suffix}"
        path.write_bytes(check_suffix(state.level, path)(state))
        again = start(path, OVERLAY, trust_script=True)
        assert again.level == state.level
        run(again, rest)
        assert [r.stream for r in again.streams] == [r.stream for r in whole.streams], (suffix, rest)
        assert [r.constants for r in again.streams] == [r.constants for r in whole.streams]
    run(state, "plan")
    plan = tmp_path / "plan.json"
    plan.write_bytes(check_suffix("planned", plan)(state))
    state.level = "regions"
    run(state, f"plan{{file={plan}}},emit")
    assert state.streams == whole.streams
    assert [found.stream for found in assemble(show(state))] == [r.stream for r in whole.streams]
    assert encode_stream([]) == b"" and set(WRITERS[("package",)]) == {".twp", ".lst"}


def test_relax_without_its_model(network: Path, quantised: tw.Model, tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    path.write_text(tvm.ir.save_json(quantised.relax()), encoding="utf-8")
    state = run(start(path, OVERLAY), "lower,plan,emit")
    with pytest.raises(
        UnsupportedModel, match=r"^graph: a package needs the ONNX model that Relax came from; give "
    ):
        run(state, "link")


def test_script_is_not_run_unasked(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        start(path, OVERLAY)
    assert str(error.value) == (
        f"{path}: reading TVM script runs the file as Python; "
        "give --trust-script for a file of your own, or write it as .json"
    )
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("suffix", "data", "text"),
    [
        (".json", b"{}", "expected a Relax module: Invalid JSON Object Graph"),
        (".json", b"[", "expected a Relax module: "),
        (
            ".json",
            tvm.ir.save_json(tvm.ir.IRModule({})).encode(),
            "expected a module with a function main, found IRModule",
        ),
        (".json", b"\xff\xfe", "expected text: invalid start byte"),
        (".textproto", b"ir_version: x", "expected the text of an ONNX model: "),
        (".py", b"1 +", "expected a Relax module: "),
    ],
)
def test_damaged_levels(tmp_path: Path, suffix: str, data: bytes, text: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(data)
    with pytest.raises(ModelError) as error:
        start(path, OVERLAY, trust_script=True)
    assert str(error.value).startswith(f"{path}: {text}")
    assert str(error.value).endswith("; give a file that `tilewright opt -o` wrote")


def test_command_tells_what_passes_did(network: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.txt"
    result = invoke("opt", network, "-p", "canonicalise", "--print-after", "all", "--time-passes", "-o", out)
    assert result.exit_code == 0, result.output
    assert "=== after add_bias (level float)\n<\n" in result.stderr
    assert result.stdout.count("add_bias") == 1 and "passes " in result.stdout
    assert result.stdout.rstrip().endswith("level float")
    assert "Conv" in out.read_text(encoding="utf-8")
    found = document(invoke("opt", network, "-p", "add_bias", "--verify-each", "--json"))
    assert found["level"] == "float"
    (row,) = found["passes"]
    assert (row["name"], row["changes"], row["verified"][0]["keeps"]) == ("add_bias", 1, "rounding")


def test_command_prints_the_level(network: Path) -> None:
    result = invoke("opt", network, "-p", "remove_dead")
    assert result.exit_code == 0
    assert (
        result.stdout.startswith("<\n   ir_version: 10")
        and "Conv" in result.stdout
        and len(result.stdout) < 4000
    )


def test_command_refuses_before_it_runs(network: Path, tmp_path: Path) -> None:
    result = invoke(
        "opt", network, "-p", "fold_pda,quantise{bits=x}", "--print-after", "n", "-o", tmp_path / "a.json"
    )
    assert result.exit_code == 2
    assert result.stderr == (
        "error: 3 faults\n"
        "  -p: there is no pass 'fold_pda'; did you mean fold_pad?\n"
        "  -p quantise: expected int for bits, found 'x'; the default is 8\n"
        "  --print-after: there is no pass 'n'; --list has all\n"
    )
    result = invoke("opt", network, "-p", "fold_pad", "-o", tmp_path / "a.json")
    assert result.stderr == (
        "error: -o: expected a file of .onnx, .textproto, .txt for level float, found 'a.json'; "
        "choose one of these suffixes\n"
    )
    assert not (tmp_path / "a.json").exists()
    assert (
        invoke("opt").stderr
        == "error: opt: expected MODEL or --list; give a network, or --list for the passes\n"
    )
    result = invoke("opt", network)
    assert result.stderr == (
        "error: model net is float and needs a calibration set; "
        "give --calibration DIR or NPZ, or random:1 for studies of speed\n"
    )


def test_command_lists_passes() -> None:
    result = invoke("opt", "--list")
    assert result.exit_code == 0
    for row in PASSES.values():
        assert row.name in result.stdout
    found = document(invoke("opt", "--list", "--json"))
    names = [row["name"] for row in found["passes"]]
    assert names == list(PASSES)
    options = {f.name for f in dataclasses.fields(QuantizeOptions)}
    row = next(r for r in found["passes"] if r["name"] == "quantise")
    assert {o["name"] for o in row["options"]} == options


def test_passes_that_undo_each_other() -> None:
    def flip(state: State, options: Mapping[str, Any]) -> bool:
        return True

    row: PassRow = dataclasses.replace(PASSES["fold_pad"], name="flip", run=flip)
    from tilewright.opt.spec import Repeat

    state = State("float", OVERLAY)
    with pytest.raises(ConfigError) as error:
        optimise(state, [Repeat((Call(row, {}),))])
    assert str(error.value) == (
        "-p (flip)*: still changing after 64 rounds: passes undo each other's work; run them without ()*"
    )


def test_load_without_rewrites(network: Path) -> None:
    raw = load(network, rewrites=())
    assert [n.op_type for n in raw.proto.graph.node] == ["Conv", "Relu", "GlobalAveragePool", "Flatten"]
