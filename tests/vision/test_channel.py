"""The queue between two threads: order, bound, end, cancelling."""

from __future__ import annotations

import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.vision.channel import Channel

WAIT = 20.0  # seconds, for what comes at once unless something hangs


@settings(max_examples=25, deadline=None, derandomize=True)
@given(count=st.integers(0, 60), room=st.integers(1, 5))
def test_everything_comes_in_order_and_never_more_than_there_is_room(count: int, room: int) -> None:
    channel: Channel[int] = Channel(room)
    put = 0
    taken = 0
    ahead: list[int] = []

    def write() -> None:
        nonlocal put
        for item in range(count):
            assert channel.put(item)
            put += 1
            ahead.append(put - taken)
        channel.close()

    writer = threading.Thread(target=write)
    writer.start()
    found = []
    for item in channel:
        found.append(item)
        taken += 1
    writer.join(WAIT)
    assert not writer.is_alive()
    assert found == list(range(count))
    # One more than there is room: the reader has taken it and not counted it yet.
    assert max(ahead, default=0) <= room + 1


def test_a_full_channel_makes_the_writer_wait() -> None:
    channel: Channel[str] = Channel(2)
    through = threading.Event()

    def write() -> None:
        for item in "abc":
            channel.put(item)
        through.set()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert not through.wait(0.1)
    assert next(iter(channel)) == "a"
    assert through.wait(WAIT)


def test_cancelling_frees_a_writer_and_drops_what_is_inside() -> None:
    channel: Channel[str] = Channel(1)
    channel.put("a")
    answers: list[bool] = []
    writer = threading.Thread(target=lambda: answers.append(channel.put("b")), daemon=True)
    writer.start()
    channel.cancel()
    writer.join(WAIT)
    assert answers == [False]
    assert list(channel) == []
    assert not channel.put("c")


def test_cancelling_and_closing_free_a_reader() -> None:
    for free in (Channel.cancel, Channel.close):
        channel: Channel[str] = Channel(1)
        found: list[list[str]] = []
        reader = threading.Thread(target=lambda c=channel, f=found: f.append(list(c)), daemon=True)
        reader.start()
        free(channel)
        reader.join(WAIT)
        assert found == [[]]


def test_what_is_inside_a_closed_channel_is_read() -> None:
    channel: Channel[int] = Channel(3)
    for item in range(3):
        channel.put(item)
    channel.close()
    assert list(channel) == [0, 1, 2]
