"""Whether decisions alike earn something as often as before: a bet that holds whatever a policy that learns does.

Alike are decisions with the same context and the same slate. Where nothing changes the probability μ that one of a kind
earns something does not fall: it stays, or rises as a policy that knows more of users than the context says learns whom
to show what. Against all such μ at once the bet is that from decision τ on they are others,

    E = Σ_τ π(τ) Π_t q_τ(x_t) / max_μ Π_t μ_t^x_t (1 - μ_t)^(1 - x_t),    μ of a kind not falling,

with q_τ the share of successes of the kind so far (and half a success and half a failure), counted anew from τ on. For
the true μ in place of the best one it would be 1 on average whatever is chosen next, so E ever reaches 1/α with
probability α at most. The best μ are means over blocks of neighbours (pool adjacent violators). A kind's first eight
decisions only teach q: kinds that do not come again cost the bet nothing.

Sources: Wasserman, Ramdas and Balakrishnan, "Universal inference" (2020), section 8; Krichevsky and Trofimov, "The
performance of universal encoding" (1981), for q; Ayer et al., "An empirical distribution function for sampling with
incomplete information" (1955), for μ; π as in `rl.evaluation.drift.detector`. Axis names: J times τ, S kinds.
"""

import math
from collections.abc import Hashable

import numpy as np

from rl.policy.arrays import FloatArray

_FIRST = 8  # decisions of a kind that only teach
_EVERY = 16  # decisions between two τ
_TIMES, _NEWEST = 64, 32  # τ at most, of which the newest are kept in any case
_KINDS = 4096


class EarnedDetector:
    """Watches one stream of decisions; what `rl.evaluation.drift.detector.Detector` has, for this bet."""

    def __init__(self, alpha: float) -> None:
        """Watch from now on, with an alarm while nothing changes with probability `alpha` at most, at any time."""
        self.threshold = float(-np.log(alpha))
        self.evidence = -np.inf
        """Logarithm of E, at the alarm or now."""
        self.seen = 0
        """Decisions that were watched, up to the alarm."""
        self.began: int | None = None
        """The one from which on something has changed, as far as can be told; None: no alarm."""
        self._kinds: dict[Hashable, int] = {}
        self._since = np.zeros((1, 64, 2))
        """[1 + J, S, failures and successes]: of all, and from each τ on."""
        self._blocks: list[list[tuple[int, int]]] = []
        """Of each kind the blocks in the bet, with ascending means: successes and decisions."""
        self._log_q = np.zeros(1)
        """[1 + J] log Π q, and of τ with log π(τ)."""
        self._log_best = 0.0
        self._begins = np.zeros(0, dtype=np.int64)

    @property
    def alarmed(self) -> bool:
        """Whether something has changed."""
        return self.began is not None

    def learn(self, kind: Hashable, earned: bool) -> None:
        """Take in a decision of before, that later ones are compared with."""
        self._take(kind, int(earned))

    def watch(self, kind: Hashable, earned: bool) -> bool:
        """Take in a decision, unless there was an alarm; returns whether there is one."""
        if self.alarmed:
            return True
        if self.seen % _EVERY == 0:
            self._begin()
        self._take(kind, int(earned))
        self.seen += 1
        of_times = self._log_q[1:] - self._log_best
        self.evidence = float(np.logaddexp.reduce(of_times))
        if self.evidence >= self.threshold:
            self.began = int(self._begins[of_times.argmax()])
        return self.alarmed

    def _begin(self) -> None:
        """Bet that all changes now, too; the least likely of the older bets is dropped where there are too many."""
        number = self.seen // _EVERY
        left: FloatArray = np.log(2.0) / np.log(number + 2.0 + np.arange(2))
        if len(self._begins) == _TIMES:
            worst = int(self._log_q[1:-_NEWEST].argmin())
            self._begins = np.delete(self._begins, worst)
            self._log_q = np.delete(self._log_q, 1 + worst)
            self._since = np.delete(self._since, 1 + worst, axis=0)
        self._begins = np.append(self._begins, self.seen)
        self._log_q = np.append(self._log_q, self._log_q[0] + np.log(left[0] - left[1]))
        self._since = np.concatenate([self._since, np.zeros_like(self._since[:1])])

    def _take(self, kind: Hashable, earned: int) -> None:
        at = self._kinds.get(kind, len(self._kinds))
        if at == _KINDS:
            return
        if kind not in self._kinds:
            self._kinds[kind] = at
            self._blocks.append([])
            if at == self._since.shape[1]:
                self._since = np.concatenate([self._since, np.zeros_like(self._since)], axis=1)
        own = self._since[:, at]  # [1 + J, 2]
        if own[0].sum() >= _FIRST:
            self._log_q += np.log((own[:, earned] + 0.5) / (own.sum(axis=1) + 1.0))
            self._log_best += _pool(self._blocks[at], earned)
        own[:, earned] += 1


def _pool(blocks: list[tuple[int, int]], earned: int) -> float:
    """Add a decision to the blocks of its kind; returns by how much the largest log-likelihood changes."""
    successes, n, before = earned, 1, 0.0
    while blocks and blocks[-1][0] * n >= successes * blocks[-1][1]:  # the mean before is no less
        some = blocks.pop()
        before += _log_likelihood(*some)
        successes, n = successes + some[0], n + some[1]
    blocks.append((successes, n))
    return _log_likelihood(successes, n) - before


def _log_likelihood(successes: int, n: int) -> float:
    """Return that of so many successes of n at their own share."""
    return sum(count * math.log(count / n) for count in (successes, n - successes) if count)
