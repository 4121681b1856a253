"""The coffee machine, beside Vowpal Wabbit's SquareCB: `python -m tests.bench.coffee [--seeds N]`.

Both answer 10,000 requests one by one in the same contexts and learn from each before the next. Ours is LinUCB with a
model for each coffee, its bound just too narrow to give up a coffee that was right. VW has the interactions of user,
weather, time and coffee and the best exploration and learning rate found, which is better than what is published.
"""

import numpy as np

from rl.policies import LinUCBConfig
from rl.policy.arrays import FloatArray
from rl.policy.explorers import EpsilonGreedy
from rl.policy.queries import Query
from rl.simulators.bandits.coffee import (
    TIMES,
    USERS,
    WEATHERS,
    Coffee,
)
from tests.bench.bandits import mean_curve, play_policy, say, seeds_of, windowed
from tests.bench.common import finish, plot
from tests.bench.vw import play_vw

N, LAST = 10_000, 1_000
POLICY = LinUCBConfig(models="per_item", regularisation=0.001, alpha=0.012, explorer=EpsilonGreedy(epsilon=0.0))
VW = "--interactions uwta --ignore_linear u --ignore_linear w --ignore_linear t --ignore_linear a --noconstant"
VW_ARGUMENTS = f"{VW} --gamma_scale 1000 -l 2"


def main() -> None:
    """Play, and print one JSON object as the last line."""
    seeds = seeds_of("coffee", __doc__)
    ours: list[FloatArray] = []
    theirs: list[FloatArray] = []
    for seed in seeds:
        ours.append(play_policy(POLICY, Coffee(1), N, seed).expected)
        theirs.append(play_vw(VW_ARGUMENTS, Coffee(1), N, seed, properties, most=1.0).expected)
        say(f"seed {seed}: mean {ours[-1].mean():.4f}, VW {theirs[-1].mean():.4f}")
    figures = {
        "mean": round(float(np.mean(ours)), 4),
        "last_1k": round(float(np.mean([run[-LAST:] for run in ours])), 4),
        "vw_mean": round(float(np.mean(theirs)), 4),
    }
    curves = {
        label: mean_curve([windowed(run, 200) for run in runs]) for label, runs in (("LinUCB", ours), ("VW", theirs))
    }
    plot("coffee", curves, "requests", "mean reward of the last 200", **Coffee(1).ceilings())
    finish("coffee", figures, {}, len(seeds))


def properties(query: Query) -> str:
    """Return user, weather and time as VW's namespaces u, w and t."""
    user, weather, time = np.unravel_index(int(query.state[0]), (USERS, WEATHERS, TIMES))
    return f"|u {user} |w {weather} |t {time}"


if __name__ == "__main__":
    main()
