"""Little-endian records: a writer, and a reader that checks every bound.

A text is a u16 length and UTF-8; a list is a count and its items. The C++ counterpart is `board/native/src/reader.h`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from tilewright.errors import PackageError


class Writer:
    """Appends values to a byte string.

    >>> w = Writer()
    >>> w.u16(258); w.text("ab"); w.bytes()
    b'\\x02\\x01\\x02\\x00ab'
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def raw(self, data: bytes) -> None:
        """Append bytes as they are."""
        self._parts.append(bytes(data))

    def pack(self, code: str, *values: float) -> None:
        """Append values by a `struct` code."""
        self._parts.append(struct.pack("<" + code, *values))

    def u8(self, value: int) -> None:
        """Append an unsigned number of 8 bits."""
        self.pack("B", value)

    def u16(self, value: int) -> None:
        """Append an unsigned number of 16 bits."""
        self.pack("H", value)

    def u32(self, value: int) -> None:
        """Append an unsigned number of 32 bits."""
        self.pack("I", value)

    def u64(self, value: int) -> None:
        """Append an unsigned number of 64 bits."""
        self.pack("Q", value)

    def i64(self, value: int) -> None:
        """Append a signed number of 64 bits."""
        self.pack("q", value)

    def f64(self, value: float) -> None:
        """Append a 64-bit float."""
        self.pack("d", value)

    def text(self, value: str) -> None:
        """Append a text of at most 65535 bytes."""
        data = value.encode()
        self.u16(len(data))
        self.raw(data)

    def array(self, code: str, values: Sequence[int] | Iterable[int]) -> None:
        """Append a u32 count and the values by a `struct` code of one letter."""
        items = tuple(values)
        self.u32(len(items))
        self.pack(f"{len(items)}{code}", *items)

    def bytes(self) -> bytes:
        """Everything appended so far."""
        return b"".join(self._parts)


class Reader:
    """Reads what :class:`Writer` wrote; anything that does not fit raises PackageError naming `what`."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data, self._at, self._what = data, 0, what

    def raw(self, size: int) -> bytes:
        """Take bytes as they are."""
        if size > len(self._data) - self._at:
            raise PackageError(
                f"{self._what}: expected {size} more bytes at byte {self._at}, found {len(self._data) - self._at}"
            )
        self._at += size
        return self._data[self._at - size : self._at]

    def _one(self, code: str) -> int:
        return int(struct.unpack("<" + code, self.raw(struct.calcsize("<" + code)))[0])

    def u8(self) -> int:
        """Take an unsigned number of 8 bits."""
        return self._one("B")

    def u16(self) -> int:
        """Take an unsigned number of 16 bits."""
        return self._one("H")

    def u32(self) -> int:
        """Take an unsigned number of 32 bits."""
        return self._one("I")

    def u64(self) -> int:
        """Take an unsigned number of 64 bits."""
        return self._one("Q")

    def i32(self) -> int:
        """Take a signed number of 32 bits."""
        return self._one("i")

    def i64(self) -> int:
        """Take a signed number of 64 bits."""
        return self._one("q")

    def f64(self) -> float:
        """Take a 64-bit float."""
        return float(struct.unpack("<d", self.raw(8))[0])

    def text(self) -> str:
        """Take a text."""
        data = self.raw(self.u16())
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise PackageError(
                f"{self._what}: expected UTF-8 before byte {self._at}, found {data[:20]!r}"
            ) from error

    def array(self, code: str) -> tuple[int, ...]:
        """Take a u32 count and that many values."""
        size = struct.calcsize("<" + code)
        count = self.u32()
        return struct.unpack(f"<{count}{code}", self.raw(count * size))

    def choice(self, names: Sequence[str], of: str) -> str:
        """Take a u8, 1 being the first of `names`."""
        number = self.u8()
        if not 1 <= number <= len(names):
            raise PackageError(
                f"{self._what}: expected a {of} 1..{len(names)}, found {number} before byte {self._at}"
            )
        return names[number - 1]

    def expect(self, value: bytes) -> None:
        """Take exactly these bytes."""
        found = self.raw(len(value))
        if found != value:
            raise PackageError(f"{self._what}: expected {value!r} before byte {self._at}, found {found!r}")

    def end(self) -> None:
        """Check that nothing is left."""
        if self._at != len(self._data):
            raise PackageError(
                f"{self._what}: expected its end at byte {self._at}, found {len(self._data)} bytes"
            )
