"""The package: what `compile` writes and the runtime runs. Data only: no pickle, no code, no Relax text.

All numbers little-endian.

| bytes | |
|---|---|
| 0..8 | magic `89 54 57 50 0D 0A 1A 0A`: a transfer as text changes it |
| 8..12 | u32 format version |
| 12..16 | u32 number of sections n |
| 16..24 | u64 size of the file |
| 24..56 | SHA-256 of bytes 0..24 and of the section table |
| 56.. | section table: n times a name of 32 bytes (UTF-8, padded with 0), u64 offset, u64 size, SHA-256 |
| .. | sections, one after the other in the table's order, nothing between and nothing behind |

| section | |
|---|---|
| overlay | JSON {"configuration", "hash"}: the whole overlay |
| info | JSON {"name", "tool_version", "random_weights", "random_calibration", "stripped"} |
| program | the host part (targets/program.py) |
| region/I, region/I/stream, region/I/constants | region I: record (targets/program.py), instructions, DRAM constants |
| preprocess | JSON, what is done to an image; optional |
| labels | JSON list of texts; optional |
| report | JSON: the compile report |
| plan | JSON: what was merged, cut and kept on chip (codegen/plan.py); optional, `strip` leaves it in |
| float_model, quantised_model | ONNX; left out by `strip` |
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tilewright.errors import ConfigError, Fault, FaultList, PackageError
from tilewright.targets.config import Overlay, overlays
from tilewright.targets.program import (
    HostProgram,
    HostTensor,
    decode_program,
    decode_region,
    encode_program,
    encode_region,
)
from tilewright.targets.region import CompiledRegion

MAGIC = b"\x89TWP\r\n\x1a\n"
FORMAT_VERSION = 3
NAME_BYTES = 32
_HEAD = struct.Struct("<8sIIQ")
_ENTRY = struct.Struct(f"<{NAME_BYTES}sQQ32s")
_DIGEST_BYTES = 32
_REMEDY = "copy the file again, or compile again"


@dataclass(frozen=True)
class Package:
    """A compiled network.

    Attributes:
        name: of the network.
        overlay: what it was compiled for.
        program: host part; its inputs and outputs are the network's.
        regions: accelerator regions, as the program numbers them.
        report: compile report (placement rows, totals), JSON.
        plan: the plan that it was compiled by, JSON text that `tilewright.Plan.parse` reads; None: nothing is known.
        preprocess: what is done to an image before it goes in, JSON; None: nothing is known.
        labels: names of the classes.
        float_model, quantised_model: ONNX bytes; None where there is none, or stripped.
        random_weights, random_calibration: the network is for studies of speed, its answers mean nothing.
        stripped: models were left out.
        tool_version: of the Tilewright that compiled it.
    """

    name: str
    overlay: Overlay
    program: HostProgram
    regions: tuple[CompiledRegion, ...]
    report: Mapping[str, Any] = field(default_factory=dict)
    plan: str | None = None
    preprocess: Mapping[str, Any] | None = None
    labels: tuple[str, ...] | None = None
    float_model: bytes | None = None
    quantised_model: bytes | None = None
    random_weights: bool = False
    random_calibration: bool = False
    stripped: bool = False
    tool_version: str = ""

    @property
    def inputs(self) -> tuple[HostTensor, ...]:
        """The network's inputs, the batch being their first dimension."""
        return self._tensors(self.program.inputs)

    @property
    def outputs(self) -> tuple[HostTensor, ...]:
        """The network's outputs, the batch being their first dimension."""
        return self._tensors(self.program.outputs)

    @property
    def batch(self) -> int:
        """Images of a run."""
        return self.program.batch

    def _tensors(self, numbers: Iterable[int]) -> tuple[HostTensor, ...]:
        found = (self.program.tensors[n] for n in numbers)
        if self.batch == 1:
            return tuple(found)
        return tuple(replace(tensor, shape=(self.batch, *tensor.shape[1:])) for tensor in found)

    def strip(self) -> Package:
        """The same without the float and quantised models."""
        return replace(self, float_model=None, quantised_model=None, stripped=True)

    def require_models(self, command: str) -> tuple[bytes | None, bytes]:
        """The float and the quantised model, for a command that compares with them.

        Raises PackageError, naming the command, where the package has no quantised model.
        """
        if self.quantised_model is None:
            raise PackageError(
                Fault(
                    f"`{command}` needs the quantised model, and this package "
                    + ("was stripped of it" if self.stripped else "has none"),
                    where=f"package {self.name}",
                    remedy="compile without --strip" if self.stripped else "compile again",
                )
            )
        return self.float_model, self.quantised_model

    def to_bytes(self) -> bytes:
        """The file's bytes; equal packages give equal bytes. Raises PackageError where the contents contradict."""
        self.program.check(len(self.regions))
        return _join(self._sections())

    def save(self, path: Path | str) -> int:
        """Write the file and give its size.

        Goes through a temporary file in the same folder, so no half-written package is ever seen. Raises
        PackageError where the folder is missing, not writable or full.
        """
        data, path = self.to_bytes(), Path(path)
        temporary: Path | None = None
        try:
            with tempfile.NamedTemporaryFile(
                dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False
            ) as file:
                temporary = Path(file.name)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # NamedTemporaryFile makes files that only their owner can read
            temporary.replace(path)
        except OSError as error:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    temporary.unlink()
            raise PackageError(
                Fault(
                    f"cannot write {len(data)} bytes: {error.strerror or error}",
                    where=str(path),
                    remedy="nothing was written; choose another output",
                )
            ) from error
        return len(data)

    @staticmethod
    def load(path: Path | str) -> Package:
        """Read and check a file. Raises PackageError, one message for each fault, for anything but a sound package."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise PackageError(Fault(f"cannot read: {error.strerror or error}", where=str(path))) from error
        return Package.from_bytes(data, str(path))

    @staticmethod
    def from_bytes(data: bytes, source: str = "package") -> Package:
        """Read and check the bytes of a file; `source` names it in messages. Raises PackageError."""
        try:
            package = _assemble(_split(data))
            package.program.check(len(package.regions))
        except PackageError as error:
            raise PackageError(
                *(
                    Fault(f.message, f"{source}: {f.where}" if f.where else source, f.remedy)
                    for f in error.faults
                )
            ) from error
        return package

    def _sections(self) -> dict[str, bytes]:
        info = {
            "name": self.name,
            "tool_version": self.tool_version,
            "random_weights": self.random_weights,
            "random_calibration": self.random_calibration,
            "stripped": self.stripped,
        }
        sections = {
            "overlay": _json({"configuration": self.overlay.to_dict(), "hash": self.overlay.hash}),
            "info": _json(info),
            "program": encode_program(self.program),
        }
        for number, region in enumerate(self.regions):
            sections[f"region/{number}"] = encode_region(region, self.overlay)
            sections[f"region/{number}/stream"] = region.stream
            sections[f"region/{number}/constants"] = region.constants
        if self.preprocess is not None:
            sections["preprocess"] = _json(self.preprocess)
        if self.labels is not None:
            sections["labels"] = _json(list(self.labels))
        sections["report"] = _json(self.report)
        if self.plan is not None:
            sections["plan"] = self.plan.encode()
        if self.float_model is not None:
            sections["float_model"] = self.float_model
        if self.quantised_model is not None:
            sections["quantised_model"] = self.quantised_model
        return sections


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _join(sections: Mapping[str, bytes]) -> bytes:
    table: list[bytes] = []
    offset = _HEAD.size + _DIGEST_BYTES + len(sections) * _ENTRY.size
    for name, data in sections.items():
        table.append(_ENTRY.pack(name.encode(), offset, len(data), hashlib.sha256(data).digest()))
        offset += len(data)
    head = _HEAD.pack(MAGIC, FORMAT_VERSION, len(sections), offset)
    return b"".join((head, hashlib.sha256(head + b"".join(table)).digest(), *table, *sections.values()))


def _split(data: bytes) -> dict[str, bytes]:
    """Sections by name, each checked against its checksum."""
    if data[: len(MAGIC)] != MAGIC:
        raise PackageError(
            Fault(f"not a Tilewright package: it starts with {data[:8]!r}", remedy="expected a .twp file")
        )
    if len(data) < _HEAD.size + _DIGEST_BYTES:
        raise PackageError(Fault(f"truncated: {len(data)} bytes do not hold the header", remedy=_REMEDY))
    _, version, count, size = _HEAD.unpack_from(data)
    if version not in (0, FORMAT_VERSION):
        raise PackageError(
            Fault(
                f"format version {version}: this Tilewright reads {FORMAT_VERSION}",
                remedy="update Tilewright, or compile again" if version > FORMAT_VERSION else "compile again",
            )
        )
    if len(data) < size:
        raise PackageError(Fault(f"truncated: expected {size} bytes, found {len(data)}", remedy=_REMEDY))
    if len(data) > size:
        raise PackageError(
            Fault(f"expected {size} bytes, found {len(data)}: something follows", remedy=_REMEDY)
        )
    start = _HEAD.size + _DIGEST_BYTES
    end = start + count * _ENTRY.size
    digest = data[_HEAD.size : start]
    if end > size or version < 1 or hashlib.sha256(data[: _HEAD.size] + data[start:end]).digest() != digest:
        raise PackageError(Fault("the header or section table is damaged (checksum)", remedy=_REMEDY))
    sections: dict[str, bytes] = {}
    faults = FaultList()
    for number in range(count):
        raw, offset, length, digest = _ENTRY.unpack_from(data, start + number * _ENTRY.size)
        name = raw.rstrip(b"\0").decode(errors="replace")
        if offset != end or length > size - offset or name in sections:
            raise PackageError(Fault(f"section {name!r} lies wrong or occurs twice", remedy=_REMEDY))
        end = offset + length
        sections[name] = data[offset:end]
        if hashlib.sha256(sections[name]).digest() != digest:
            faults.add("is damaged (checksum)", where=f"section {name}", remedy=_REMEDY)
    if end != size:
        faults.add(f"{size - end} bytes belong to no section", remedy=_REMEDY)
    faults.raise_if_any(PackageError)
    return sections


def _document(sections: dict[str, bytes], name: str, kind: type[Any]) -> Any:
    """A JSON section; the type of its outermost value is checked."""
    data = sections.pop(name, None)
    if data is None:
        raise PackageError(Fault("is missing", where=f"section {name}", remedy="compile again"))
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise PackageError(Fault(f"is not JSON: {error}", where=f"section {name}")) from error
    if not isinstance(value, kind):
        raise PackageError(
            Fault(f"expected a {kind.__name__}, found {type(value).__name__}", where=f"section {name}")
        )
    return value


def _field(document: Mapping[str, Any], key: str, kind: type[Any], section: str) -> Any:
    value = document.get(key)
    if not isinstance(value, kind):
        raise PackageError(
            Fault(f"expected a {kind.__name__} as {key!r}, found {value!r}", where=f"section {section}")
        )
    return value


def _overlay(sections: dict[str, bytes]) -> Overlay:
    """The package's overlay; an installed one of the same name has to be equal."""
    document = _document(sections, "overlay", dict)
    try:
        overlay = Overlay.from_dict(_field(document, "configuration", dict, "overlay"), "section overlay")
    except ConfigError as error:
        raise PackageError(*error.faults) from error
    digest = _field(document, "hash", str, "overlay")
    if digest != overlay.hash:
        raise PackageError(
            Fault(f"hash {digest} is not that of its configuration, {overlay.hash}", where="section overlay")
        )
    installed = overlays().get(overlay.name)
    if installed is not None and (differences := overlay.differences(installed)):
        raise PackageError(
            Fault(
                f"made for another {overlay.name} (here) than the installed one (there): "
                + ", ".join(differences),
                where="section overlay",
                remedy="compile again, or give the changed overlay a name of its own",
            )
        )
    return overlay


