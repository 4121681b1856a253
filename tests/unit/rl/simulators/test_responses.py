"""A simulator fitted to a log finds classes of users where there are some, and none where there are not."""

import numpy as np
import pytest

from rl.evaluation.sim_to_real import SimToReal, measure_sim_to_real
from rl.policy.arrays import FloatArray, IntArray
from rl.simulators.responses import Slots, fit_responses

pytestmark = pytest.mark.heavy

ITEMS, USERS, STEPS = 6, 300, 20


def shown(p: FloatArray, of_class: IntArray, seed: int, first: int = 0) -> Slots:
    """Return what users of classes do with items that are drawn from all, one a decision; what they buy earns 2."""
    rng = np.random.default_rng(seed)
    steps, users = (grid.ravel() for grid in np.meshgrid(np.arange(STEPS), np.arange(len(of_class)), indexing="ij"))
    items = rng.integers(1, ITEMS + 1, len(users))
    earned = rng.random(len(users)) < p[of_class[users], items - 1]
    return Slots(users, steps + first, items, np.where(earned, 2.0, 0.0), np.ones(len(users)))


def classes(seed: int) -> tuple[FloatArray, IntArray]:
    """Return two classes: one likes the first three items, the other the last three."""
    p = np.array([[0.6, 0.6, 0.6, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.6, 0.6, 0.6]])
    return p, np.random.default_rng(seed).integers(2, size=USERS)


def compare(p: FloatArray, of_class: IntArray, later: FloatArray, seed: int) -> SimToReal:
    rng = np.random.default_rng(seed)
    model, known = fit_responses(shown(p, of_class, seed), USERS, ITEMS, rng)
    slots = shown(later, of_class, seed + 1_000)
    return measure_sim_to_real(model, known, slots, np.arange(len(slots)), USERS * STEPS)


@pytest.mark.parametrize("seed", range(3))
def test_two_classes_are_found_with_what_they_like(seed: int) -> None:
    p, of_class = classes(seed)
    model, known = fit_responses(shown(p, of_class, seed), USERS, ITEMS, np.random.default_rng(seed))
    assert len(model.shares) == 2
    first = int(model.p[0, 1] < model.p[0, 4])  # which of the two is which is chance
    np.testing.assert_allclose(model.p[[first, 1 - first], 1:], p, atol=0.06)  # of 1,000 slots each: four errors
    assert (known.argmax(axis=1) == np.where(of_class == 0, first, 1 - first)).mean() > 0.97
    np.testing.assert_allclose(model.worth[1:], 2.0, atol=1e-9)
    assert model.otherwise == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_users_who_are_alike_are_of_one_class(seed: int) -> None:
    p, of_class = np.full((1, ITEMS), 0.3), np.zeros(USERS, dtype=np.int64)
    model, _ = fit_responses(shown(p, of_class, seed), USERS, ITEMS, np.random.default_rng(seed))
    assert len(model.shares) == 1


@pytest.mark.parametrize("seed", range(3))
def test_what_it_says_of_later_decisions_comes(seed: int) -> None:
    p, of_class = classes(seed)
    report = compare(p, of_class, p, seed)
    assert report.rmse < 0.93 * report.rmse_of_item_means  # sqrt of 4 (.24 + .09) / 2 over sqrt of 4 .2275: .86
    assert report.calibration_error < 0.05  # of 600 slots in a bin, and of 500 that an item was fitted to: .02 each
    assert abs(report.predicted_value - report.realised_value) < 0.1


def test_a_world_that_has_changed_is_told_by_the_report() -> None:
    """As a simulator that was fitted wrongly would be: it must not pass."""
    p, of_class = classes(0)
    report = compare(p, of_class, p[::-1] * 0.5, 0)
    assert report.rmse > report.rmse_of_item_means
    assert report.calibration_error > 0.1
    assert not report.holds


def test_a_user_is_known_by_what_they_did_before() -> None:
    p, of_class = classes(0)
    slots = shown(p, of_class, 0)
    model, _ = fit_responses(slots, USERS, ITEMS, np.random.default_rng(0))
    predicted, _ = model.follow(slots, np.tile(model.shares, (USERS, 1)))
    first, last = predicted[slots.steps == 0], predicted[slots.steps == STEPS - 1]
    assert first.std() < 0.05 < last.std()  # of nobody is anything known at first
