"""Texts of `-p`: read, written and refused with everything that is wrong with them."""

from __future__ import annotations

import pytest

from tilewright.errors import ConfigError
from tilewright.frontend import canonical
from tilewright.opt.api import Watch, sequence
from tilewright.opt.registry import DEFAULTS, PASSES, SEQUENCES
from tilewright.opt.spec import Call, Repeat, check_levels, describe, parse, write
from tilewright.opt.state import Level
from tilewright.quantize.options import Mixed, QuantizeOptions
from tilewright.relay_passes import pipeline as relax_pipeline


def message(text: str, level: Level = "float") -> str:
    with pytest.raises(ConfigError) as error:
        sequence(text, level)
    return str(error.value)


def test_typed_options() -> None:
    (call,) = parse(
        "quantise{ bits=4, mixed=points=1.5,activation_bits=none,percentile=99.5,equalise=false, method=entropy }"
    )
    assert isinstance(call, Call)
    assert call.options == {
        "bits": 4,
        "mixed": Mixed(points=1.5),
        "activation_bits": None,
        "percentile": 99.5,
        "equalise": False,
        "method": "entropy",
    }
    QuantizeOptions(**call.options)


@pytest.mark.parametrize(
    "text",
    [
        "fold_pad",
        "fold_constants,(fold_pad,(remove_dead)*)*,quantise{bits=4,mixed=width=5,edge_bits=none}",
        "qdq_to_integer{acc_bits=27}",
        "link{strip=true}",
    ],
)
def test_writing_inverts_reading(text: str) -> None:
    assert write(parse(text)) == text


def test_sequences_are_those_that_the_compiler_runs() -> None:
    (repeat,) = parse("canonicalise")
    assert isinstance(repeat, Repeat)
    assert [str(item) for item in repeat.items] == [p.name for p in canonical.PASSES]
    assert [str(item) for item in parse("lower")] == list(relax_pipeline.PASSES)
    for level, text in DEFAULTS.items():
        assert check_levels(parse(text), level) == (
            "package" if level in ("float", "quantised") else "stream"
        )


def test_every_pass_says_what_it_does() -> None:
    for row in PASSES.values():
        assert row.doc and ":`" not in row.doc and set(row.takes) <= set(row.keeps), row.name
    assert not set(PASSES) & set(SEQUENCES)
    assert (
        describe(PASSES["quantise"].options["method"]) == "method: minmax or percentile or entropy = minmax"
    )
    assert describe(PASSES["plan"].options["file"]) == "file: file or none = none"
    assert describe(PASSES["qdq_to_integer"].options["acc_bits"]) == "acc_bits: int = the overlay's"


def test_all_faults_at_once() -> None:
    assert message(
        "fold_padd,quantise{bit=4,method=max,share_ratio=x,bits=8,bits=4},lower{a=1},zzzz,link{strip=yes}"
    ) == (
        "-p: there is no pass 'fold_padd'; did you mean fold_pad?\n"
        "-p quantise: there is no option 'bit'; did you mean bits?\n"
        "-p quantise: expected minmax or percentile or entropy for method, found 'max'; the default is minmax\n"
        "-p quantise: expected float for share_ratio, found 'x'; the default is 8.0\n"
        "-p quantise: bits is given twice; leave one out\n"
        "-p: lower is a sequence and has no options; give them to one of its passes\n"
        "-p: there is no pass 'zzzz'; --list has all\n"
        "-p link: expected true or false for strip, found 'yes'; the default is false"
    )
    assert message("collapse_layouts{n=2}", "integer") == (
        "-p collapse_layouts: there is no option 'n'; it has none"
    )
    assert message("quantise{mixed=a}") == (
        "-p quantise: mixed: expected points=P or width=W, found 'a'; "
        "give points=1.0 for a loss of a point at most, or width=5 for 5 bits on average"
    )


EXAMPLE = "write for instance fold_constants,(fold_pad,remove_dead)*,quantise{bits=4}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "expected a pass, found the end"),
        ("fold_pad,", "expected a pass, found the end"),
        ("fold_pad fold_affine", "expected a pass, found 'fold_affine' at character 20"),
        ("(fold_pad", "expected )* behind a sequence in parentheses, found 'the end'"),
        ("(fold_pad)", "expected )* behind a sequence in parentheses, found ')'"),
        ("fold_pad-", "expected a pass, found '-' at character 9"),
        ("quantise{bits=4", "expected a pass, found '{' at character 9"),
    ],
)
def test_brackets_and_commas(text: str, found: str) -> None:
    assert message(text) == f"-p: {found}; {EXAMPLE}"


def test_levels() -> None:
    assert message("quantise,fold_pad,partition") == (
        "-p: fold_pad runs at level float, the network is at quantised there; no pass leads back up: put it earlier\n"
        "-p: partition runs at level integer, the network is at float there; "
        "put quantise, import, qdq_to_integer before it"
    )
    assert message("emit", "quantised") == (
        "-p: emit runs at level planned, the network is at quantised there; "
        "put import, qdq_to_integer, partition, plan before it"
    )
    assert message("(import)*", "quantised") == (
        "-p: a sequence that is repeated must end where it starts, found quantised to graph; "
        "take the pass that changes the level out of the parentheses"
    )


def test_names_that_are_watched() -> None:
    with pytest.raises(ConfigError) as error:
        sequence("fold_pad", "float", watch=Watch(before=["all", "fold_paf"], after=["qqq"]))
    assert str(error.value) == (
        "--print-before: there is no pass 'fold_paf'; did you mean fold_pad?\n"
        "--print-after: there is no pass 'qqq'; --list has all"
    )
