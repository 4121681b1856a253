"""A load that rises and falls, by hand: how much comes when, and when p99 is back under its bound."""

import numpy as np
import pytest

from tests.bench.service.rising import Course, Profile
from tests.bench.service.steady import Answer

PROFILE = Profile.around(20.0, before_s=10, rise_s=10, top_s=20, after_s=10)


def test_from_half_to_five_times_and_back() -> None:
    assert [PROFILE.rate(second) for second in (0, 10, 15, 20, 30, 40, 45, 50, 60)] == pytest.approx(
        [10, 10, 55, 100, 100, 100, 55, 10, 10]
    )
    assert PROFILE.seconds == 60


def test_requests_come_as_the_profile_says() -> None:
    times = np.array(PROFILE.arrivals(np.random.default_rng(0)))
    assert (np.diff(times) >= 0).all()
    counts = [np.sum((times >= first) & (times < last)) for first, last in ((0, 10), (20, 40), (50, 60))]
    assert counts == pytest.approx([100, 2_000, 100], rel=0.25)
    assert counts[1] == pytest.approx(2_000, rel=0.07)


def course(*answers: tuple[float, float, int]) -> Course:
    """Return what came of requests by when each was answered, how long it took, and its status."""
    return Course(100.0, [Answer(0, "", 100 + at - took, 100 + at, status, None) for at, took, status in answers])


def test_p99_is_back_after_the_last_window_above_its_bound() -> None:
    found = course((2, 0.1, 200), (7, 0.9, 200), (8, 0.0, 429), (12, 0.4, 200), (13, 5.0, 429), (17, 0.1, 200))
    assert [p99 for _, p99 in found.windows(20)] == pytest.approx([100, 900, 400, 100])
    assert found.back_within(300, since=5, until=20) == 10
    assert found.back_within(500, since=5, until=20) == 5
    assert found.back_within(1_000, since=5, until=20) == 0
    assert found.last_refusal(5) == 8
    assert (found.count(429), found.failures) == (2, {})


def test_what_is_neither_answered_nor_refused_is_a_failure() -> None:
    assert course((1, 0.1, 200), (2, 0.1, 503), (3, 30.0, 0)).failures == {"503 ": 1, "0 ": 1}
    assert course((1, 0.1, 503)).p99_ms(0, 5) is None
