"""Mushrooms and shuttle, each row once, beside Vowpal Wabbit's SquareCB: `python -m tests.bench.classification`.

Regret in percent of uniform draws'. Both answer the same rows in the same order; VW learns from every row before the
next; ours learns from every mushroom, and from the shuttle's rows ten at a time. `mushroom_50k` goes on to 50,000
mushrooms, the file again and again, which is how long the published tables are played.
"""

import os
from pathlib import Path

import numpy as np

from rl.exploration import EpsilonGreedy, Votes
from rl.policies import LinearThompsonConfig, LinUCBConfig, PolicyConfig
from rl.policies.basis import RandomFourier
from rl.policies.gaussian import Relevance
from rl.policy import FloatArray
from rl.simulators.classification import Classification
from tests.bench.bandits import mean_curve, play_policy, say, seeds_of
from tests.bench.common import finish, plot
from tests.bench.vw import numbers, play_vw

MUSHROOM: PolicyConfig = LinUCBConfig(
    models="per_item",
    regularisation=4.0,
    alpha=16.0,
    relevance=Relevance(noise_sd=10.0, shape=0.1),
    explorer=EpsilonGreedy(epsilon=0.0),
)
SHUTTLE: PolicyConfig = LinearThompsonConfig(
    models="per_item",
    basis=RandomFourier(n=128, length_scale=3.0, squash=3.0),
    regularisation=0.1,
    noise_sd=0.05,
    samples=20,
    explorer=Votes(floor=0.0),
)
VW = "-q sa --cubic ssa"  # the row's features with the class, alone and in pairs
VW_MUSHROOM, VW_SHUTTLE = f"{VW} --gamma_scale 10 -l 0.5", f"{VW} --gamma_scale 1000 -l 2"
MUSHROOM_ROWS, SHUTTLE_ROWS, LONG = 8_124, 43_500, 50_000


def mushrooms(rows: int = 1) -> Classification:
    """Return the mushrooms, so many at a time."""
    return Classification(rows, table=table("mushroom"), rewards="mushroom")


def shuttle(rows: int) -> Classification:
    """Return the shuttle's rows, so many at a time."""
    return Classification(rows, table=table("shuttle_trn"))


def table(name: str) -> Path:
    return Path(os.environ.get("RAYCOMMEND_TEST_DATA", "../shared/data")) / "classification" / f"{name}.parquet"


def main() -> None:
    """Play, and print one JSON object as the last line."""
    seeds = seeds_of("classification", __doc__)
    curves: dict[str, list[FloatArray]] = {}

    def ran(name: str, seed: int, curve: FloatArray) -> None:
        curves.setdefault(name, []).append(curve)
        say(f"{name} seed {seed}: regret {curve[-1]:.3f} % of uniform")

    for seed in seeds:
        ran("mushroom", seed, play_policy(MUSHROOM, mushrooms(), MUSHROOM_ROWS, seed).curve())
        ran("mushroom_50k", seed, play_policy(MUSHROOM, mushrooms(), LONG, seed).curve())
        played = play_vw(VW_MUSHROOM, mushrooms(), MUSHROOM_ROWS, seed, numbers)
        ran("vw_mushroom", seed, played.curve())
        ran("shuttle", seed, play_policy(SHUTTLE, shuttle(10), SHUTTLE_ROWS, seed).curve())
        ran("vw_shuttle", seed, play_vw(VW_SHUTTLE, shuttle(1), SHUTTLE_ROWS, seed, numbers).curve())
    means = {name: round(float(np.mean([run[-1] for run in runs])), 3) for name, runs in curves.items()}
    drawn = {name: mean_curve(runs) for name, runs in curves.items()}
    plot("classification", drawn, "rows", "cumulative regret, % of uniform's at the end")
    finish("classification", means, {}, len(seeds))


if __name__ == "__main__":
    main()
