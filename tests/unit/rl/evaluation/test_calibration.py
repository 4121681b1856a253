"""Reliability tables by hand, and of what is calibrated and what is not."""

import numpy as np
import pytest

from rl.evaluation.calibration import measure_reliability
from rl.evaluation.offpolicy.log import BanditLog, Predictions
from rl.evaluation.offpolicy.models.rewards import measure_accuracy


def test_a_table_by_hand() -> None:
    table = measure_reliability(np.array([0.4, 0.1, 0.1, 0.4]), np.array([1.0, 0.0, 1.0, 0.0]), bins=2)
    assert table.counts.tolist() == [2, 2]
    assert table.predicted == pytest.approx([0.1, 0.4])
    assert table.observed == pytest.approx([0.5, 0.5])
    assert table.expected_error == pytest.approx((2 * 0.4 + 2 * 0.1) / 4)


def test_equal_predictions_share_a_bin_and_bins_hold_as_many_rows() -> None:
    assert measure_reliability(np.full(100, 0.3), np.zeros(100)).counts.tolist() == [100]
    assert measure_reliability(np.arange(100) / 100, np.zeros(100)).counts.tolist() == [10] * 10
    assert measure_reliability(np.array([0.0] * 95 + [0.5] * 5), np.zeros(100)).counts.tolist() == [95, 5]


def test_what_is_calibrated_has_an_error_of_chance_and_what_is_too_sure_has_its_own() -> None:
    """40,000 rows, seed 0: an error of .01 is two standard errors of a bin; the sure one says p^2 / (p^2 + (1-p)^2)."""
    rng = np.random.default_rng(0)
    p = rng.random(40_000)
    came = (rng.random(40_000) < p).astype(float)
    assert measure_reliability(p, came).expected_error < 0.01
    sure = p**2 / (p**2 + (1 - p) ** 2)
    assert measure_reliability(sure, came).expected_error == pytest.approx(np.mean(np.abs(sure - p)), abs=0.01)


@pytest.mark.parametrize(("n", "m", "bins"), [(0, 0, 1), (2, 3, 1), (2, 2, 0)])
def test_what_cannot_be_a_table_is_refused(n: int, m: int, bins: int) -> None:
    with pytest.raises(ValueError, match=f"got {bins} bins, \\({n},\\) predictions and \\({m},\\) observations"):
        measure_reliability(np.zeros(n), np.zeros(m), bins)


def test_the_accuracy_of_predicted_ratings_by_hand() -> None:
    """Ratings 5, 1, 3 of what was shown, predicted 4, 3, 3."""
    log = BanditLog(np.array([0, 1, 0]), np.array([5.0, 1.0, 3.0]), np.full(3, 0.5), np.full((3, 2), 0.5))
    found = measure_accuracy(Predictions(log, np.array([[4.0, 9.0], [9.0, 3.0], [3.0, 9.0]])))
    assert found.rmse == pytest.approx(np.sqrt((1 + 4 + 0) / 3))
    assert found.mae == pytest.approx(1.0)
    assert found.explained == pytest.approx(1 - (5 / 3) / (8 / 3))
    assert found.reliability.predicted.tolist() == [3.0, 4.0]
    assert found.reliability.observed.tolist() == [2.0, 5.0]
    assert found.reliability.expected_error == pytest.approx((2 * 1 + 1 * 1) / 3)
