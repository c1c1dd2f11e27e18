"""Passes by name: run any sequence of them, look at what each did, check that it did no harm; see README.md."""

from tilewright.opt.api import Ran, Watch, optimise, sequence, start
from tilewright.opt.registry import PASSES, SEQUENCES
from tilewright.opt.state import State

__all__ = ["PASSES", "SEQUENCES", "Ran", "State", "Watch", "optimise", "sequence", "start"]
