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
from tests import messages as counter
from tests.messages import LANGUAGES, messages, sources, untested
from tilewright.errors import TilewrightError, page

FOLDER = Path(tilewright.__file__).parent
OUT_OF_REACH = {
    "expected a tensor on the CPU": "needs a GPU",
    "a stream has at most 2^31-1 instructions, found": "needs 128 GiB",
    "a segment without data": "is for callers in C, ours always has data",
}
"""Messages of C++ that no test here can bring about, and why."""


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


@pytest.mark.parametrize("language", LANGUAGES)
def test_messages_are_tested_texts(language: str) -> None:
    missing, count = untested(*LANGUAGES[language])
    # The texts of OUT_OF_REACH count as held, since this file is a test: there are no more than those.
    assert not missing, f"{len(missing)} of {count} messages are in no test:\n" + "\n".join(map(str, missing))
    assert count > 150


def test_what_is_out_of_reach_is_still_there() -> None:
    texts = {piece.strip(" :") for path in sources(".cc") for m in messages(path) for piece in m.pieces}
    assert set(OUT_OF_REACH) <= texts


def test_an_untested_message_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "targets").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "targets" / "a.py").write_text(
        'raise ModelError(Fault(f"expected {n} wings, found none", "bird"))\nfaults.add("a beak " "is missing")\n'
        'raise ValueError("of our own")\n',
        encoding="utf-8",
    )
    (tmp_path / "targets" / "b.py").write_text(
        'TEXT = "a claw " + str(1)\ndef stop(text, where):\n    raise ModelError(Fault(text, where))\n'
        'def f(n):\n    stop("two tails" if n else f"{n} tails", "bird")\n    faults.add(message=TEXT)\n'
        '    text = "a nest of {}".format(n)\n    raise SimError(text)\n',
        encoding="utf-8",
    )
    (tmp_path / "targets" / "c.cc").write_text(
        'Require(a(b), where, ": expected ", n, " eggs ("\n "or more)");\nFail(TW_RT_INTERNAL, "a bug of ours");\n'
        'return Fail(fault, "%d feathers, found %zu", n, m);\n',
        encoding="utf-8",
    )
    (tmp_path / "tests" / "test_a.py").write_text('match=r"a beak is\\\\ missing"\n', encoding="utf-8")
    monkeypatch.setattr(counter, "ROOT", tmp_path)
    missing, count = untested()
    assert sorted(map(str, missing)) == [
        "targets/a.py:1: expected  ..  wings, found none",
        "targets/b.py:5:  tails",
        "targets/b.py:5: two tails",
        "targets/b.py:6: a claw ",
        "targets/b.py:8: a nest of ",
    ]
    assert count == 6
    missing, count = untested(".cc", ".h")
    assert [str(m) for m in missing] == [
        "targets/c.cc:1: : expected  ..  eggs (or more)",
        "targets/c.cc:4:  feathers, found ",
    ]
    assert count == 2
