"""Movies for known users: the share of the oracle's reward, from nothing: `python -m tests.bench.ratings [--seeds N]`.

The 20 most rated movies of MovieLens latest-small. `share` is over 8,000 interactions, `share_last` over the last 800.
"""

import os
from pathlib import Path

import numpy as np

from rl.policies import LinearThompsonConfig
from rl.policy.explorers import Votes
from rl.simulators.bandits.ratings import Ratings
from tests.bench.bandits import mean_curve, play_policy, say, seeds_of, windowed
from tests.bench.common import finish, plot

N, LAST, BATCH = 8_000, 800, 4
POLICY = LinearThompsonConfig(
    models="per_item", noise_sd=0.3, regularisation=0.1, samples=20, explorer=Votes(floor=0.0)
)


def main() -> None:
    """Play, and print one JSON object as the last line."""
    seeds = seeds_of("ratings", __doc__)
    file = Path(os.environ.get("RAYCOMMEND_TEST_DATA", "../shared/data")) / "ml-latest-small" / "ratings.csv"
    shares, last, curves = [], [], []
    for seed in seeds:
        env = Ratings(BATCH, ratings=file)
        played = play_policy(POLICY, env, N, seed)
        shares.append(played.expected.sum() / played.best.sum())
        last.append(played.expected[-LAST:].sum() / played.best[-LAST:].sum())
        curves.append(windowed(played.expected, LAST))
        say(f"seed {seed}: {shares[-1]:.4f} of the oracle's reward, {last[-1]:.4f} at the end")
    ceilings = env.ceilings()
    curve = mean_curve(curves)
    plot("ratings", {"linear Thompson": curve}, "interactions", f"mean reward of the last {LAST}", **ceilings)
    figures = {"share": round(float(np.mean(shares)), 4), "share_last": round(float(np.mean(last)), 4)}
    finish("ratings", figures, {name: round(value, 4) for name, value in ceilings.items()}, len(seeds))


if __name__ == "__main__":
    main()