def _plan(sections: dict[str, bytes]) -> str:
    """The plan's text: a JSON object. What it says is looked at where it is used."""
    data = sections["plan"]
    _document(sections, "plan", dict)
    return data.decode()


def _assemble(sections: dict[str, bytes]) -> Package:
    overlay = _overlay(sections)
    info = _document(sections, "info", dict)
    if "program" not in sections:
        raise PackageError(Fault("is missing", where="section program", remedy="compile again"))
    program = decode_program(sections.pop("program"))
    regions: list[CompiledRegion] = []
    while (record := sections.pop(f"region/{len(regions)}", None)) is not None:
        parts = [sections.pop(f"region/{len(regions)}/{part}", None) for part in ("stream", "constants")]
        stream, constants = parts
        if stream is None or constants is None:
            raise PackageError(
                Fault("stream or constants are missing", where=f"section region/{len(regions)}")
            )
        regions.append(decode_region(record, stream, constants, overlay))
    preprocess = _document(sections, "preprocess", dict) if "preprocess" in sections else None
    labels = _document(sections, "labels", list) if "labels" in sections else None
    if labels is not None and not all(isinstance(text, str) for text in labels):
        raise PackageError(Fault("expected a list of texts", where="section labels"))
    package = Package(
        name=_field(info, "name", str, "info"),
        overlay=overlay,
        program=program,
        regions=tuple(regions),
        report=_document(sections, "report", dict),
        plan=_plan(sections) if "plan" in sections else None,
        preprocess=preprocess,
        labels=None if labels is None else tuple(labels),
        float_model=sections.pop("float_model", None),
        quantised_model=sections.pop("quantised_model", None),
        random_weights=_field(info, "random_weights", bool, "info"),
        random_calibration=_field(info, "random_calibration", bool, "info"),
        stripped=_field(info, "stripped", bool, "info"),
        tool_version=_field(info, "tool_version", str, "info"),
    )
    if sections:
        raise PackageError(
            Fault(f"unknown sections: {', '.join(sorted(sections))}", remedy="update Tilewright")
        )
    return package
