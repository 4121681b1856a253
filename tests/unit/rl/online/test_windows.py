"""Open wait windows: which close when, and how little is kept of each."""

import tracemalloc

import numpy as np
import pytest

from data.attribution.join import deadlines
from rl.online.windows import MAX_WAIT_S, Windows

WAIT = 100


def closed(windows: Windows, now: int, most: int = 1_000) -> list[int]:
    found: list[int] = windows.close(now, most)[0].tolist()
    return found


def test_a_window_closes_when_its_deadline_has_passed_and_not_before() -> None:
    windows = Windows(WAIT)
    windows.add([1, 2, 5], [0, 10, 20])
    assert closed(windows, 100) == []
    assert closed(windows, 101) == [1]
    assert (1 in windows, 2 in windows, 3 in windows) == (False, True, False)
    assert closed(windows, 121) == [2, 5]
    assert len(windows) == 0


def test_what_is_due_closes_whatever_stands_before_it() -> None:
    windows = Windows(WAIT)
    windows.add([1, 2, 3], [150, 0, 10])  # the first is bounded to 2 waits after 0
    assert closed(windows, 111) == [2, 3]
    assert closed(windows, 200) == []
    assert closed(windows, 201) == [1]


@pytest.mark.parametrize("together", [True, False])
def test_a_stamp_of_a_day_ahead_is_bounded_by_what_follows(together: bool) -> None:
    windows = Windows(WAIT)
    if together:
        windows.add([1, 2, 3], [0, 86_400, 7])
    else:
        for seq, time in ((1, 0), (2, 86_400), (3, 7)):
            windows.add([seq], [time])
    assert closed(windows, 108) == [1, 3]
    assert closed(windows, 208) == [2]  # 7 + 2 waits


def test_deadlines_by_hand() -> None:
    assert deadlines([0, 500, 10, 20], 100).tolist() == [100, 210, 110, 120]
    assert deadlines([], 100).tolist() == []
    assert deadlines([2**63 - 1, -(2**63)], 2**60).tolist() == [2**60, 0]


def test_only_what_was_not_learned_is_silent() -> None:
    windows = Windows(WAIT)
    windows.add(range(1, 5), [0, 0, 0, 0])
    for seq in (2, 3, 99):
        windows.mark_learned(seq)
    both = windows.close(101, 3)
    assert [part.tolist() for part in both] == [[1, 2, 3], [1]]
    assert closed(windows, 101) == [4]


@pytest.mark.parametrize("seed", range(5))
def test_it_closes_what_a_plain_dictionary_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    windows, open_, seq, now = Windows(WAIT), dict[int, int](), 0, 0
    for _ in range(300):
        count = int(rng.integers(0, 60))
        times = (now + rng.integers(-30, 30, count) + rng.choice([0, 900, -900], count, p=[0.9, 0.05, 0.05])).tolist()
        seqs = [seq := seq + int(rng.integers(1, 4)) for _ in range(count)]
        windows.add(seqs, times)
        for one, time in zip(seqs, times, strict=True):
            open_ = {known: min(end, time + 2 * WAIT) for known, end in open_.items()} | {one: time + WAIT}
        now += int(rng.integers(0, 20))
        due = [one for one, end in sorted(open_.items()) if end < now]
        for one in due:
            del open_[one]
        assert closed(windows, now, 10_000) == due
        assert len(windows) == len(open_)
        assert all(one in windows for one in open_)


@pytest.mark.heavy
def test_a_decision_that_waits_takes_less_than_twenty_bytes() -> None:
    n, at_once = 200_000, 1_000
    windows = Windows(WAIT)
    tracemalloc.start()
    for start in range(0, n, at_once):
        windows.add(range(start, start + at_once), range(start, start + at_once))
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(windows) == n
    assert taken / n < 20


def test_the_longest_wait_does_not_overflow() -> None:
    windows = Windows(int(MAX_WAIT_S * 1e6))
    windows.add([1, 2], [2**63 - 1, -(2**63)])
    assert closed(windows, 2**61) == [1, 2]


def test_those_at_some_positions_are_closed_or_left_out() -> None:
    windows = Windows(WAIT)
    windows.add([1, 2, 5, 7], [0, 10, 20, 30])
    windows.mark_learned(5)
    assert windows.find_due(121, 2).tolist() == [1, 2]
    assert windows.find_due(121, 9).tolist() == [1, 2, 5]
    others = windows.without([2, 9])
    assert (len(windows), closed(others, 121)) == (4, [1, 5])
    found, silent = windows.close_at(np.array([1, 3, 5]))
    assert (found.tolist(), silent.tolist()) == ([1, 5], [1])
    assert closed(windows, 1_000) == [2, 7]
