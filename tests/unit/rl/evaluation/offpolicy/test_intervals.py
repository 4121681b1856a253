"""Intervals against hand-worked numbers, published ones and a second implementation, and by how often they miss."""

import numpy as np
import pytest
from scipy import stats

from rl.evaluation.offpolicy.errors import EvaluationError
from rl.evaluation.offpolicy.intervals import bootstrap, clopper_pearson, empirical_bernstein, hall, normal


def test_normal_is_students() -> None:
    terms = np.array([1.0, 2.0, 3.0, 4.0])
    found, other = normal(terms), stats.ttest_1samp(terms, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((other.low, other.high))


def test_without_skew_halls_is_the_normal_one() -> None:
    terms = np.array([-3.0, -1.0, 0.0, 1.0, 3.0])
    assert (hall(terms).low, hall(terms).high) == pytest.approx((normal(terms).low, normal(terms).high))


def test_halls_ends_are_where_the_transformed_statistic_is_students_quantile() -> None:
    terms = np.array([0.0] * 15 + [1.0, 1.0, 2.0, 4.0, 9.0])
    found, n = hall(terms), 20
    skew = stats.skew(terms) / np.sqrt(n)
    t = (terms.mean() - np.array([found.low, found.high])) / stats.sem(terms)
    transformed = t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6
    quantile = stats.t.ppf(0.975, n - 1)
    assert transformed == pytest.approx([quantile, -quantile])
    assert found.high - terms.mean() > terms.mean() - found.low  # rare large terms may have been missed


@pytest.mark.heavy
def test_halls_misses_skewed_means_less_often_than_the_normal_one() -> None:
    """Squares of exponential terms, n = 200, 2,000 samples, seed 1: the mean is 2. Nominal .95."""
    rng = np.random.default_rng(1)
    samples = rng.exponential(size=(2_000, 200)) ** 2
    held = np.mean([hall(sample).holds(2.0) for sample in samples])
    held_normal = np.mean([normal(sample).holds(2.0) for sample in samples])
    assert held_normal < 0.92
    assert held > held_normal + 0.02


def test_the_bootstrap_is_about_halls() -> None:
    terms = np.random.default_rng(2).exponential(size=300)
    found, other = bootstrap(terms, np.random.default_rng(3)), hall(terms)
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=0.03)


def test_empirical_bernstein_by_hand() -> None:
    terms = np.array([0.0, 1.0] * 50)
    deviation = np.sqrt(25 / 99)
    width = deviation * np.sqrt(2 * np.log(80) / 100) + 7 * np.log(80) / (3 * 99)
    found = empirical_bernstein(terms, (0.0, 1.0))
    assert (found.low, found.high) == pytest.approx((0.5 - width, 0.5 + width))
    with pytest.raises(EvaluationError, match=r"terms must be in \[0, 0.5\], got 0 to 1"):
        empirical_bernstein(terms, (0.0, 0.5))


@pytest.mark.parametrize(
    ("successes", "low", "high"),
    [(0, 0.0, 1 - 0.025**0.1), (3, 0.06673951, 0.65245285), (10, 0.025**0.1, 1.0)],
)
def test_clopper_pearson_by_hand(successes: int, low: float, high: float) -> None:
    """Of 10: none and all by their powers, 3 as tables have it."""
    found = clopper_pearson(successes, 10)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_terms_that_are_all_the_same_have_no_width() -> None:
    terms = np.full(10, 0.3)
    assert hall(terms).half_width == bootstrap(terms, np.random.default_rng(0)).half_width == 0.0


def test_one_term_has_no_interval() -> None:
    with pytest.raises(EvaluationError, match="two decisions at least, got 1"):
        hall(np.ones(1))
