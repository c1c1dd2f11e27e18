"""What a matcher or a legality check answers: yes, or no with a sentence that reaches the user's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Ok:
    """The rule holds."""

    def __bool__(self) -> Literal[True]:
        return True


@dataclass(frozen=True)
class Reject:
    """A rule that does not hold.

    Attributes:
        rule: what is expected, as a sentence without a full stop.
        found: the value found.
        where: node or layer.
        remedy: what the reader can do about it.
    """

    rule: str
    found: str
    where: str = ""
    remedy: str = ""

    def __bool__(self) -> Literal[False]:
        return False

    def __str__(self) -> str:
        return f"{self.rule}, found {self.found}"


Verdict = Ok | Reject


class Rejected(Exception):  # carries a value through a recursive match, it is not an error
    """Raised inside a matcher to leave a recursion with its answer; never leaves `relay_passes`."""

    def __init__(self, reject: Reject) -> None:
        super().__init__(str(reject))
        self.reject = reject
