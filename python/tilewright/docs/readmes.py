"""The READMEs of the folders as pages of the site, their links pointing to pages."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

READMES: Mapping[str, str] = {
    "README.md": "index",
    "CHANGELOG.md": "changelog",
    "codegen/README.md": "notes/codegen",
    "python/tilewright/explore/README.md": "notes/explore",
    "python/tilewright/ERRORS.md": "reference/errors",
    "python/tilewright/opt/README.md": "notes/opt",
    "python/tilewright/quantize/README.md": "notes/quantize",
    "python/tilewright/report/README.md": "notes/report",
    "python/tilewright/runtime/README.md": "notes/runtime",
    "python/tilewright/vision/README.md": "notes/vision",
    "relay_passes/README.md": "notes/relay_passes",
    "relay_passes/SUPPORTED.md": "reference/supported",
    "targets/README.md": "notes/targets",
    "targets/board/README.md": "notes/board",
    "targets/registers.md": "notes/registers",
    "targets/timing.md": "notes/timing",
    "tutorials/demo/README.md": "notes/demo",
    "tutorials/low_bit/README.md": "notes/low_bit",
}
"""File of the repository: page of the site."""

_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def relink(text: str, source: str) -> str:
    """Point the links of a file to pages; links to files that are no page become plain code.

    Args:
        text: Markdown.
        source: its path in the repository.

    >>> relink("see [the machine](../targets/README.md) and [it](lower.py)", "codegen/README.md")
    'see [the machine](/notes/targets.md) and `codegen/lower.py`'
    """

    def replace(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in READMES:
            return f"[{label}](/{READMES[path]}.md{anchor})"
        folder = posixpath.join(path, "README.md")
        if folder in READMES:
            return f"[{label}](/{READMES[folder]}.md{anchor})"
        return f"`{path}`"

    return _LINK.sub(replace, text)
