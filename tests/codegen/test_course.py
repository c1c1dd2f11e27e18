"""The estimate of how groups run, on courses worked out by hand."""

from __future__ import annotations

import pytest

from tilewright.codegen.course import MATRIX_LATENCY, VECTOR_LATENCY, Clock, Course, Work, follow


def conv(matrix: float, vector: float, *writers: int, behind: int = 0, ahead: float = 0.0) -> Work:
    """A layer of MATRIX whose sums come in one portion."""
    return Work(matrix, vector, 0, 0, 1, ahead, writers, behind)


def pool(vector: float, *writers: int, behind: int = 0, portions: int = 1) -> Work:
    """A layer of VECTOR."""
    return Work(0, vector, 0, 0, portions, 0.0, writers, behind)


def test_a_layer_alone() -> None:
    found = follow({0: conv(1000, 100)}, 1)
    done = 1000 + MATRIX_LATENCY + 100
    assert found == Course((0, 1000), (1000 + MATRIX_LATENCY, done), 0, (done + VECTOR_LATENCY,) * 2)


def test_a_layer_behind_another_waits_for_it() -> None:
    """Without lag MATRIX stands still while VECTOR works on the stripe, and the other way round."""
    layers = {0: conv(400, 40), 1: pool(400, 0), 2: conv(400, 40, 1)}
    for stripes in (1, 4):
        found = follow(layers, stripes)
        assert found.matrix[1] >= 400 + 40 + 400 + 400
        assert found.matrix[1] >= 1200 + 3 * (stripes - 1) * MATRIX_LATENCY / 2


def test_with_lag_the_busiest_unit_counts() -> None:
    """Twenty stripes, of which not all are followed: MATRIX never waits but for the first and the last."""
    layers = {0: conv(4000, 400), 1: pool(4000, 0, behind=1), 2: conv(4000, 400, 1, behind=2)}
    found = follow(layers, 20)
    assert found.matrix[1] == pytest.approx(8000, abs=2 * 4000 / 20)


def test_a_long_run_is_like_one_that_is_followed_to_the_end() -> None:
    """Half the stripes of twice the work take as long, latencies aside, whether they are followed or not."""
    ends = [
        follow({0: conv(w, w / 8), 1: pool(w, 0, behind=1), 2: conv(w, w / 8, 1, behind=2)}, n).vector[1] / w
        for n, w in ((5, 5e6), (10, 5e6), (40, 5e6))
    ]
    assert ends[0] > ends[1] > ends[2] > 2


def test_windows_make_the_first_stripe_longer() -> None:
    """A layer half of whose rows the one behind it needs for its first stripe."""
    even, ahead = (
        follow({0: conv(1000, 10, ahead=a), 1: pool(1000, 0, behind=1)}, 4).vector[1] for a in (0.0, 0.5)
    )
    assert ahead - even == pytest.approx(500, rel=0.1)


def test_groups_follow_one_another_by_unit() -> None:
    """A group of VECTOR runs beside one of MATRIX that does not read it; MATRIX is free for the next at once."""
    first = follow({0: conv(1000, 500)}, 1)
    clock = Clock().after(first, 0, 0, 0)
    second = clock.after(follow({1: conv(1000, 500)}, 1), 0, 0, 0)
    assert clock.end == first.vector[1]
    assert second.matrix == first.makes[1] + 1000  # what it reads was there no sooner
    striped = clock.after(Course((0, 1000), (900, 1100), 900, (1000, 1100)), 0, 0, 0)
    assert striped.begin == max(first.matrix[1], first.makes[0])


def test_dram() -> None:
    """Transfers come a group ahead, but for what the chip has no room for."""
    course = follow({0: conv(1000, 10)}, 1)
    clock = Clock().after(course, 300, 100, 0)
    assert clock.begin == 100
    ahead = clock.after(course, 900, 0, 0)
    late = clock.after(course, 900, 0, 5000)
    assert ahead.begin == late.begin
    assert ahead.dram == max(clock.dram, clock.begin) + 900
    assert late.end == late.begin + 5000


def test_images_share_a_course() -> None:
    course = follow({0: conv(1000, 100)}, 1)
    assert course.an_image(1) == course
    assert course.an_image(4).matrix == (0, 250)
