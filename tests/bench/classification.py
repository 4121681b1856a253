"""Mushrooms and shuttle, each row once, beside Vowpal Wabbit's SquareCB: `python -m tests.bench.classification`.

Regret in percent of uniform draws'. Both answer the same rows in the same order; VW learns from every row before the
next; ours learns from every mushroom, and from the shuttle's rows ten at a time. `mushroom_50k` goes on to 50,000
mushrooms, the file again and again, which is how long the published tables are played. The peer
`mushroom_told_the_kinds` is what one pass costs who knows beforehand which mushrooms are alike.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rl.policies import LinearThompsonConfig, LinUCBConfig, PolicyConfig
from rl.policies.linear.basis import RandomFourier
from rl.policies.linear.config import Relevance
from rl.policy.arrays import FloatArray
from rl.policy.explorers import EpsilonGreedy, Votes
from rl.simulators.bandits.classification import (
    EDIBLE,
    P_POISONED,
    POISONED,
    Classification,
)
from tests.bench.bandits import mean_curve, play_policy, say, seeds_of
from tests.bench.common import finish, plot
from tests.bench.vw import numbers, play_vw

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
POISONOUS_KINDS = (
    *(f"odor == '{odour}'" for odour in "cfmpsy"),  # creosote, foul, musty, pungent, spicy, fishy
    "`spore-print-color` == 'r'",
    "odor == 'n' and `stalk-surface-below-ring` == 'y' and `stalk-color-above-ring` != 'n'",
    "habitat == 'l' and `cap-color` == 'w'",
)
"""All that are poisonous, each kind without those of the kinds before it. Source: the logical rules in the data set's
documentation (agaricus-lepiota.names, UCI), after Duch et al. (1996)."""
MUSHROOM_ROWS, SHUTTLE_ROWS, LONG = 8_124, 43_500, 50_000
LOST = -(P_POISONED * POISONED + (1 - P_POISONED) * EDIBLE)  # by eating a poisonous mushroom


def mushrooms(rows: int = 1) -> Classification:
    """Return the mushrooms, so many at a time."""
    return Classification(rows, table=table("mushroom"), rewards="mushroom")


def taster(columns: Sequence[int]) -> PolicyConfig:
    """Return the policy that meets the mushrooms, given which column of the table each feature is of."""
    return LinUCBConfig(
        models="per_item",
        regularisation=4.0,
        alpha=16.0,
        relevance=Relevance(noise_sd=10.0, shape=1.0, groups=tuple(columns)),
        explorer=EpsilonGreedy(epsilon=0.0),
    )


def shuttle(rows: int) -> Classification:
    """Return the shuttle's rows, so many at a time."""
    return Classification(rows, table=table("shuttle_trn"))


def table(name: str) -> Path:
    return Path(os.environ.get("RAYCOMMEND_TEST_DATA", "../shared/data")) / "classification" / f"{name}.parquet"


def told_the_kinds() -> float:
    """Return the expected regret of one pass for who knows which mushrooms are alike, but not which are poisonous.

    A poisonous kind is given away by its first -35, which every meal of it, at 15 lost, brings with probability
    P_POISONED. Until then it is eaten, as an edible kind would be: of n mushrooms (1 - (1 - P)^n) / P.
    """
    left = pd.read_parquet(table("mushroom"))
    poisonous = int((left["class"] == "p").sum())
    uniform = (0.5 * EDIBLE) * (len(left) - poisonous) + (0.5 * LOST) * poisonous
    regret = 0.0
    for kind in POISONOUS_KINDS:
        alike = left.query(kind)
        assert (alike["class"] == "p").all(), f"not all of {kind} are poisonous"
        regret += LOST * (1 - (1 - P_POISONED) ** len(alike)) / P_POISONED
        left = left.drop(alike.index)
    assert not (left["class"] == "p").any(), "a poisonous mushroom is of no kind"
    return 100 * regret / uniform


def main() -> None:
    """Play, and print one JSON object as the last line."""
    seeds = seeds_of("classification", __doc__)
    curves: dict[str, list[FloatArray]] = {}

    def ran(name: str, seed: int, curve: FloatArray) -> None:
        curves.setdefault(name, []).append(curve)
        say(f"{name} seed {seed}: regret {curve[-1]:.3f} % of uniform")

    for seed in seeds:
        once = mushrooms()
        policy = taster(once.columns.tolist())
        ran("mushroom", seed, play_policy(policy, once, MUSHROOM_ROWS, seed).curve())
        ran("mushroom_50k", seed, play_policy(policy, mushrooms(), LONG, seed).curve())
        played = play_vw(VW_MUSHROOM, mushrooms(), MUSHROOM_ROWS, seed, numbers)
        ran("vw_mushroom", seed, played.curve())
        ran("shuttle", seed, play_policy(SHUTTLE, shuttle(10), SHUTTLE_ROWS, seed).curve())
        ran("vw_shuttle", seed, play_vw(VW_SHUTTLE, shuttle(1), SHUTTLE_ROWS, seed, numbers).curve())
    means = {name: round(float(np.mean([run[-1] for run in runs])), 3) for name, runs in curves.items()}
    drawn = {name: mean_curve(runs) for name, runs in curves.items()}
    plot("classification", drawn, "rows", "cumulative regret, % of uniform's at the end")
    finish("classification", means, {"mushroom_told_the_kinds": round(told_the_kinds(), 3)}, len(seeds))


if __name__ == "__main__":
    main()
