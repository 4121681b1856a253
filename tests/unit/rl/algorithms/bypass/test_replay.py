"""The columnar replay: a ring, drawn uniformly or by priority."""

import numpy as np
import pytest

from rl.algorithms.bypass.replay import Replay, SumTree


def rows(*numbers: int) -> dict[str, np.ndarray]:
    return {"x": np.array(numbers), "y": np.array([[n, -n] for n in numbers], dtype=np.float32)}


def held(replay: Replay) -> list[int]:
    """Return what a replay holds, oldest first."""
    state = replay.get_state()
    numbers: list[int] = np.roll(state["columns"]["x"], -state["next"]).tolist()
    return numbers


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_the_oldest_fall_out_in_order(alpha: float) -> None:
    replay = Replay(4, alpha)
    replay.add(rows(1, 2, 3))
    assert len(replay) == 3
    replay.add(rows(4, 5, 6))
    assert (len(replay), held(replay)) == (4, [3, 4, 5, 6])
    replay.add(rows(*range(7, 17)))
    assert (len(replay), held(replay)) == (4, [13, 14, 15, 16])


def test_the_columns_of_a_row_stay_together() -> None:
    replay = Replay(8, alpha=0.6)
    replay.add(rows(*range(1, 12)))
    _, _, columns = replay.sample(100, np.random.default_rng(0))
    np.testing.assert_array_equal(columns["y"][:, 0], columns["x"])
    np.testing.assert_array_equal(columns["y"][:, 1], -columns["x"])
    assert columns["y"].dtype == np.float32


def test_without_priorities_every_row_is_drawn_alike() -> None:
    """Within four standard errors of 1/5 in 20,000 draws."""
    replay = Replay(5)
    replay.add(rows(0, 1, 2, 3, 4))
    at, weights, columns = replay.sample(20_000, np.random.default_rng(1))
    np.testing.assert_array_equal(weights, 1.0)
    np.testing.assert_array_equal(columns["x"], at)
    assert np.abs(np.bincount(at) / 20_000 - 0.2).max() < 4 * np.sqrt(0.2 * 0.8 / 20_000)


def test_priorities_and_weights_are_those_of_the_paper() -> None:
    """Errors 1, 3, 8 with alpha 1/3: P = 1, 3^(1/3), 2 over their sum; weights (P_min / P)^β."""
    replay = Replay(3, alpha=1 / 3, beta=0.5)
    replay.add(rows(0, 1, 2))
    replay.set_priorities(np.array([0, 1, 2]), np.array([1.0, -3.0, 8.0]))
    at, weights, _ = replay.sample(60_000, np.random.default_rng(2))
    likelihood = np.array([1.0, 3 ** (1 / 3), 2.0])
    np.testing.assert_allclose(np.bincount(at) / 60_000, likelihood / likelihood.sum(), atol=1e-4)  # stratified
    np.testing.assert_allclose(weights, ((1 / likelihood) ** 0.5)[at], rtol=1e-5)


def test_a_new_row_has_the_largest_priority_so_far() -> None:
    replay = Replay(4, alpha=1.0)
    replay.add(rows(0))
    replay.set_priorities(np.array([0]), np.array([7.0]))
    replay.set_priorities(np.array([0]), np.array([1.0]))
    replay.add(rows(1))
    np.testing.assert_allclose(replay.get_state()["priorities"], [1.0, 7.0], rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_what_is_saved_is_drawn_again(alpha: float) -> None:
    replay, other = Replay(6, alpha), Replay(6, alpha)
    replay.add(rows(*range(9)))
    replay.set_priorities(np.arange(6), np.arange(1.0, 7.0))
    other.set_state(replay.get_state())
    assert held(other) == held(replay)
    for one, two in zip(*(r.sample(50, np.random.default_rng(0)) for r in (other, replay)), strict=True):
        np.testing.assert_equal(one, two)
    smaller = Replay(3, alpha)
    smaller.set_state(replay.get_state())
    assert held(smaller) == [6, 7, 8]
    other.add(rows(9))
    replay.add(rows(9))
    assert held(other) == held(replay) == [4, 5, 6, 7, 8, 9]


def test_an_empty_replay_says_so() -> None:
    with pytest.raises(ValueError, match="empty replay"):
        Replay(3).sample(1, np.random.default_rng(0))
    saved = Replay(3).get_state()
    replay = Replay(3)
    replay.set_state(saved)
    assert len(replay) == 0


@pytest.mark.parametrize("columns", [{"x": np.zeros(2), "y": np.zeros(3)}, {"z": np.zeros(2)}])
def test_columns_that_do_not_fit_are_refused(columns: dict[str, np.ndarray]) -> None:
    replay = Replay(3)
    replay.add(rows(1))
    with pytest.raises(ValueError, match="columns must be"):
        replay.add(columns)
    with pytest.raises(ValueError, match="capacity must be at least 1, got 0"):
        Replay(0)


@pytest.mark.parametrize("capacity", [1, 2, 3, 5, 8, 100])
def test_a_sum_tree_is_its_leaves(capacity: int) -> None:
    rng = np.random.default_rng(capacity)
    tree, numbers = SumTree(capacity), np.zeros(capacity)
    for _ in range(20):
        at = rng.choice(capacity, size=min(3, capacity), replace=False)
        numbers[at] = rng.random(len(at)) * (rng.random(len(at)) < 0.7)
        tree.set(at, numbers[at])
    np.testing.assert_array_equal(tree.get(np.arange(capacity)), numbers)
    assert tree.total == pytest.approx(numbers.sum())
    if numbers.any():
        assert (numbers[tree.sample(500, rng)] > 0).all()
