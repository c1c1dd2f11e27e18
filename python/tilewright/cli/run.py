"""`tilewright run`: one input through a package."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tilewright.cli.console import clean_stdout, plain_table, say, write_json, write_table
from tilewright.cli.options import Json, PackagePath
from tilewright.cli.output import check_output, write_file
from tilewright.errors import ConfigError, DataError, FaultList

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tilewright.runtime import Package

    Array = NDArray[np.generic]

TOP = 5
_REMOTE = "Boards"


def run(
    package: PackagePath,
    sources: Annotated[
        list[str],
        typer.Option(
            "--input",
            metavar="IMG|NPY|NPZ",
            help="An image or uint8 array, which is preprocessed; a float32 array of the input's shape, which goes "
            "in as it is; an NPZ with an array for each input; or random:SEED. Can be repeated: a package compiled "
            "with --batch takes so many at a time.",
        ),
    ],
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            metavar="sim|reference",
            help="The fast or the reference simulator.",
            show_default="sim",
        ),
    ] = None,
    remote: Annotated[
        str | None,
        typer.Option(
            "--remote",
            metavar="HOST:PORT",
            help="Run on a board: of the RPC tracker at this address with --key, else of the server there (python -m "
            "tilewright.runtime.server --help).",
            rich_help_panel=_REMOTE,
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="K", help="The boards' key.", rich_help_panel=_REMOTE)
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="S",
            help="Seconds until a board is free, and for each run.",
            show_default="600",
            rich_help_panel=_REMOTE,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="F.npz", help="Where all outputs are written, by name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a package on one input, in the simulator or on a board.

    [bold]Examples[/bold]

      tilewright run squeezenet.twp --input cat.jpg

      tilewright run net.twp --input x.npy --backend reference --output y.npz --json

      tilewright run net.twp --input cat.jpg --remote 192.168.3.1:9190 --key ultra96
    """
    _check_remote(backend, remote, key, timeout)
    if output is not None:
        check_output(output)
    with clean_stdout(), contextlib.ExitStack() as stack:
        from tilewright.evaluation import input_shapes, package_feeds, package_preprocess
        from tilewright.frontend.dataset import load_input
        from tilewright.runtime import Package, Session

        loaded = Package.load(package)
        shapes, preprocess = input_shapes(loaded), package_preprocess(loaded)
        images = [load_input(source, input_shapes=shapes, preprocess=preprocess) for source in sources]
        if remote is None:
            device = backend or "sim"
            session = Session(loaded, device)
        else:
            from tilewright.runtime.remote import TIMEOUT_S, connect

            board = stack.enter_context(connect(remote, key or "", timeout=timeout or TIMEOUT_S))
            session, device = board.open(loaded), board.device
        results = session.run_images([package_feeds(loaded, feeds) for feeds in images])
        outputs = _stacked(results)
    warn_random(loaded)
    if output is not None:
        write_file(output, _npz(outputs))
    instructions = sum(
        len(loaded.regions[index].layer_of)
        for index in (step.attributes["index"] for step in loaded.program.steps if step.op == "region")
        if isinstance(index, int)
    )
    several = len(results) > 1
    top = [
        ({"image": number} if several else {}) | row
        for number, result in enumerate(results)
        for row in top_classes(result, loaded.labels)
    ]
    if as_json:
        described = [_describe(name, array) for name, array in outputs.items()]
        write_json({"backend": device, "outputs": described, "top": top, "instructions": instructions})
    elif top:
        columns = (*(["image"] if several else []), "class", "score")
        table = plain_table(*columns, "label", right=columns)
        for row in top:
            image = [sources[row["image"]]] if several else []
            table.add_row(*image, str(row["index"]), f"{row['score']:.4g}", row["label"] or "")
        write_table(table)
    else:
        table = plain_table("output", "shape", "type", "least", "greatest", right=("least", "greatest"))
        for name, array in outputs.items():
            ends = [f"{v:.6g}" for v in (array.min(), array.max())] if array.size else ["", ""]
            table.add_row(name, "x".join(map(str, array.shape)), array.dtype.name, *ends)
        write_table(table)


def _check_remote(backend: str | None, remote: str | None, key: str | None, timeout: float | None) -> None:
    """Raises ConfigError with all that is wrong."""
    faults = FaultList()
    if remote is None:
        for option, value in (("--key", key), ("--timeout", timeout)):
            if value is not None:
                faults.add("is for runs on boards", where=option, remedy="give --remote HOST:PORT")
    elif backend is not None:
        faults.add(
            "a board has its own device",
            where="--backend",
            remedy="choose it by --device where the server is started",
        )
    if timeout is not None and not 0 < timeout < math.inf:
        faults.add(f"expected seconds above 0, found {timeout:g}", where="--timeout")
    faults.raise_if_any(ConfigError)


def warn_random(package: Package) -> None:
    """Say on stderr that the answers of a package for studies of speed mean nothing."""
    what = [
        word
        for word, flag in (("weights", package.random_weights), ("calibration", package.random_calibration))
        if flag
    ]
    if what:
        say(f"note: {package.name} has random {' and '.join(what)}; its answers mean nothing")


def top_classes(outputs: dict[str, Array], labels: tuple[str, ...] | None) -> list[dict[str, Any]]:
    """The highest scores of a classifier's only output, of equal ones the lower index first; else nothing."""
    import numpy as np

    from tilewright.frontend.model import count_classes

    arrays = list(outputs.values())
    if len(arrays) != 1 or count_classes(arrays[0].shape) is None:
        return []
    scores = arrays[0].reshape(-1)
    order = np.argsort(-scores.astype(np.float64), kind="stable")[:TOP]
    return [
        {
            "index": int(i),
            "label": (labels[i] or None) if labels is not None and i < len(labels) else None,
            "score": scores[i].item(),
        }
        for i in order
    ]


def _stacked(results: list[dict[str, Array]]) -> dict[str, Array]:
    """The outputs of several images along their first dimension; those of one as they are.

    Raises DataError where images gave different shapes.
    """
    import numpy as np

    if len(results) == 1:
        return results[0]
    faults = FaultList()
    for name in results[0]:
        shapes = sorted({result[name].shape for result in results})
        if len(shapes) > 1:
            found = ", ".join("x".join(map(str, shape)) for shape in shapes)
            faults.add(
                f"expected one shape for all images, found {found}",
                where=f"output {name}",
                remedy="run the images one by one",
            )
    faults.raise_if_any(DataError)
    return {name: np.concatenate([result[name] for result in results]) for name in results[0]}


def _describe(name: str, array: Array) -> dict[str, Any]:
    """SHA-256 is that of the elements in C order, little-endian."""
    import numpy as np

    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return {
        "name": name,
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _npz(outputs: dict[str, Array]) -> bytes:
    """As `numpy.savez` writes it, which takes no arrays that are called like its parameters."""
    import numpy as np

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in outputs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return buffer.getvalue()
