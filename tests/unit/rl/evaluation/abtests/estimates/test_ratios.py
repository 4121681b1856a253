import numpy as np
import pytest

from rl.evaluation.abtests.estimates.planning import looking_costs, read_fixed, users_needed
from rl.evaluation.abtests.estimates.ratios import Sums, find_coefficient, find_mean, linearise
from rl.policy.arrays import FloatArray


def draw(rng: np.random.Generator, users: int, worth: float = 1.0) -> Sums:
    click = rng.beta(2, 18, users)
    times, before = rng.poisson(rng.gamma(1.0, 6.0, users)) + 1.0, rng.poisson(8, users) * 1.0
    earned = rng.binomial(times.astype(np.int64), click * worth) * 1.0
    past = rng.binomial(before.astype(np.int64), click) * 1.0
    return Sums(earned.astype(np.float64), times.astype(np.float64), past.astype(np.float64), before.astype(np.float64))


def test_a_ratio_by_hand() -> None:
    # Two users: 1 of 2, 3 of 4. Ratio 4/6; residuals 1 - 4/3 and 3 - 8/3, over the mean of 3 decisions.
    ratio, residual = linearise(np.array([1.0, 3.0]), np.array([2.0, 4.0]))
    assert ratio == pytest.approx(2 / 3)
    assert residual == pytest.approx(np.array([-1 / 9, 1 / 9]))
    # Their variance is 2/81, of a mean of two 1/81.
    assert find_mean(Sums(np.array([1.0, 3.0]), np.array([2.0, 4.0]))).variance == pytest.approx(1 / 81)


def test_users_are_what_is_counted() -> None:
    # Each user's decisions all end alike: a hundred times as many decisions tell nothing more.
    same: FloatArray = np.repeat([0.0, 1.0], 50)
    one = find_mean(Sums(same, np.ones(100)))
    many = find_mean(Sums(same * 100, np.full(100, 100.0)))
    assert many.variance == pytest.approx(one.variance)


@pytest.mark.parametrize("covered", [True, False])
def test_adjusted_differences_are_those_of_tea_tasting(covered: bool) -> None:
    pytest.importorskip("tea_tasting")
    rng = np.random.default_rng(1)
    arms = [draw(rng, 900), draw(rng, 1_100, 0.9)]
    if not covered:
        arms = [Sums(arm.earned, arm.times) for arm in arms]
    coefficient, past = find_coefficient(arms)
    control, variant = (find_mean(arm, coefficient, past) for arm in arms)
    peer = read_fixed(arms[0], arms[1])
    assert control.value == pytest.approx(peer.control)
    assert variant.value - control.value == pytest.approx(peer.effect_size)
    deviation = np.sqrt(control.variance + variant.variance)
    half = (peer.effect_size_ci_upper - peer.effect_size_ci_lower) / 2
    assert 1.959964 * deviation == pytest.approx(half, rel=1e-4)


def test_what_users_did_before_narrows() -> None:
    arm = draw(np.random.default_rng(2), 2_000)
    coefficient, past = find_coefficient([arm])
    assert find_mean(arm, coefficient, past).variance < 0.95 * find_mean(arm).variance


def test_users_needed_by_hand() -> None:
    # One decision each, half of them 1: variance .25, effect .05: 2 x 2 x .25 x (1.95996 + .84162)^2 / .05^2 = 3139.6.
    flat: FloatArray = np.repeat([0.0, 1.0], 5_000)
    needed = users_needed(Sums(flat, np.ones(10_000)), effect=0.1)
    assert needed == pytest.approx(3_140, abs=2)


def test_looking_always_costs_a_fifth() -> None:
    assert 1.1 < looking_costs(0.05) < 1.25
