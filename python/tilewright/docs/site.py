"""Collects the pages in one folder and lets Sphinx render them."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from tilewright.docs import api, architecture, commands, links, manual, notebooks, readmes
from tilewright.errors import ConfigError, Fault

PAGES = Path(__file__).resolve().parent / "pages"

MADE: Mapping[str, Callable[[], str]] = {
    "architecture.md": architecture.page,
    "architecture.svg": lambda: architecture.picture(
        {s: used for s, (_, used) in architecture.STAGES.items()}
    ),
    "reference/commands.md": commands.page,
    "reference/python.md": api.page,
    "reference/instructions.md": manual.instructions,
    "reference/host_operators.md": manual.host_operators,
    "reference/overlays.md": manual.overlay_page,
}
"""File of the site: what writes it."""

SETTINGS: Mapping[str, Any] = {
    "project": "Tilewright",
    "author": "the Tilewright developers",
    "copyright": "the Tilewright developers",
    "extensions": ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"],
    "add_module_names": False,
    "html_theme": "furo",
    "html_title": "Tilewright",
    "html_show_sourcelink": False,
    "html_copy_source": False,
    "default_role": "code",
    "autodoc_typehints": "description",
    "autodoc_member_order": "bysource",
    "autodoc_class_signature": "mixed",
    "napoleon_use_ivar": True,
    "myst_heading_anchors": 4,
    "myst_enable_extensions": ["colon_fence"],
    "nb_execution_timeout": 900,
    "nb_execution_raise_on_error": True,
    "nb_merge_streams": True,
    "suppress_warnings": ["config.cache"],
}


def collect(repository: Path, to: Path) -> None:
    """Write every page's source into `to`.

    Raises ConfigError where `repository` is no checkout of the project: tutorials and READMEs are not installed.
    """
    missing = [name for name in (*readmes.READMES, "tutorials") if not (repository / name).exists()]
    if missing:
        raise ConfigError(
            Fault(
                f"{repository} has no {', '.join(missing)}",
                "documentation",
                "build it from a checkout: `make docs`",
            )
        )
    shutil.copytree(PAGES, to, dirs_exist_ok=True)
    for name, make in MADE.items():
        _write(to / name, make())
    for source, page in readmes.READMES.items():
        if page != "index":
            _write(
                to / f"{page}.md", readmes.relink((repository / source).read_text(encoding="utf-8"), source)
            )
    for script in notebooks.scripts(repository / "tutorials"):
        _write(to / "tutorials" / f"{script.stem}.ipynb", notebooks.notebook(script))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def build(out: Path, *, run_tutorials: bool = True, repository: Path | None = None) -> int:
    """Build the site in `out`, which is made anew, and give the number of pages.

    Raises ConfigError: Sphinx is not installed, a page is wrong, or a link leads nowhere; all of them.
    """
    try:
        from sphinx.application import Sphinx
        from sphinx.errors import SphinxError
        from sphinx.util.console import nocolor
    except ImportError as error:
        remedy = "pip install 'tilewright[docs]'"
        raise ConfigError(Fault(f"{error.name} is not installed", "documentation", remedy)) from None
    with tempfile.TemporaryDirectory(prefix="tilewright-docs-") as folder:
        source, made = Path(folder) / "source", Path(folder) / "html"
        collect(repository or PAGES.parents[3], source)
        settings = {
            **SETTINGS,
            "release": metadata.version("tilewright"),
            "nb_execution_mode": "force" if run_tutorials else "off",
        }
        warnings = io.StringIO()
        nocolor()
        try:
            Sphinx(
                source, None, made, Path(folder) / "trees", "html", settings, status=None, warning=warnings,
                freshenv=True,
            ).build()  # fmt: skip
        except SphinxError as error:
            raise ConfigError(
                *_faults(warnings.getvalue(), source), Fault(str(error), "documentation")
            ) from None
        faults = [*_faults(warnings.getvalue(), source), *links.dead(made)]
        if faults:
            raise ConfigError(*faults)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(made, out, ignore=shutil.ignore_patterns(".buildinfo", "*.inv"))
    return sum(1 for _ in out.rglob("*.html"))


def _faults(warnings: str, source: Path) -> list[Fault]:
    """A fault a line of what Sphinx warned of."""
    return [Fault(line.replace(f"{source}/", "")) for line in warnings.splitlines() if line.strip()]
