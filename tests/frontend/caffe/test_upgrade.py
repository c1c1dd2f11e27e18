"""Old forms of network files against the published inputs and outputs of Caffe's own upgrade."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tilewright.errors import FaultList, ModelError
from tilewright.frontend.caffe import read_caffe
from tilewright.frontend.caffe.records import Record, to_record
from tilewright.frontend.caffe.text import parse_text
from tilewright.frontend.caffe.upgrade import upgrade

Plain = dict[str, object]


def plain(record: Record) -> Plain:
    """Values and blocks of a record without lines, for comparison."""
    found: Plain = {**record.values, "unknown": sorted(f.name for f in record.unknown)}
    for name, children in record.records.items():
        found[name] = [plain(child) for child in children]
    return found


def upgraded(text: str) -> Plain:
    faults = FaultList()
    record = to_record(upgrade(parse_text(text), faults, "net"), "NetParameter", faults, "net")
    faults.raise_if_any(ModelError)
    return plain(record)


def published_cases(shared_data: Path) -> list[tuple[str, str, str]]:
    """(test, old text, newer text), taken out of the C++ source: calls name the string constants before
    them.
    """
    source = (shared_data / "caffe" / "prototxt_only" / "bvlc_test_upgrade_proto.cpp.txt").read_text()
    cases = []
    for test in source.split("TEST_F(")[1:]:
        literals = {
            name: "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', body))
            for name, body in re.findall(r"const string& (\w+) =\s*((?:\"[^\n]*\"\s*)+);", test)
        }
        for old, new in re.findall(r"Run\w+UpgradeTest\((\w+),\s*(\w+)\)", test):
            if "solver" not in test.split(")")[0].lower():
                cases.append((test.split(")")[0], literals[old], literals[new]))
    return cases


def test_published_upgrades(shared_data: Path) -> None:
    cases = published_cases(shared_data)
    assert len(cases) == 8
    for name, old, new in cases:
        assert upgraded(old) == upgraded(new), name
        assert upgraded(old)["layer"], name


V0 = """
name: "old" input: "data" input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 9
layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "padded" }
layers { layer { name: "conv" type: "conv" num_output: 4 kernelsize: 3 stride: 2 blobs_lr: 1 } bottom:
"padded" top: "conv" } layers { layer { name: "relu" type: "relu" } bottom: "conv" top: "conv" }
layers { layer { name: "fc" type: "innerproduct" num_output: 5 biasterm: false } bottom: "conv" top: "fc" }
layers { layer { name: "prob" type: "softmax" } bottom: "fc" top: "prob" }
"""
V1 = """
name: "old" input: "data" input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 9
layers { name: "conv" type: CONVOLUTION convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 }
         bottom: "data" top: "conv" }
layers { name: "relu" type: 18 bottom: "conv" top: "conv" }
layers { name: "fc" type: INNER_PRODUCT inner_product_param { num_output: 5 bias_term: false } bottom: "conv"
top: "fc" } layers { name: "prob" type: SOFTMAX bottom: "fc" top: "prob" }
"""
V2 = """
name: "old" input: "data" input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 9
layer { name: "conv" type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 }
        bottom: "data" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" inner_product_param { num_output: 5 bias_term: false } bottom: "conv"
top: "fc" } layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


def test_three_generations_give_one_model(tmp_path: Path) -> None:
    models = []
    for text in (V0, V1, V2):
        path = tmp_path / "net.prototxt"
        path.write_text(text, encoding="utf-8")
        models.append(read_caffe(path, 3).model.SerializeToString(deterministic=True))
    assert models[0] == models[1] == models[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "layers { name: 'a' type: CONVOLUTOIN }",
            "net, line 1: 'CONVOLUTOIN' is no layer type of the old form `layers { ... }`; did you mean "
            "'CONVOLUTION'?",
        ),
        (
            "layers { name: 'a' type: 'ReLU' }",
            "net, line 1: 'ReLU' is no layer type of the old form `layers { ... }`; write `layer` instead "
            "of `layers` "
            "where the type is a quoted string",
        ),
        ("layers { name: 'a' }", "net, line 1: the layer has no type"),
        (
            "layers { name: 'a' type: 99 }",
            "net, line 1: '99' is no layer type of the old form `layers { ... }`",
        ),
        (
            "layer { name: 'a' }\nlayers { name: 'b' type: RELU }",
            "net, line 2: the file mixes `layer` (today's form) and `layers` (the old form); use one of them",
        ),
        (
            "layers { layer { type: 'relu' } }\nlayers { type: RELU }",
            "net, line 2: the file mixes two old forms of `layers`",
        ),
        (
            "layers { layer { type: 'relu' kernelsize: 3 } }",
            "net, line 1: field 'kernelsize' does not belong to a V0 layer of type 'relu'",
        ),
        (
            "layers { layer { type: 'padding' pad: 1 } bottom: 'a' top: 'b' }\nlayers { layer { type: "
            "'relu' } bottom: 'b' }",
            "net, line 2: a padding layer feeds type 'relu': only conv and pool can pad",
        ),
        (
            "layers { layer { type: 'padding' pad: 1 } }",
            "net, line 1: a padding layer needs a bottom and a top",
        ),
    ],
)
def test_faults_of_old_files(text: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        upgraded(text)
    assert str(caught.value) == message
