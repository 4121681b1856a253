"""Confidence sequences: the mixture against the integral that it is, and how often a bound is ever wrong."""

import numpy as np
import pytest
from scipy.integrate import quad

from rl.evaluation.offpolicy.errors import EvaluationError
from rl.evaluation.offpolicy.sequences import boundary, log_mixture, lower_bounds, upper_bounds, value_bounds


def mixed(deviation: float, intrinsic: float, c: float, rho: float) -> float:
    """Return the logarithm of the supermartingale, integrated over the density of lambda."""
    a = rho / c**2

    def density(lam: float) -> float:
        return float((1 - c * lam) ** (a - 1) * np.exp(-(1 - c * lam) * a))

    def value(lam: float) -> float:
        psi = (-np.log(1 - c * lam) - c * lam) / c**2
        return float(np.exp(lam * deviation - psi * intrinsic) * density(lam))

    end = (1 - 1e-12) / c
    return float(np.log(quad(value, 0, end)[0] / quad(density, 0, end)[0]))


@pytest.mark.parametrize(
    ("deviation", "intrinsic", "c", "rho"), [(3, 4, 0.7, 2), (10, 30, 0.7, 2), (0.5, 1, 0.7, 2), (5, 2, 2, 9)]
)
def test_the_mixture_is_the_integral(deviation: float, intrinsic: float, c: float, rho: float) -> None:
    found = log_mixture(np.array([float(deviation)]), np.array([float(intrinsic)]), c, rho)[0]
    assert found == pytest.approx(mixed(deviation, intrinsic, c, rho), abs=1e-8)


def test_the_boundary_is_where_the_mixture_reaches_one_over_alpha() -> None:
    intrinsic = np.array([1.0, 100.0, 10_000.0])
    at = boundary(intrinsic, 0.5, 20.0, 0.05)
    assert log_mixture(at, intrinsic, 0.5, 20.0) == pytest.approx(np.log(20), abs=1e-6)
    assert (np.diff(at) > 0).all()


@pytest.mark.heavy
def test_bounds_are_hardly_ever_wrong_at_any_time() -> None:
    """400 streams of 3,000 weighted rewards (weight 10, probability 1/10): each bound wrong in .05 at most; seed 5."""
    rng = np.random.default_rng(5)
    wrong = np.zeros(2)
    for _ in range(400):
        terms = np.where(rng.random(3_000) < 0.1, 10.0, 0.0) * (rng.random(3_000) < 0.3)
        looks = np.arange(110, 3_001, 10)
        wrong += (
            lower_bounds(terms, 0.0, looks=looks).max() > 0.3,
            upper_bounds(terms, 10.0, looks=looks).min() < 0.3,
        )
    assert (wrong / 400 <= 0.05).all()
    assert wrong.sum() > 0  # the bounds are not so wide that they say nothing


def test_a_bound_comes_near_the_mean() -> None:
    """At the horizon about 1.6 times as far as Student's interval for that size alone."""
    terms = np.random.default_rng(6).random(10_000)
    below = terms.mean() - lower_bounds(terms, 0.0, alpha=0.025)[-1]
    assert 1.3 < below / (1.96 * terms.std() / 100) < 1.7


def test_no_bound_before_the_first_hundred() -> None:
    assert np.isneginf(lower_bounds(np.ones(100), 0.0)).all()
    assert np.isfinite(lower_bounds(np.ones(101), 0.0)[-1])


def test_looks_are_some_of_all_bounds() -> None:
    terms, looks = np.random.default_rng(7).random(300), np.array([50, 101, 300])
    assert lower_bounds(terms, 0.0, looks=looks).tolist() == lower_bounds(terms, 0.0)[looks - 1].tolist()


@pytest.mark.parametrize("term", [-1.0, np.nan])
def test_terms_below_the_floor_are_refused(term: float) -> None:
    with pytest.raises(EvaluationError, match=rf"floor 0, got {term:g} at \[2\]"):
        lower_bounds(np.array([0.0, 1.0, term]), 0.0)


def test_looks_at_what_has_not_come_are_refused() -> None:
    with pytest.raises(EvaluationError, match="looks must be after 200 terms at most, got 300"):
        lower_bounds(np.ones(200), 0.0, looks=np.array([150, 300]))


def test_no_terms_have_no_bounds() -> None:
    low, high = value_bounds(np.zeros(0), np.zeros(0), (0.0, 1.0))
    assert len(low) == len(high) == 0


def test_bounds_of_a_value_are_of_the_gains_and_of_the_losses() -> None:
    """Rewards from 2 to 5 with weights that have a mean of one, in one turn and in the mirror."""
    rng = np.random.default_rng(8)
    weights, rewards = np.where(rng.random(2_000) < 0.5, 2.0, 0.0), rng.uniform(2.0, 5.0, 2_000)
    low, high = value_bounds(weights, rewards, (2.0, 5.0), 0.1)
    assert low[-1] < 3.5 < high[-1] < 4.0
    mirrored = value_bounds(weights, 7.0 - rewards, (2.0, 5.0), 0.1)
    assert (7.0 - mirrored[1][-1], 7.0 - mirrored[0][-1]) == pytest.approx((low[-1], high[-1]))
    assert low[-1] == 2.0 + lower_bounds(weights * (rewards - 2.0), 0.0, 0.05)[-1]
