"""Predictions of what is still to come on a slate, by models that have not seen it."""

import numpy as np

from rl.evaluation.offpolicy.errors import EvaluationError
from rl.evaluation.offpolicy.models.folds import deal
from rl.policy.arrays import FloatArray, IntArray


def cross_fit_slots(
    contexts: FloatArray,
    items: IntArray,
    rewards: FloatArray,
    target: FloatArray,
    rng: np.random.Generator,
    folds: int = 3,
    penalty: float = 3.0,
) -> tuple[FloatArray, FloatArray]:
    """Return predicted rewards from each slot on, of what was shown and of what the target shows, [n, k] each.

    A ridge regression for each slot, from the last to the first, of the slot's reward and of what the next one's model
    expects. It knows the context by the slot's item, and which items stand above. Its size grows with the square of
    A d: it is for catalogues of dozens of items.

    Args:
        contexts: [n, d].
        items: [n, k] positions of the slots' items, among A.
        rewards: [n, k].
        target: [n, k, A] the target's distributions of each slot, given the items that were shown above it.
        rng: deals the slates into the folds.
        folds: into how many.
        penalty: on the squares of the coefficients.

    Raises:
        EvaluationError: shapes do not fit, an item is unknown, there are fewer than two folds, or fewer slates than
            folds.
    """
    n, k = items.shape
    actions = target.shape[-1]
    if rewards.shape != (n, k) or target.shape != (n, k, actions) or len(contexts) != n:
        raise EvaluationError(
            f"items are {items.shape}: rewards must be so too, target ({n}, {k}, items), contexts ({n}, features); got "
            f"{rewards.shape}, {target.shape} and {contexts.shape}"
        )
    if items.min() < 0 or items.max() >= actions:
        raise EvaluationError(f"items must be in [0, {actions}), got {items.min()} to {items.max()}")
    shown = np.eye(actions)[items]  # [n, k, A]
    above = np.cumsum(shown, axis=1) - shown
    padded = np.column_stack([np.ones(n), contexts])
    predicted, expected = np.empty((n, k)), np.empty((n, k))
    for train, part in deal(n, folds, rng):
        future = np.zeros(n)
        for slot in reversed(range(k)):
            by_item = (shown[:, slot, :, None] * padded[:, None, :]).reshape(n, -1)
            x = np.column_stack([by_item, above[:, slot]])[train]
            returns = rewards[train, slot] + future[train]
            mean = returns.mean()
            solved = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (returns - mean))
            of_item, of_above = np.split(solved, [by_item.shape[1]])
            values = mean + padded @ of_item.reshape(actions, -1).T + (above[:, slot] @ of_above)[:, None]  # [n, A]
            future = np.einsum("na,na->n", target[:, slot], values)
            predicted[part, slot] = values[part, items[part, slot]]
            expected[part, slot] = future[part]
    return predicted, expected
