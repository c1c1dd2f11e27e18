"""Errors have a page with causes and remedies, and messages are tested texts."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tilewright
from tests.messages import untested
from tilewright.errors import TilewrightError, page

FOLDER = Path(tilewright.__file__).parent
MOST_UNTESTED = 0.1
"""Share of messages that no test need hold: faults of the build and of the compiler itself that no input brings about."""


def kinds(kind: type[TilewrightError] = TilewrightError) -> Iterator[type[TilewrightError]]:
    for one in kind.__subclasses__():
        yield one
        yield from kinds(one)


def test_the_committed_page_is_the_printed_one() -> None:
    """To renew it: python -m tilewright.errors > python/tilewright/ERRORS.md"""
    text = (FOLDER / "ERRORS.md").read_text(encoding="utf-8")
    assert text == page()
    printed = subprocess.run(
        [sys.executable, "-m", "tilewright.errors"], capture_output=True, text=True, check=True, timeout=60
    )
    assert printed.stdout == text


def test_every_kind_of_error_is_on_the_page() -> None:
    for module in pkgutil.walk_packages(tilewright.__path__, "tilewright."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    text = page()
    for kind in kinds():
        # Kinds within a kind are raised and caught in one place, and shown by what they are.
        public = next(k for k in kind.__mro__ if TilewrightError in k.__bases__)
        assert f"## {public.__name__}\n" in text, kind
        doc = inspect.getdoc(public) or ""
        assert "\nCauses: " in doc and "\nRemedy: " in doc, kind


def test_messages_are_tested_texts() -> None:
    missing, count = untested()
    listed = "\n".join(map(str, missing))
    assert len(missing) <= MOST_UNTESTED * count, (
        f"{len(missing)} of {count} messages are in no test:\n{listed}"
    )


def test_an_untested_message_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests import messages

    (tmp_path / "targets").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "targets" / "a.py").write_text(
        'raise ModelError(Fault(f"expected {n} wings, found none", "bird"))\nfaults.add("a beak " "is missing")\n'
        'raise ValueError("of our own")\n',
        encoding="utf-8",
    )
    (tmp_path / "tests" / "test_a.py").write_text('match=r"a beak is\\\\ missing"\n', encoding="utf-8")
    monkeypatch.setattr(messages, "ROOT", tmp_path)
    missing, count = messages.untested()
    assert ([str(m) for m in missing], count) == (["targets/a.py:1: expected  ..  wings, found none"], 2)
