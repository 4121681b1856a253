"""A bet on what decisions alike earn: by hand, how often it cries wolf while a policy learns, and plain changes."""

import math

import numpy as np
import pytest

from rl.evaluation.drift.earned import EarnedDetector


def test_it_by_hand() -> None:
    """After eight decisions that only teach: one bet, from the beginning on, of weight 1 - log 2 / log 3."""
    detector = EarnedDetector(alpha=0.01)
    for _ in range(8):
        detector.learn("a", True)
    for earned in (True, False, False):
        detector.watch("a", earned)
    # q counts the kind's three watched decisions anew; of what is not falling (1, 0, 0) is best at 1/3 thrice.
    q = (0.5 / 1) * (0.5 / 2) * (1.5 / 3)
    best = (1 / 3) * (2 / 3) ** 2
    assert detector.evidence == pytest.approx(math.log((1 - math.log(2) / math.log(3)) * q / best))
    assert (detector.seen, detector.alarmed) == (3, False)


def test_what_rises_is_no_change() -> None:
    """Blocks 0 and 1 are best where successes follow failures: their likelihood is 1, and no bet gains."""
    detector = EarnedDetector(alpha=0.01)
    for number in range(600):
        assert not detector.watch("a", number >= 300)
    assert detector.evidence < 0


def test_kinds_that_do_not_come_again_cost_nothing() -> None:
    detector = EarnedDetector(alpha=0.01)
    for number in range(5_000):  # more than there is room for, too
        detector.watch(number, True)
    assert detector.evidence <= 0
    assert detector.evidence > math.log(0.5)  # the weights of τ alone


class Bandit:
    """Shows what has sold best on a page, and else one of the others, with a tenth of the decisions to try."""

    def __init__(self, rng: np.random.Generator, pages: int = 3, drinks: int = 4) -> None:
        self._rng, self._sold = rng, np.zeros((pages, drinks, 2))

    def play(
        self, detector: EarnedDetector, page: int, chances: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    ) -> bool:
        rates = (self._sold[page, :, 1] + 1) / (self._sold[page].sum(axis=1) + 2)
        drink = int(rates.argmax()) if self._rng.random() > 0.1 else int(self._rng.integers(len(rates)))
        sold = bool(self._rng.random() < chances[page, drink])
        self._sold[page, drink, int(sold)] += 1
        return detector.watch((page, drink), sold)


BEST = np.array([[0.6, 0.1, 0.1, 0.1], [0.1, 0.6, 0.1, 0.1], [0.1, 0.1, 0.6, 0.1]])


@pytest.mark.heavy
def test_false_alarms_are_as_rare_as_stated_while_a_policy_learns() -> None:
    """At α = .2, 60 runs of 600: at most .2 plus three standard errors alarm."""
    alarms = 0
    for run in range(60):
        rng = np.random.default_rng([1, run])
        bandit, detector = Bandit(rng), EarnedDetector(0.2)
        alarms += any(bandit.play(detector, int(rng.integers(3)), BEST) for _ in range(600))
    assert alarms / 60 <= 0.2 + 3 * math.sqrt(0.2 * 0.8 / 60)


@pytest.mark.heavy
@pytest.mark.parametrize("after", [0 * BEST, np.roll(BEST, 1, axis=1)], ids=["nothing sells", "another drink sells"])
def test_a_plain_change_is_seen_soon(after: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    """After 750 of 1,500 decisions, at α = .002 as one of five streams: within 150, and dated to within 60."""
    for run in range(5):
        rng = np.random.default_rng([2, run])
        bandit, detector = Bandit(rng), EarnedDetector(0.002)
        for number in range(1_500):
            if bandit.play(detector, int(rng.integers(3)), BEST if number < 750 else after):
                break
        assert 750 < detector.seen <= 900
        assert detector.began is not None
        assert abs(detector.began - 750) <= 60
