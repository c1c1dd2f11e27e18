from dataclasses import dataclass
from tilewright.relay_passes.qdq_to_integer import QdqToInteger
@dataclass(frozen=True)
class Overlay:
    acc_bits: int = 32
def integer_passes(overlay):
    return QdqToInteger()
