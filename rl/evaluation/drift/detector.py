"""A detector of change that hardly ever cries wolf, however long it watches and however often one looks.

A capital of 1 is laid out in advance: a part π_j is staked at observation j, from which on it is multiplied by the
factors e_j, e_{j+1}, ... of the bets, each at most 1 on average while nothing changes. The whole capital, too, is then
at most 1 on average, so that the probability that it ever reaches 1/α is at most α. After a change the stakes laid out
about then grow exponentially. π_j = G(j) - G(j + 1) with G(j) = log 2 / log(j + 1): of all parts that add up to 1 these
shrink about as slowly as can be, so that a change is seen almost as soon when it comes late.

Source: Ville (1939) for the bound; Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential
change detection" (2023), for sums of stakes that begin at each observation; Volkhonskiy et al., "Inductive conformal
martingales for change-point detection" (2017), for bets on ranks.
"""

import numpy as np

from rl.policy.arrays import FloatArray, IntArray


class Detector:
    """Watches one stream. Axis names: n observations, K bets."""

    def __init__(self, alpha: float) -> None:
        """Watch from now on.

        Args:
            alpha: the probability of an alarm, at any time, while nothing changes: this at most.
        """
        self.threshold = float(-np.log(alpha))
        self.evidence = -np.inf
        """Logarithm of the capital, the mean of all bets', at the alarm or now."""
        self.seen = 0
        """Observations, up to the alarm."""
        self.began: int | None = None
        """The observation from which on something has changed, as far as can be told; None: no alarm."""
        self._stakes: FloatArray = np.zeros(0)  # log of what the capital laid out has become, [K]
        self._run: FloatArray = np.zeros(0)  # the largest sum of logarithms of the last factors, [K]
        self._since: IntArray = np.zeros(0, dtype=np.int64)  # from which on they are summed

    @property
    def alarmed(self) -> bool:
        """Whether something has changed."""
        return self.began is not None

    def watch(self, factors: FloatArray) -> bool:
        """Take factors [n, K] of bets in, up to the alarm; returns whether it has come."""
        if not self.seen:
            k = factors.shape[1]
            self._stakes, self._run, self._since = np.full(k, -np.inf), np.zeros(k), np.zeros(k, dtype=np.int64)
        left = np.log(2.0) / np.log(self.seen + 2.0 + np.arange(len(factors) + 1))  # G
        parts = np.log(left[:-1] - left[1:])
        for growth, part in zip(np.log(np.maximum(factors, 1e-300)), parts, strict=True):
            if self.alarmed:
                break
            self._stakes = np.logaddexp(self._stakes, part) + growth
            new = self._run <= 0.0
            self._run = np.where(new, 0.0, self._run) + growth
            self._since = np.where(new, self.seen, self._since)
            self.seen += 1
            self.evidence = float(np.logaddexp.reduce(self._stakes) - np.log(len(growth)))
            if self.evidence >= self.threshold:
                self.began = int(self._since[self._stakes.argmax()])
        return self.alarmed
