"""Cross-fitting's folds: what a model is fitted to, and what it then predicts without having seen it."""

from collections.abc import Iterator

import numpy as np

from rl.evaluation.offpolicy.errors import EvaluationError
from rl.policy.arrays import BoolArray, IntArray


def deal(n: int, folds: int, rng: np.random.Generator) -> Iterator[tuple[BoolArray, IntArray]]:
    """Yield for each fold which of n rows [n] are learned from, and the numbers of those that are predicted.

    Raises:
        EvaluationError: there are fewer than two folds, or fewer rows than folds.
    """
    if folds < 2:
        raise EvaluationError(f"cross-fitting needs two folds at least, got {folds}")
    if n < folds:
        raise EvaluationError(f"{n} rows cannot be dealt into {folds} folds")
    for part in np.array_split(rng.permutation(n), folds):
        train = np.ones(n, bool)
        train[part] = False
        yield train, part
