"""What an interleaved test says: counts by hand, intervals as of a mean, and which way it decides."""

import numpy as np
import pytest

from rl.evaluation.abtests.preference import Preference, read_preference
from rl.evaluation.abtests.specification import ReadSpec
from rl.evaluation.offpolicy.errors import EvaluationError
from rl.policy.arrays import FloatArray

FIXED = ReadSpec(kind="fixed", least_units=20)


def read(variant: FloatArray, control: FloatArray, spec: ReadSpec = FIXED) -> Preference:
    """Each decision of a user of its own."""
    return read_preference([f"u{n}" for n in range(len(variant))], variant, control, ("new", "old"), spec, "t")


def test_wins_losses_and_credit_by_hand() -> None:
    found = read_preference(
        ["u", "u", "v", "w"], np.array([1.0, 0.0, 2.0, 0.0]), np.array([0.0, 1.0, 1.0, 0.0]), ("new", "old"), FIXED
    )
    assert (found.users, found.decisions, found.wins, found.losses) == (3, 4, 2, 1)
    assert found.credit == pytest.approx(3 / 5)
    assert found.share is None
    assert found.decision.sentence == "Too early to say which of new and old is preferred: 3 users, 20 are needed."
    assert found.switch_off == {}


def test_credit_is_not_said_of_losses_and_nothing_is_said_of_nothing() -> None:
    assert read(np.array([2.0, 1.0]), np.array([-1.0, 0.0])).credit is None
    empty = read(np.zeros(0), np.zeros(0))
    assert (empty.users, empty.decisions, empty.share, empty.credit) == (0, 0, None, None)
    assert read(np.zeros(50), np.zeros(50)).share is None  # nobody has won


def test_a_fixed_interval_is_that_of_a_share() -> None:
    """60 wins of 100 users with a decision each: .6 with a standard error of √(.24 / 99)."""
    won = (np.arange(100) < 60).astype(np.float64)
    found = read(won, 1.0 - won)
    assert found.share is not None
    half = 1.959964 * np.sqrt(0.24 / 99)
    assert [found.share.value, found.share.low, found.share.high] == pytest.approx(
        [0.6, 0.6 - half, 0.6 + half], abs=1e-3
    )
    assert found.decision.better == ("new",)


def test_it_switches_off_whom_users_like_less_only_where_it_may() -> None:
    won = (np.arange(2_000) % 10 < 3).astype(np.float64)
    sequential = ReadSpec(least_units=20)
    found = read(won, 1.0 - won, sequential)
    assert found.switch_off.keys() == {"new"}
    assert found.decision.sentence.startswith("old is preferred to new, which won 30.0%")
    for spec in (FIXED, sequential.model_copy(update={"switch_off": False})):
        kept = read(won, 1.0 - won, spec)
        assert (kept.switch_off, kept.decision.halted) == ({}, "the test's settings say so")
    even = np.arange(2_000) % 2 == 0
    assert read(even * 1.0, ~even * 1.0, sequential).decision.sentence.startswith("No preference is seen")


def test_arrays_of_other_decisions_are_refused() -> None:
    with pytest.raises(EvaluationError, match="both variants' rewards of each decision"):
        read(np.zeros(3), np.zeros(2))
