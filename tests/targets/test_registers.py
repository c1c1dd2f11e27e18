"""The register table: what is made of it, and that it contradicts neither itself nor the simulators."""

from __future__ import annotations

import hashlib
import json
import struct

from tilewright.targets import registers
from tilewright.targets.config import overlay, overlays
from tilewright.targets.register_text import HEADER, MANUAL, header, manual
from tilewright.targets.registers import ERRORS, PAGE_BYTES, REGISTERS, config_fields, config_words
from tilewright.targets.sim.fast import FaultKind


def test_header_and_manual_are_made_of_the_table() -> None:
    again = "; run `python -m tilewright.targets.register_text`"
    assert HEADER.read_text(encoding="utf-8") == header(), f"{HEADER.name} is old{again}"
    assert MANUAL.read_text(encoding="utf-8") == manual(), f"{MANUAL.name} is old{again}"


def test_registers_lie_apart_and_in_order() -> None:
    end = 0
    for register in REGISTERS:
        assert register.offset >= end and register.offset % (register.bits // 8) == 0, register
        end = register.offset + register.size
    assert end <= PAGE_BYTES
    assert len({r.name for r in REGISTERS}) == len(REGISTERS)


def test_configuration_holds_hash_and_every_field() -> None:
    capacity = registers.BY_NAME["CONFIG"].count
    for o in overlays().values():
        words = config_words(o)
        assert len(words) <= capacity
        data = struct.pack(f"<{len(words)}I", *words)
        canonical = json.dumps(dict(o.identity), sort_keys=True, separators=(",", ":")).encode()
        assert data[:32] == hashlib.sha256(canonical).digest()
        found: dict[str, int | str] = {}
        for field in config_fields():
            raw = data[4 * field.word : 4 * (field.word + field.words)]
            found[field.name] = raw.rstrip(b"\0").decode() if field.text else struct.unpack("<i", raw)[0]
        assert found == dict(o.identity)


def test_two_overlays_differ_in_the_words_of_their_fields() -> None:
    one, other = config_words(overlay("ultra96-w8")), config_words(overlay("ultra96-w4"))
    differing = {
        f.name for f in config_fields() if one[f.word : f.word + f.words] != other[f.word : f.word + f.words]
    }
    named = {d.partition(":")[0] for d in overlay("ultra96-w8").differences(overlay("ultra96-w4"))}
    assert differing == named


def test_error_codes_are_those_of_the_simulators() -> None:
    codes = {e.name: e.value for e in ERRORS}
    assert len(set(codes.values())) == len(ERRORS)
    shared = [k for k in FaultKind if k.name in codes]
    assert {k.name: int(k) for k in shared} == {k.name: codes[k.name] for k in shared}
    assert len(shared) == 10  # all but those that blame the caller or the host's memory
