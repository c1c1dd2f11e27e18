"""ONNX's own tests of operators, run through our back end."""

from __future__ import annotations

import functools
import sys
import unittest
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx.backend.test import BackendTest

from tilewright.errors import TilewrightError
from tilewright.onnx_backend import TilewrightBackend

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIST = Path(__file__).with_name("node_tests.toml")
DIFFERS = "differs: "
"""How the reason of a test begins that runs and whose result is not ONNX's."""


@dataclass(frozen=True)
class NodeTests:
    """The committed list.

    Attributes:
        release: of onnx whose tests these are, major and minor.
        passes: names by operator.
        skips: name -> reason.
    """

    release: str
    passes: dict[str, list[str]]
    skips: dict[str, str]

    @staticmethod
    def read() -> NodeTests:
        """The list as it is committed."""
        return NodeTests(**tomllib.loads(LIST.read_text(encoding="utf-8")))

    @property
    def passing(self) -> list[str]:
        """All names that pass, in order."""
        return sorted(name for names in self.passes.values() for name in names)


@functools.cache
def _cases() -> type[unittest.TestCase]:
    found: type[unittest.TestCase] = BackendTest(TilewrightBackend, __name__).test_cases[
        "OnnxBackendNodeModelTest"
    ]
    return found


def names() -> set[str]:
    """All tests of single operators that the installed onnx has, for the processor."""
    found = (name for name in dir(_cases()) if name.startswith("test_") and name.endswith("_cpu"))
    return {name.removeprefix("test_").removesuffix("_cpu") for name in found}


def installed_release() -> str:
    """Major and minor of the installed onnx."""
    return ".".join(str(onnx.__version__).split(".")[:2])


def outcome(name: str) -> str:
    """`passes`, `refused`, `differs`, or what else was raised."""
    case: Any = _cases()(f"test_{name}_cpu")
    try:
        case.debug()
    except TilewrightError:
        return "refused"
    except AssertionError as error:
        return "differs" if _is_comparison(error) else f"AssertionError: {error}"
    except Exception as error:  # noqa: BLE001  what our code should have refused
        return f"{type(error).__name__}: {error}"
    return "passes"


def _is_comparison(error: AssertionError) -> bool:
    """Whether an assertion is the test's, about our result."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        if Path(last.tb_frame.f_code.co_filename).parts[-4:-1] == ("backend", "test", "runner"):
            inner = Path(last.tb_next.tb_frame.f_code.co_filename).parts
            if "numpy" in inner:
                return True
        last = last.tb_next
    return False
