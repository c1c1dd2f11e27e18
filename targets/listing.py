"""Listings of a package's regions: disassembled with source layers, and assembled to the same bytes.

    ; region tilewright_0, 4 instructions
    LOAD base=INPUT n2=32 give=MATRIX  ; conv1
    ...

The line of a region names it; the instructions up to the next such line are its stream (`isa/listing.py`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from tilewright.errors import EncodingError, Fault, FaultList
from tilewright.targets.isa.codec import decode_stream, encode_stream
from tilewright.targets.isa.listing import line, parse_listing, read_name, write_name
from tilewright.targets.package import Package
from tilewright.targets.region import CompiledRegion

_HEAD = re.compile(r";\s*region\s+(?P<name>.*?),\s*[0-9]+ instructions?\s*")


@dataclass(frozen=True)
class Assembled:
    """A region's stream from a listing.

    Attributes:
        name: of the region; "" where the listing has no such line.
        stream: encoded instructions.
        layers: source layer of each instruction, "" where its line names none.
    """

    name: str
    stream: bytes
    layers: tuple[str, ...]


def region_listing(region: CompiledRegion, layers: Collection[str] = ()) -> str:
    """A region's listing; with `layers` only their instructions. Raises EncodingError for bytes that do not decode."""
    rows = [
        line(instruction, region.layers[layer])
        for instruction, layer in zip(decode_stream(region.stream), region.layer_of, strict=True)
        if not layers or region.layers[layer] in layers
    ]
    count = f"{len(rows)} instruction{'s' if len(rows) != 1 else ''}"
    return "\n".join([f"; region {write_name(region.name)}, {count}", *rows]) + "\n"


def disassemble(package: Package, regions: Sequence[str] = (), layers: Sequence[str] = ()) -> str:
    """The listing of a package's regions; of those named only, and of the layers named only.

    Raises EncodingError with every name that the package does not have.
    """
    faults = FaultList()
    chosen = [r for r in package.regions if not regions or r.name in regions]
    known = {
        "region": [r.name for r in package.regions],
        "layer": [n for r in chosen or package.regions for n in r.layers],
    }
    for kind, names in (("region", regions), ("layer", layers)):
        for name in names:
            if name not in known[kind]:
                faults.add(
                    f"there is no {kind} {name!r}",
                    where=f"package {package.name}",
                    remedy=_near(name, known[kind]),
                )
    faults.raise_if_any(EncodingError)
    shown = [r for r in chosen if not layers or set(layers) & {r.layers[i] for i in r.layer_of}]
    return "\n".join(region_listing(region, layers) for region in shown)


def assemble(text: str) -> list[Assembled]:
    """The regions of a listing. Raises EncodingError with all faults, each with its line."""
    blocks: list[tuple[str, int, list[str]]] = [("", 1, [])]
    faults = FaultList()
    for number, row in enumerate(text.split("\n"), 1):
        head = _HEAD.fullmatch(row.strip())
        if head is None:
            blocks[-1][2].append(row)
            continue
        try:
            name = read_name(head["name"])
        except EncodingError as error:
            faults.faults += [Fault(f.message, f"line {number}") for f in error.faults]
            name = head["name"]
        if name in (block[0] for block in blocks[1:]):
            faults.add(f"region {name!r} is listed twice", where=f"line {number}", remedy="leave one out")
        blocks.append((name, number + 1, []))
    found: list[Assembled] = []
    for name, first, rows in blocks:
        try:
            instructions, layers = parse_listing("\n".join(rows), first)
        except EncodingError as error:
            faults.faults += error.faults
            continue
        if name or instructions:
            found.append(Assembled(name, encode_stream(instructions), tuple(layers)))
    if not found and not faults:
        faults.add(
            "there is no instruction",
            where="listing",
            remedy="compare with what `tilewright disassemble` prints",
        )
    faults.raise_if_any(EncodingError)
    return found


def replaced(package: Package, listed: Iterable[Assembled]) -> Package:
    """The package with the streams of a listing.

    Instructions without a layer belong to that of the one before. Raises EncodingError for regions it does not have.
    """
    regions = {region.name: region for region in package.regions}
    faults = FaultList()
    for block in listed:
        if not block.name and len(regions) == 1:
            block = replace(block, name=next(iter(regions)))
        if block.name not in regions:
            faults.add(
                f"there is no region {block.name!r}",
                where=f"package {package.name}",
                remedy=_near(block.name, regions),
            )
            continue
        region = regions[block.name]
        names = list(region.layers)
        layer_of: list[int] = []
        for name in block.layers:
            if name and name not in names:
                names.append(name)
            layer_of.append(names.index(name) if name else (layer_of[-1] if layer_of else 0))
        regions[block.name] = replace(
            region, stream=block.stream, layers=tuple(names), layer_of=tuple(layer_of)
        )
    faults.raise_if_any(EncodingError)
    return replace(package, regions=tuple(regions[r.name] for r in package.regions))


def _near(name: str, known: Iterable[str]) -> str:
    names = list(dict.fromkeys(known))
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names[:20]) or 'none'}"
