"""The text reader: protobuf's grammar, every fault with its line, and protobuf's own reader as reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from tilewright.errors import FaultList, ModelError
from tilewright.frontend.caffe.records import Record, to_record
from tilewright.frontend.caffe.schema import ENUMS, MESSAGES
from tilewright.frontend.caffe.text import MAX_DEPTH, Scalar, parse_text


def typed(text: str) -> Record:
    faults = FaultList()
    record = to_record(parse_text(text, "net"), "NetParameter", faults, "net")
    faults.raise_if_any(ModelError)
    return record


def test_grammar() -> None:
    record = typed(
        """\ufeff# a comment; input: "no"
        name: "a" 'b'  # joined
        input: ["x", 'y'], input: "\\x41\\102\\n\\"";
        input_dim: [1, 0x10, 010] input_dim: -2
        layer < name: "l" power_param: { power: 1e-1f, scale: .5 shift: -2. } >
        layer { bottom: [] pooling_param { pool: AVE pad: 1 global_pooling: true } eltwise_param { operation:
        2 } }
        """
    )
    assert record.word("name") == "ab"
    assert record.words("input") == ["x", "y", 'AB\n"']
    assert record.integers("input_dim") == [1, 16, 8, -2]
    first, second = record.children("layer")
    power = first.child("power_param")
    assert (power.number("power"), power.number("scale"), power.number("shift")) == (0.1, 0.5, -2.0)
    pool = second.child("pooling_param")
    assert (pool.word("pool"), pool.integers("pad"), pool.flag("global_pooling")) == ("AVE", [1], True)
    assert second.child("eltwise_param").word("operation") == "MAX"
    assert second.child("lrn_param").number("beta") == 0.75  # the schema's default
    assert not second.has("lrn_param")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: ",
            "net, line 1: expected a value of field 'name', found the end of the file; the file may be cut "
            "short",
        ),
        (
            "layer {\n name: 'a'\n",
            "net, line 2: expected '}' for the block opened in line 1, found the end of the file; "
            "the file may be cut short",
        ),
        ("name 'a'", "net, line 1: expected ':' or '{' after 'name', found 'a'"),
        ("layer { } }", "net, line 1: expected a field name, found '}'"),
        ("layer { >", "net, line 1: expected a field name, found '>'"),
        ("name: }", "net, line 1: expected a value of field 'name', found '}'"),
        (
            "\n\nname: 'a\n",
            'net, line 3: expected a field of protobuf text, found "\'a\\n"; check that the file is a '
            "prototxt",
        ),
        ("input: ['a' 'b' 3]", "net, line 1: expected ',' or ']' in the list of field 'input', found '3'"),
        (
            "layer: [{ }]",
            "net, line 1: a list of blocks for field 'layer' is not read; write `layer { ... }` once for "
            "each",
        ),
        ("a {" * 200, f"net, line 1: blocks nest deeper than {MAX_DEPTH}"),
        ("12: 3", "net, line 1: expected a field name, found '12'"),
    ],
)
def test_grammar_faults(text: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse_text(text, "net")
    assert str(caught.value) == message


def test_all_faults_of_types_at_once() -> None:
    text = """
    input_dim: "3"
    input_dim: 1.5
    layer {
      name: relu
      top: 1
      relu_param { negative_slope: big }
      relu_param { negative_slope: 1e60 }
      pooling_param: 3
      convolution_param { num_output: -1 bias_term: 2 num_output: 99999999999 }
      lrn_param { norm_region: NOWHERE }
      concat_param { axis: { } }
      slice_param { axis: 1 axis: 2 }
      elu_param { alpha: nan }
    }
    """
    with pytest.raises(ModelError) as caught:
        typed(text)
    number = "0..4294967295"
    assert [str(f) for f in caught.value.faults] == [
        "net, line 2: field 'input_dim': expected a number, found '3'",
        "net, line 3: field 'input_dim': expected an integer, found '1.5'",
        "net, line 5: field 'name': expected a quoted string, found 'relu'",
        "net, line 6: field 'top': expected a quoted string, found '1'",
        "net, line 7: field 'negative_slope': expected a number, found 'big'",
        "net, line 8: field 'negative_slope': expected a finite 32-bit number, found '1e60'",
        "net, line 8: field 'relu_param' of LayerParameter is given twice",
        "net, line 9: field 'pooling_param': expected a block { ... }, found a value",
        f"net, line 10: field 'num_output': expected an integer of {number}, found '-1'",
        "net, line 10: field 'bias_term': expected true or false, found '2'",
        f"net, line 10: field 'num_output': expected an integer of {number}, found '99999999999'",
        "net, line 11: field 'norm_region': expected one of ACROSS_CHANNELS, WITHIN_CHANNEL, found 'NOWHERE'",
        "net, line 12: field 'axis': expected a value, found a block { ... }",
        "net, line 13: field 'axis' of SliceParameter is given twice",
        "net, line 14: field 'alpha': expected a finite 32-bit number, found 'nan'",
    ]


def test_integers_of_thousands_of_digits() -> None:
    with pytest.raises(ModelError, match="field 'input_dim': expected a number, found '999"):
        typed("input_dim: " + "9" * 5000)


def protobuf_schema() -> dict[str, Any]:
    """Our table as protobuf messages, so that protobuf's reader can read the same files."""
    proto = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="text.proto", package="t", syntax="proto2")
    kinds = {"int": "INT64", "uint": "UINT32", "float": "FLOAT", "bool": "BOOL", "str": "STRING"}
    for name, words in ENUMS.items():
        entry = file.enum_type.add(name=f"E{name}")
        for word, number in words.items():
            entry.value.add(name=f"{name}_{word}", number=number)
    for message, rows in MESSAGES.items():
        added = file.message_type.add(name=message)
        for number, row in enumerate((r for r in rows.values() if r.kind in (*kinds, "message")), 1):
            label = proto.LABEL_REPEATED if row.repeated else proto.LABEL_OPTIONAL
            entry_field = added.field.add(name=row.name, number=number, label=label)
            if row.kind == "message":
                entry_field.type, entry_field.type_name = proto.TYPE_MESSAGE, f".t.{row.target}"
            else:
                entry_field.type = proto.Type.Value(f"TYPE_{kinds[row.kind]}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {m: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{m}")) for m in MESSAGES}


