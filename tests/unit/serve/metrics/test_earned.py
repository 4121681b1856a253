"""What a policy earned and how well it was expected, by hand."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from data.attribution.join import Outcome
from rl.online.steps import OutcomeChange
from serve.metrics.earned import FEW, RECENT, Earned
from tests.support.records import decision


def change(name: int, rewards: Sequence[float], before: Sequence[float] | None = None) -> OutcomeChange:
    """Return an outcome of two slots of each of which .25 was expected."""
    outcome = Outcome(decision(f"d{name}"), tuple(rewards), sum(rewards), observed=True, closed=False)
    return OutcomeChange(name, outcome, None if before is None else tuple(before))


def test_means_and_errors_are_those_of_the_rewards() -> None:
    earned = Earned()
    assert earned.add(change(1, (1.0, 0.0))) == (True, True)
    assert earned.add(change(2, (0.0,))) == (True, False)
    assert earned.all.mean == earned.recent.mean == 0.5
    expected = (0.75**2 + 0.25**2 + 0.25**2) / 3
    assert list(earned.loss) == pytest.approx([expected, expected])
    assert math.isnan(earned.all.low)  # of too few


def test_a_correction_takes_the_place_of_what_it_corrects() -> None:
    earned, right = Earned(), Earned()
    earned.add(change(1, (0.0, 0.0)))
    assert earned.add(change(1, (5.0, 1.0), before=(0.0, 0.0))) == (False, True)
    assert earned.add(change(1, (5.0, 2.0), before=(5.0, 1.0))) == (False, False)
    right.add(change(1, (5.0, 2.0)))
    assert earned.all.mean == right.all.mean == earned.recent.mean == 7.0
    assert list(earned.loss) == pytest.approx(list(right.loss))


def test_a_drop_is_seen_in_the_recent_rewards_and_chance_is_not() -> None:
    rng, earned = np.random.default_rng(0), Earned()
    for number in range(6_000):
        earned.add(change(number, (float(rng.random() < 0.5),)))
        if number >= 2 * RECENT and number % 500 == 0:
            assert earned.recent.high > earned.all.low
    for number in range(6_000, 6_000 + RECENT):
        earned.add(change(number, (float(rng.random() < 0.3),)))
    assert earned.recent.high < earned.all.low
    assert earned.recent.mean == pytest.approx(0.3, abs=0.05)


@pytest.mark.heavy
def test_the_confidence_sequence_holds_at_every_look() -> None:
    """It may be wrong in one of a hundred runs, at any look; intervals for one look would be in most of them."""
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(200):
        earned, missed = Earned(), False
        for number, reward in enumerate((rng.random(1_500) < 0.2).tolist()):
            earned.add(change(number, (float(reward),)))
            if number >= FEW and number % 20 == 0:
                missed = missed or not earned.all.low <= 0.2 <= earned.all.high
        wrong += missed
    assert wrong <= 6
