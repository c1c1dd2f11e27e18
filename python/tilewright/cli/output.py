"""Output files: checked before the work, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from tilewright.errors import DataError, Fault

_REMEDY = "choose another output"


def check_output(path: Path) -> None:
    """Raise DataError where a file can surely not be written; before long work."""
    folder = path.parent
    if path.is_dir():
        raise DataError(Fault("is a folder, expected the name of a file", str(path), _REMEDY))
    if not folder.is_dir():
        raise DataError(Fault(f"there is no folder {folder}", str(path), _REMEDY))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(Fault(f"the folder {folder} is not writable", str(path), _REMEDY))


def write_file(path: Path, data: bytes) -> None:
    """Write a file through a temporary one in the same folder.

    Raises:
        DataError: it cannot be written; what was there before is still there.
    """
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
        temporary.chmod(0o666 & ~umask)  # temporary files are made for their owner only
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        message = f"cannot write {len(data)} bytes: {error.strerror or error}"
        raise DataError(Fault(message, str(path), f"nothing was written; {_REMEDY}")) from error
