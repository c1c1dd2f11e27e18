"""The command line: `tilewright COMMAND`, or `python -m tilewright COMMAND`; one file a command."""

from __future__ import annotations


def main() -> None:
    """Run the command line on `sys.argv` and exit."""
    from tilewright.cli.app import app  # typer and rich are not needed to import tilewright

    app()
