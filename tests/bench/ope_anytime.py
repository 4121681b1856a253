"""Bounds that are looked at again and again: `python -m tests.bench.ope_anytime [--streams N]`.

Streams of 10,000 decisions of an epsilon-greedy policy (.2 over ten actions); the target is greedy otherwise on four
contexts in ten. The value's bounds are looked at each 100 decisions: the lower one of the weighted rewards, the upper
one of the weighted losses, so that neither needs a bound of the weights. `ever_missed` is the share of streams in which
one of them is ever wrong, `halfwidth_ratio` their mean half-width at the end over Student's for that size alone.
"""

import argparse

import numpy as np

from rl.evaluation.offpolicy.intervals import normal
from rl.evaluation.offpolicy.sequences import value_bounds
from tests.bench.common import finish

N, LOOK = 10_000, 100
EPSILON, ACTIONS = 0.2, 10


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ope_anytime", description=__doc__)
    parser.add_argument("--streams", type=int, default=500)
    streams = parser.parse_args().streams
    missed, ratios = np.zeros(3), []
    for seed in range(streams):
        rng = np.random.default_rng(seed)
        value = rng.uniform(0.2, 0.6)
        same = rng.random(N) < 0.6
        propensities = np.where(same, 1 - EPSILON + EPSILON / ACTIONS, EPSILON / ACTIONS)
        weights = (rng.random(N) < propensities) / propensities
        rewards = (rng.random(N) < value).astype(float)
        low, high = value_bounds(weights, rewards, (0.0, 1.0), 0.05, N, np.arange(LOOK, N + 1, LOOK))
        below, above = (low > value).any(), (high < value).any()
        missed += (below, above, below or above)
        ratios.append((high[-1] - low[-1]) / 2 / normal(weights * rewards).half_width)
    figures = {
        "ever_missed": round(missed[2] / streams, 4),
        "halfwidth_ratio": round(float(np.mean(ratios)), 3),
    }
    finish("ope_anytime", figures, {"below": missed[0] / streams, "above": missed[1] / streams}, streams)


if __name__ == "__main__":
    main()
