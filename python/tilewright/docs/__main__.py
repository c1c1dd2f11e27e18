"""`python -m tilewright.docs OUT`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tilewright.docs.site import build
from tilewright.errors import TilewrightError


def main(arguments: list[str] | None = None) -> int:
    """Build the site; 0: done, 2: the message says what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tilewright.docs", description="Build the documentation site."
    )
    parser.add_argument("out", type=Path, help="folder for the HTML pages")
    parser.add_argument("--no-tutorials", action="store_true", help="show the tutorials without running them")
    options = parser.parse_args(arguments)
    try:
        pages = build(options.out, run_tutorials=not options.no_tutorials)
    except TilewrightError as error:
        sys.stderr.write("".join(f"error: {fault}\n" for fault in error.faults))
        return 2
    sys.stdout.write(f"{pages} pages in {options.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
