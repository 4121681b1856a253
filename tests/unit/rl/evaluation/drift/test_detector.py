"""Ranks and the detector by hand, and how often it cries wolf."""

import numpy as np
import pytest

from rl.evaluation.drift.bets import bet_on_change, bet_on_small, bet_on_weights
from rl.evaluation.drift.detector import Detector
from rl.evaluation.drift.ranks import CategoryRanks, NumberRanks, Ranks
from rl.policy.arrays import FloatArray


def test_ranks_of_numbers_by_hand() -> None:
    """The share of what is larger so far, itself among them; ties are broken by the second number."""
    ranks = NumberRanks([1.0, 2.0, 2.0])
    assert ranks.rank(3.0, 0.5) == pytest.approx(0.5 / 4)
    assert ranks.rank(2.0, 0.5) == pytest.approx((1 + 0.5 * 3) / 5)
    assert ranks.rank(None, 1.0) == pytest.approx(1.0)  # what is missing is smaller than all
    assert ranks.rank("much", 0.0) == pytest.approx(0.0)  # and what is no number larger


def test_ranks_of_categories_by_hand() -> None:
    ranks = CategoryRanks(["a", "a", "a", "b"])
    assert ranks.rank("c", 1.0) == pytest.approx((1 + 1) / 5)  # b and itself were seen once
    assert ranks.rank("b", 0.5) == pytest.approx((1 + 0.5 * 2) / 6)  # c was seen less, b twice
    assert ranks.rank("a", 0.0) == pytest.approx((1 + 2) / 7)


@pytest.mark.parametrize("kind", ["numbers", "categories"])
def test_ranks_are_uniform_and_independent_while_nothing_changes(kind: str) -> None:
    """2,000 ranks in ten bins: chi squared below its .999 quantile, and no correlation with the one before."""
    rng = np.random.default_rng(1)
    ranks: Ranks = NumberRanks() if kind == "numbers" else CategoryRanks()
    values = rng.poisson(2.0, 2_000).tolist() if kind == "numbers" else rng.choice(list("aaabbc"), 2_000).tolist()
    found = np.array([ranks.rank(value, rng.random()) for value in values])
    counts = np.histogram(found, bins=10, range=(0, 1))[0]
    assert ((counts - 200) ** 2 / 200).sum() < 27.9
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 3.3 / np.sqrt(2_000)


@pytest.mark.parametrize("bet", [bet_on_change, bet_on_small])
def test_no_bet_on_uniform_ranks_gains(bet: object) -> None:
    """The mean over a fine grid is 1, and no factor is negative."""
    grid = (np.arange(200_000) + 0.5) / 200_000
    factors: FloatArray = bet(grid)  # type: ignore[operator]
    assert factors.min() >= 0
    assert factors.mean(axis=0) == pytest.approx(1.0, abs=2e-3)


def test_bets_on_weights_by_hand() -> None:
    assert bet_on_weights(np.array([0.0, 1.0, 3.0])) == pytest.approx(
        np.array([[0.98, 0.9, 0.5], [1.0, 1.0, 1.0], [1.04, 1.2, 2.0]])
    )


def test_the_detector_by_hand() -> None:
    """Parts of 1 - log 2 / log 3, ... are laid out and multiplied; the alarm is dated to the first 8 after the .25."""
    left = np.log(2) / np.log([2, 3, 4, 5, 6])
    first, second, third, fourth = left[:-1] - left[1:]
    detector = Detector(alpha=1 / 20)
    assert not detector.watch(np.array([[2.0], [0.25], [8.0]]))
    capital = ((first * 2 + second) * 0.25 + third) * 8
    assert np.exp(detector.evidence) == pytest.approx(capital)
    assert not detector.alarmed
    assert detector.watch(np.array([[8.0], [8.0]]))
    assert np.exp(detector.evidence) == pytest.approx(((capital + fourth) * 8 + left[4] - np.log(2) / np.log(7)) * 8)
    assert (detector.seen, detector.began) == (5, 2)
    assert detector.watch(np.array([[0.0]]))  # an alarm stays
    assert detector.seen == 5


def alarms(runs: int, n: int, alpha: float, change: int | None, seed: int) -> FloatArray:
    """Return after how many observations each run has alarmed, infinity if never."""
    found = np.full(runs, np.inf)
    for run in range(runs):
        rng, ranks, detector = np.random.default_rng([seed, run]), NumberRanks(), Detector(alpha)
        values = rng.standard_normal(n)
        if change is not None:
            values[change:] += 1.0
        ties = rng.random(n).tolist()
        of_run = np.array([ranks.rank(value, tie) for value, tie in zip(values.tolist(), ties, strict=True)])
        if detector.watch(bet_on_change(of_run)):
            found[run] = detector.seen
    return found


@pytest.mark.heavy
def test_false_alarms_are_as_rare_as_stated() -> None:
    """At α = .2, 100 runs of 1,000: at most .2 plus three standard errors alarm, and some do."""
    share = np.isfinite(alarms(100, 1_000, 0.2, None, seed=3)).mean()
    assert 0.0 < share <= 0.2 + 3 * np.sqrt(0.2 * 0.8 / 100)


@pytest.mark.heavy
def test_a_change_is_seen_soon() -> None:
    """A shift by one standard deviation after 300, at α = .01: seen within 100 in 9 of 10 runs."""
    found = alarms(20, 500, 0.01, 300, seed=4)
    assert np.mean((found > 300) & (found <= 400)) >= 0.9
