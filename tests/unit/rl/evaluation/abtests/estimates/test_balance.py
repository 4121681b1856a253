import numpy as np
import pytest

from rl.evaluation.abtests.estimates.balance import Phase, check_balance, log_evidence


def test_chi_square_by_hand() -> None:
    # 5,200 and 4,800 of 5,000 each: 2 x 200^2 / 5,000 = 16; the upper tail of one degree of freedom is 6.334e-5.
    found = check_balance([Phase({"a": 1.0, "b": 1.0}, {"a": 5_200, "b": 4_800})])
    assert found.p_fixed == pytest.approx(6.334e-5, rel=1e-3)
    assert found.deviation == pytest.approx(0.02)
    assert found.expected == {"a": 5_000, "b": 5_000}


def test_evidence_by_hand() -> None:
    # The first user says nothing. Of two of the same variant, the second was foreseen with 501 / 1,001.
    half = np.array([0.5, 0.5])
    assert log_evidence(np.array([1.0, 0.0]), half) == pytest.approx(0.0, abs=1e-9)
    assert np.exp(log_evidence(np.array([2.0, 0.0]), half)) == pytest.approx(2 * 501 / 1001)


@pytest.mark.parametrize(
    ("a", "light"),
    [(5_000, "green"), (5_130, "green"), (5_205, "yellow"), (5_300, "red")],
)
def test_lights(a: int, light: str) -> None:
    assert check_balance([Phase({"a": 0.5, "b": 0.5}, {"a": a, "b": 10_000 - a})]).light == light


def test_a_deviation_below_a_thousandth_is_not_red_however_sure() -> None:
    # Of a hundred million, .0009 is 18 standard deviations.
    found = check_balance([Phase({"a": 0.5, "b": 0.5}, {"a": 50_090_000, "b": 49_910_000})])
    assert found.p_sequential < 1e-6
    assert found.light == "yellow"


def test_phases_have_shares_of_their_own() -> None:
    phases = [
        Phase({"a": 0.5, "b": 0.5}, {"a": 1_000, "b": 1_000}),
        Phase({"a": 0.9, "b": 0.1}, {"a": 900, "b": 100}),
    ]
    found = check_balance(phases)
    assert found.light == "green"
    assert found.observed == {"a": 1_900, "b": 1_100}
    assert check_balance([Phase({"a": 0.5, "b": 0.5}, {"a": 1_900, "b": 1_100})]).light == "red"


def test_a_variant_that_is_off_is_no_part_of_a_phase() -> None:
    assert check_balance([Phase({"a": 1.0, "b": 0.0}, {"a": 500})]).light == "green"


def test_nobody_came() -> None:
    assert check_balance([]).light == "green"


def test_right_shares_are_seldom_ever_red() -> None:
    # 500 tests of 4,000 users with a look each 20: more than .01 are yellow ever with a probability of .01 at most.
    rng = np.random.default_rng(0)
    came = rng.binomial(20, 0.3, size=(500, 200)).cumsum(axis=1)
    yellow = 0
    for test in came:
        users = np.arange(20, 4_001, 20)
        yellow += any(
            log_evidence(np.array([a, n - a], dtype=np.float64), np.array([0.3, 0.7])) > np.log(100)
            for a, n in zip(test[::4], users[::4], strict=True)
        )
    assert yellow <= 11  # .01 of 500 are 5, and 2.7 standard deviations more
