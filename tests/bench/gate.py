"""Who is let through, and who is not: `python -m tests.bench.gate [--pairs N] [--families N]`.

A champion and a challenger that differ on 20 to 40 % of the contexts, and a log of 50,000 decisions of the champion
with epsilon .2 over ten actions, looked at each 1,000. Half of the challengers are better by 10 % of the champion's
value, of the others a third equal, a third 2 % and a third 10 % worse. `false_promotions` is the share of the second
half that is ever let through, `true_promotions` of the first; `false_family` is the share of families of ten
challengers, none better, of which one ever is.
"""

import argparse

import numpy as np

from rl.evaluation.offpolicy.difference import Difference, difference
from rl.evaluation.offpolicy.log import BanditLog
from rl.policy.arrays import FloatArray, IntArray
from tests.bench.common import finish, say

N, LOOK, ACTIONS, EPSILON, CONTEXTS = 50_000, 1_000, 10, 0.2, 100
ALPHA, HORIZON = 0.05, 30_000


class Pair:
    """Contexts, each with what its actions earn; a champion, and challengers that are better or worse by a share."""

    def __init__(self, rng: np.random.Generator, gains: tuple[float, ...]) -> None:
        self.means = np.empty((CONTEXTS, ACTIONS))
        value = rng.uniform(0.3, 0.6)
        self.champion = rng.integers(ACTIONS, size=CONTEXTS)
        self.means[:] = np.clip(rng.normal(value, 0.05, (CONTEXTS, ACTIONS)), 0.02, 0.98)
        self.challengers = []
        at = np.arange(CONTEXTS)
        for gain in gains:
            differs = rng.permutation(CONTEXTS)[: int(rng.uniform(0.2, 0.4) * CONTEXTS)]
            challenger = self.champion.copy()
            challenger[differs] = (challenger[differs] + 1 + rng.integers(ACTIONS - 1, size=len(differs))) % ACTIONS
            self.challengers.append(challenger)
            if len(gains) == 1:  # the means of what only the challenger does make the difference what it is to be
                now = self.means[at, self.champion].mean()
                change = gain * now * CONTEXTS / len(differs)
                wanted = self.means[differs, self.champion[differs]] + change
                self.means[differs, challenger[differs]] = np.clip(wanted, 0.0, 1.0)
        if len(gains) > 1:  # all are equal: what differs earns the same
            for challenger in self.challengers:
                self.means[at, challenger] = self.means[at, self.champion]

    def true_gain(self, challenger: IntArray) -> float:
        at = np.arange(CONTEXTS)
        return float((self.means[at, challenger] - self.means[at, self.champion]).mean())

    def log(self, rng: np.random.Generator) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
        """Return contexts, actions, rewards and propensities [n] of the champion's decisions."""
        contexts = rng.integers(CONTEXTS, size=N)
        greedy = self.champion[contexts]
        chosen = np.where(rng.random(N) < EPSILON, rng.integers(ACTIONS, size=N), greedy)
        rewards = (rng.random(N) < self.means[contexts, chosen]).astype(float)
        propensities = EPSILON / ACTIONS + (1 - EPSILON) * (chosen == greedy)
        return contexts, chosen, rewards, propensities


def predict(contexts: IntArray, chosen: IntArray, rewards: FloatArray) -> FloatArray:
    """Return predictions [n, A] from what was seen up to the last look: the action's mean over all contexts.

    Before the first look it is a half: a model of the rewards that it predicts would make the bounds wrong.
    """
    predicted = np.full((N, ACTIONS), 0.5)
    for start in range(LOOK, N, LOOK):
        counts = np.bincount(chosen[:start], minlength=ACTIONS) + 2.0
        sums = np.bincount(chosen[:start], rewards[:start], minlength=ACTIONS) + 2 * rewards[:start].mean()
        predicted[start : start + LOOK] = sums / counts
    return predicted


def compare(pair: Pair, challenger: IntArray, logged: tuple[IntArray, IntArray, FloatArray, FloatArray]) -> Difference:
    contexts, chosen, rewards, propensities = logged
    distributions = np.eye(ACTIONS)
    one, other = (
        BanditLog(chosen, rewards, propensities, distributions[by[contexts]]) for by in (challenger, pair.champion)
    )
    least, greedy = EPSILON / ACTIONS, EPSILON / ACTIONS + 1 - EPSILON
    return difference(one, other, predict(contexts, chosen, rewards), (0.0, 1.0), (1 / least, 1 / greedy))


def promoted(found: Difference, alpha: float) -> bool:
    """Return whether the bound is ever above 0 at a look."""
    return bool((found.lower_bounds(alpha, HORIZON, np.arange(LOOK, N + 1, LOOK)) > 0).any())


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gate", description=__doc__)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--families", type=int, default=100)
    options = parser.parse_args()
    good, bad = list[bool](), list[bool]()
    for seed in range(options.pairs):
        rng = np.random.default_rng(seed)
        gain = 0.1 if seed % 2 else (0.0, -0.02, -0.1)[seed // 2 % 3]
        pair = Pair(rng, (gain,))
        through = promoted(compare(pair, pair.challengers[0], pair.log(rng)), ALPHA)
        (good if seed % 2 else bad).append(through)
        if seed % 50 == 49:
            say(f"{seed + 1} pairs: {np.mean(good):.3f} of the better, {np.mean(bad):.3f} of the others were promoted")
    families = []
    for seed in range(options.families):
        rng = np.random.default_rng([1, seed])
        pair = Pair(rng, (0.0,) * 10)
        logged = pair.log(rng)
        families.append(any(promoted(compare(pair, one, logged), ALPHA / 10) for one in pair.challengers))
    figures = {
        "false_promotions": round(float(np.mean(bad)), 4),
        "true_promotions": round(float(np.mean(good)), 4),
        "false_family": round(float(np.mean(families)), 4),
    }
    finish("gate", figures, {}, options.pairs)


if __name__ == "__main__":
    main()
