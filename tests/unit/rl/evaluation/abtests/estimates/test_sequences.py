import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from rl.evaluation.abtests.estimates.sequences import fixed_radius, intrinsic_time, radius, tightest


@pytest.mark.parametrize("time", [0.5, 8.0, 100.0])
def test_a_side_is_where_the_half_normal_mixture_reaches_its_level(time: float) -> None:
    # A second implementation, by quadrature: exp(l S - l^2 t / 2) mixed over l = |N(0, rho^2)|, here with rho = 1.
    alpha = 0.05
    s = radius(time, alpha) * np.sqrt(time)
    mixed, _ = quad(lambda at: 2 * norm.pdf(at) * np.exp(at * s - at**2 * time / 2), 0, 10)
    assert 2 / alpha <= mixed <= 1.05 * 2 / alpha  # each side has half of alpha; the closed form gives away a little


def test_the_two_sided_form_of_the_paper_is_a_little_narrower() -> None:
    # Theorem 2.2: sqrt(2 (t rho^2 + 1) / (t^2 rho^2) log(sqrt(t rho^2 + 1) / alpha)) of a standard deviation.
    n, rho2, alpha = 1_000, 0.01, 0.05
    published = np.sqrt(2 * (n * rho2 + 1) / (n**2 * rho2) * np.log(np.sqrt(n * rho2 + 1) / alpha))
    ours = radius(n * rho2, alpha) / np.sqrt(n)
    assert published == pytest.approx(0.0960, abs=1e-4)
    assert published < ours < 1.01 * published


def test_it_is_tightest_where_it_is_tuned_to() -> None:
    # At a fixed number of decisions, rho is what varies.
    at = tightest(0.05)
    assert at == pytest.approx(7.94, abs=0.01)
    assert radius(at, 0.05) < min(radius(0.3 * at, 0.05), radius(4 * at, 0.05))


def test_the_effect_is_seen_when_independent_decisions_are_tuned_to_it() -> None:
    # Independent decisions of variance .09: the variance of a difference of n pairs is .09 / n.
    alpha, effect, spread = 0.05, 0.01, 0.09
    pairs = (radius(tightest(alpha), alpha) / effect) ** 2 * spread
    time = intrinsic_time(pairs, spread / pairs, spread, effect, alpha)
    assert time == pytest.approx(tightest(alpha))
    assert np.sqrt(spread / pairs) * radius(time, alpha) == pytest.approx(effect)


def test_a_look_that_was_planned_has_the_normal_quantile() -> None:
    assert fixed_radius(0.05) == pytest.approx(1.959964, abs=1e-6)


def test_brownian_motion_crosses_it_no_more_often_than_it_may() -> None:
    # 4,000 paths at 400 times from 1/100 of the tuned time to 100 times it; 2 standard errors above .05 are .057.
    rng = np.random.default_rng(5)
    times = tightest(0.05) * np.geomspace(0.01, 100, 400)
    steps = rng.normal(size=(4_000, 400)) * np.sqrt(np.diff(times, prepend=0.0))
    bounds = np.array([radius(time, 0.05) for time in times]) * np.sqrt(times)
    crossed = (np.abs(np.cumsum(steps, axis=1)) > bounds).any(axis=1).mean()
    assert 0.02 < crossed < 0.057


def test_a_bound_for_one_look_is_crossed_often_when_looked_at_always() -> None:
    rng = np.random.default_rng(5)
    path = np.cumsum(rng.normal(size=(1_000, 400)), axis=1)
    assert (np.abs(path) > fixed_radius(0.05) * np.sqrt(np.arange(1, 401))).any(axis=1).mean() > 0.3