def same(record: Record, message: Any) -> int:
    """Compare a record with protobuf's message; returns the number of values compared."""
    count = 0
    for name, row in MESSAGES[record.message].items():
        if row.kind == "message":
            children = (
                list(getattr(message, name))
                if row.repeated
                else [getattr(message, name)] * message.HasField(name)
            )
            assert len(children) == len(record.records.get(name, [])), name
            count += sum(same(a, b) for a, b in zip(record.records.get(name, []), children, strict=True))
        elif row.kind in ("int", "uint", "float", "bool", "str"):
            theirs = (
                list(getattr(message, name))
                if row.repeated
                else [getattr(message, name)] * message.HasField(name)
            )
            ours = record.values.get(name, [])
            expected = pytest.approx(theirs, rel=1e-7) if row.kind == "float" else theirs  # theirs is float32
            assert ours == expected, name
            count += len(ours)
    return count


def test_same_values_as_protobufs_own_reader(shared_data: Path) -> None:
    schema = protobuf_schema()
    files = sorted((shared_data / "caffe").rglob("*.prototxt"))
    assert len(files) > 15
    for path in files:
        text = path.read_text(encoding="utf-8")
        message = text_format.Parse(text, schema["NetParameter"](), allow_unknown_field=True)
        assert same(typed(text), message) > 30, path.name


def test_a_scalar_keeps_its_kind() -> None:
    values = [f.value for f in parse_text("a: 'MAX' a: MAX a: 1 a: -inf").fields]
    assert values == [
        Scalar("MAX", "string"),
        Scalar("MAX", "word"),
        Scalar("1", "number"),
        Scalar("-inf", "word"),
    ]
