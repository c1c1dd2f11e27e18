"""A bounded queue between two threads that can be closed at the end and cancelled in the middle."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """First in, first out, of at most `room` items.

    `queue.Queue` lacks both ends: the reader must learn that nothing more will come, and a writer that waits for
    room must learn that nobody will read any more.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = self._cancelled = False

    def put(self, item: T) -> bool:
        """Append, waiting for room. False: the channel was cancelled, and the item is dropped."""
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or len(self._items) < self._room)
            if self._cancelled:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """Say that nothing more comes; what is inside is still read."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Drop what is inside, and let writer and reader go."""
        with self._changed:
            self._cancelled = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Give the items in order, waiting for each, until the channel is closed and empty, or cancelled."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._cancelled or self._closed or bool(self._items))
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
