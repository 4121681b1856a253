"""Targets and losses of Q learning, by hand."""

import pytest
import torch

from rl.algorithms.dqn.td import compute_loss, greedy_values, targets


def test_double_q_values_what_the_other_network_chooses() -> None:
    online, average = torch.tensor([[1.0, 5.0, 9.0]]), torch.tensor([[10.0, 20.0, 30.0]])
    mask = torch.tensor([[1, 1, 0]])
    assert greedy_values(average, online, mask).tolist() == [20.0]
    assert greedy_values(average, -online, mask).tolist() == [10.0]


def test_a_masked_action_is_never_the_best() -> None:
    values = torch.tensor([[-5.0, 100.0], [100.0, -5.0]])
    assert greedy_values(values, values, torch.tensor([[1, 0], [0, 1]])).tolist() == [-5.0, -5.0]


def test_targets_by_hand() -> None:
    found = targets(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0]), torch.tensor([4.0, 7.0]))
    assert found.tolist() == [3.0, 2.0]


def test_a_value_that_does_not_count_may_be_anything() -> None:
    found = targets(torch.tensor([2.0]), torch.tensor([0.0]), torch.tensor([torch.nan]))
    assert found.tolist() == [2.0]


def test_losses_by_hand() -> None:
    """Errors 2, -1/2 and 0 with weights 1, 2 and 5: half squares 2, 1/8, 0; Huber 3/2, 1/8, 0."""
    errors, weights = torch.tensor([2.0, -0.5, 0.0]), torch.tensor([1.0, 2.0, 5.0])
    assert float(compute_loss("mse", errors, weights)) == pytest.approx((2 + 2 / 8) / 3)
    assert float(compute_loss("huber", errors, weights)) == pytest.approx((1.5 + 2 / 8) / 3)
