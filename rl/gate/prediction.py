"""Rewards predicted from what was decided before: what makes estimates precise. Never from what comes later."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rl.policy.arrays import FloatArray

_PRIOR = 2.0
"""Decisions of the mean reward of all that an item begins with."""
_BY_ITEM = "items"


@dataclass
class Predictor:
    """Predicts rewards by the means of items, or by what a policy expects: whichever has erred least so far."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    total: float = 0.0
    n: int = 0
    errors: dict[str, float] = field(default_factory=dict)
    """Sums of squared errors, by who has predicted; what is long ago counts less."""

    def predict(self, candidates: Sequence[str], expected: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Return [A] rewards of candidates, by who predicts them; `expected` is what the policies do."""
        mean = self.total / self.n if self.n else 0.0
        sums = np.array([self.sums.get(item, 0.0) for item in candidates])
        counts = np.array([self.counts.get(item, 0) for item in candidates])
        return {_BY_ITEM: (sums + _PRIOR * mean) / (counts + _PRIOR), **expected}

    @property
    def best(self) -> str:
        """Who has erred least so far; at first the means of items."""
        return min(self.errors, key=self.errors.__getitem__, default=_BY_ITEM)

    def learn(self, item: str, reward: float, predicted: Mapping[str, float]) -> None:
        """Take in what a decision has earned, and who had predicted what of it."""
        self.sums[item] = self.sums.get(item, 0.0) + reward
        self.counts[item] = self.counts.get(item, 0) + 1
        self.total, self.n = self.total + reward, self.n + 1
        for who, value in predicted.items():
            error = (reward - value) ** 2
            self.errors[who] = self.errors.get(who, 0.0) + (error if np.isfinite(error) else np.inf)

    def forget(self) -> None:
        """Let all errors so far count half: who has erred before they had learned may be the best by now."""
        self.errors = {who: error / 2 for who, error in self.errors.items()}
