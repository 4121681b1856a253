"""Users stay with their variant: the same everywhere, independent between tests, and few move when shares change."""

import numpy as np
import pytest

from serve.abtests.assignment import Assignment, Interval, allot, measure, moved, reallot

USERS = [f"user-{n}" for n in range(20_000)]


def of(shares: dict[str, float], salt: str = "t") -> list[str | None]:
    assignment = Assignment(salt, allot(shares))
    return [assignment.find(user) for user in USERS]


def test_the_shares_of_the_users_are_those_that_were_asked_for() -> None:
    # Tolerance: five standard deviations of a share of 20,000 users, at most .018.
    found = of({"old": 0.7, "new": 0.2})
    for variant, share in (("old", 0.7), ("new", 0.2), (None, 0.1)):
        assert found.count(variant) / len(USERS) == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / 20_000))
    assert found == of({"old": 0.7, "new": 0.2})


def test_a_users_place_in_one_test_says_nothing_of_that_in_another() -> None:
    # The share of those of both is the product, 1/4; tolerance five standard deviations.
    one, other = of({"a": 0.5, "b": 0.5}, "one"), of({"a": 0.5, "b": 0.5}, "two")
    both = sum(x == y == "a" for x, y in zip(one, other, strict=True)) / len(USERS)
    assert both == pytest.approx(0.25, abs=5 * np.sqrt(0.25 * 0.75 / len(USERS)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a": 0.5, "b": 0.5}, {"a": 0.9, "b": 0.1}),
        ({"a": 0.3, "b": 0.3, "c": 0.4}, {"a": 0.5, "b": 0.1, "c": 0.4}),
        ({"a": 0.9, "b": 0.05, "c": 0.05}, {"a": 0.8, "b": 0.1, "c": 0.1}),
        ({"a": 0.1, "b": 0.1}, {"a": 0.5, "b": 0.5}),
        ({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, {"a": 2 / 3, "b": 0.0, "c": 1 / 3}),
    ],
)
def test_as_few_users_move_as_the_shares_allow(before: dict[str, float], after: dict[str, float]) -> None:
    intervals = allot(before)
    changed = reallot(intervals, after)
    assert measure(changed) == pytest.approx({name: share for name, share in after.items() if share})
    assert changed[-1].end == 1.0
    first, then = Assignment("t", intervals), Assignment("t", changed)
    changed_hands = sum(first.find(user) != then.find(user) for user in USERS) / len(USERS)
    assert sum(moved(intervals, changed).values()) == pytest.approx(changed_hands, abs=0.02)
    gone = sum(max(0.0, share - after[name]) for name, share in before.items())
    least = gone + max(0.0, sum(after.values()) - sum(before.values()))
    assert changed_hands == pytest.approx(least, abs=5 * np.sqrt(least * (1 - least) / len(USERS)))


def test_shares_that_change_many_times_stay_what_they_are() -> None:
    rng, intervals = np.random.default_rng(5), allot({"a": 0.5, "b": 0.5})
    for _ in range(300):
        shares = dict(zip("abc", rng.dirichlet([1, 1, 1]).tolist(), strict=True))
        intervals = reallot(intervals, shares)
        assert measure(intervals) == pytest.approx(shares, abs=1e-9)
        ends = [interval.end for interval in intervals]
        assert ends == sorted(ends)
    assert intervals[-1].end == 1.0


def test_an_interval_is_what_its_name_says() -> None:
    assert allot({"a": 0.25, "b": 0.75}) == (Interval(0.25, "a"), Interval(1.0, "b"))


def test_who_changes_hands_is_said_by_from_whom_to_whom() -> None:
    before = allot({"a": 0.8, "b": 0.2})
    assert moved(before, before) == {}
    assert moved(before, reallot(before, {"a": 0.5, "b": 0.5})) == pytest.approx({("a", "b"): 0.3})
    assert moved(before, reallot(before, {"a": 0.5, "b": 0.2})) == pytest.approx({("a", None): 0.3})
    assert moved(allot({"a": 0.1}), allot({})) == pytest.approx({("a", None): 0.1})
    three = allot({"a": 0.5, "b": 0.3, "c": 0.2})
    found = moved(three, reallot(three, {"a": 0.7, "b": 0.1, "c": 0.2}))
    assert found == pytest.approx({("b", "a"): 0.2})
