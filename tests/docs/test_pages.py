"""Pages made from tables name everything that the tables hold; links of the site lead somewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tilewright
from tilewright.cli.app import app
from tilewright.docs import api, commands, links, manual, notebooks, readmes, site
from tilewright.errors import ConfigError
from tilewright.targets.config import overlays
from tilewright.targets.host_ops import BY_NAME
from tilewright.targets.isa import spec

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_command_and_option_is_there() -> None:
    text = commands.page()
    names = {(c.name or c.callback.__name__).replace("_", "-") for c in app.registered_commands if c.callback}
    assert {line[3:] for line in text.splitlines() if line.startswith("## ")} == names
    assert "| `--calibration` |" in text and "[bold]" not in text


def test_every_public_name_is_in_one_group() -> None:
    names = [name for group in api.GROUPS.values() for name in group]
    assert sorted(names) == sorted(tilewright.__all__)


def test_every_field_of_every_instruction_is_there() -> None:
    text = manual.instructions()
    for kind in spec.INSTRUCTIONS:
        section = text.split(f"\n## {kind.__name__.upper()}\n")[1].split("\n## ")[0]
        for field in spec.layout(kind):
            top = field.offset + field.bits.width - 1
            assert f"| {top}:{field.offset} | `{field.name}` |" in section


def test_every_overlay_and_host_operator_is_there() -> None:
    text = manual.overlay_page()
    assert all(f"| `{name}` |" in text for name in overlays())
    assert all(name in manual.host_operators() for name in BY_NAME)


def test_every_readme_is_a_page() -> None:
    found = {
        str(path.relative_to(REPOSITORY))
        for path in REPOSITORY.rglob("*.md")
        if not {".venv", ".hypothesis", ".pytest_cache", "build", "pages"}
        & set(path.relative_to(REPOSITORY).parts)
        and not any(parent.is_symlink() for parent in path.parents)
    }
    assert found == set(readmes.READMES)


def test_dead_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<p id="here"></p><a href="b.html#there"></a><a href="#here"></a>')
    (tmp_path / "b.html").write_text('<a href="c.html"></a><a href="https://example.org"></a>')
    assert [str(fault) for fault in links.dead(tmp_path)] == [
        "a.html: the link b.html#there leads to no heading",
        "b.html: the link c.html leads to no file",
    ]


def test_a_folder_that_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"has no README\.md, .*tutorials; build it from a checkout: `make docs`"
    ):
        site.collect(tmp_path, tmp_path / "out")


def test_tutorials_become_notebooks() -> None:
    pytest.importorskip("jupytext")
    (first, *_) = notebooks.scripts(REPOSITORY / "tutorials")
    text = notebooks.notebook(first)
    assert first.name == "01_first_network.py"
    assert "# A first network" in text and '"remove-cell"' in text and "__file__ = " in text


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_nb")
    command = [sys.executable, "-m", "tilewright.docs", str(tmp_path / "site"), "--no-tutorials"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "site" / "reference" / "instructions.html").exists()
