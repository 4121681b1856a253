"""Defaults against the best that could have been set: `python -m tests.bench.defaults [--seeds N] [--tables NAME ...]`.

Five tables as bandits, ten rows at a time, `vehicle` five times over and the others once; every policy has a model for
each class and is otherwise as it comes. `over_best_fixed` is the regret of linear Thompson sampling over that of the
best of four fixed noises, `neural_over_linear` that of the neural-linear policy over its linear head's; both are means
over the seeds, of the worst table. `changed` counts decisions that are others where rewards are multiplied by 100 or
raised by 1,000. Peers are the regrets in percent of uniform draws' that the figures are made of.
"""

import argparse

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from rl.policies import LinearThompsonConfig, NeuralLinearConfig, PolicyConfig
from rl.policy.arrays import FloatArray
from rl.simulators.bandits.classification import Classification
from tests.bench.bandits import Played, play_policy, say
from tests.bench.classification import table
from tests.bench.common import finish

ROWS = {"vehicle": 5 * 846, "satimage": 6_435, "penbased": 10_992, "optdigits": 5_620, "letter": 20_000}
BATCH = 10
DEFAULT = LinearThompsonConfig(models="per_item")
FIXED: dict[str, PolicyConfig] = {
    f"noise_{noise}": LinearThompsonConfig(models="per_item", noise_sd=noise) for noise in (0.03, 0.1, 0.3, 1.0)
}
NEURAL = NeuralLinearConfig(head=DEFAULT)


def times_100(rewards: FloatArray) -> FloatArray:
    return 100.0 * rewards


def plus_1000(rewards: FloatArray) -> FloatArray:
    return rewards + 1_000.0


def main() -> None:
    """Play, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.defaults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many; the figures are means over them")
    parser.add_argument("--tables", nargs="+", choices=list(ROWS), default=list(ROWS), help="some of the tables")
    arguments = parser.parse_args()
    threadpool_limits(1)
    torch.set_num_threads(1)
    changed, peers = 0, dict[str, float]()
    for name in arguments.tables:
        runs: dict[str, list[float]] = {}

        def played(kind: str, config: PolicyConfig, seed: int, name: str = name) -> Played:
            run = play_policy(config, Classification(BATCH, table=table(name)), ROWS[name], seed)
            runs.setdefault(kind, []).append(run.regret())  # noqa: B023 - called in this turn only
            say(f"{name} {kind} seed {seed}: regret {run.regret():.2f} % of uniform")
            return run

        for seed in range(arguments.seeds):
            default = played("default", DEFAULT, seed)
            for kind, config in FIXED.items():
                played(kind, config, seed)
            played("neural", NEURAL, seed)
            for other in (times_100, plus_1000):
                env = Classification(BATCH, table=table(name))
                run = play_policy(DEFAULT, env, ROWS[name], seed, other)
                changed += (now := int((run.actions != default.actions).sum()))
                say(f"{name} seed {seed}: {now} decisions are others with rewards {other.__name__}")
        peers |= {f"{name}_{kind}": round(float(np.mean(regrets)), 3) for kind, regrets in runs.items()}
    figures = {
        "over_best_fixed": max(
            peers[f"{name}_default"] / min(peers[f"{name}_{kind}"] for kind in FIXED) for name in arguments.tables
        ),
        "changed": changed,
        "neural_over_linear": max(peers[f"{name}_neural"] / peers[f"{name}_default"] for name in arguments.tables),
    }
    finish("defaults", {name: round(value, 3) for name, value in figures.items()}, peers, arguments.seeds)


if __name__ == "__main__":
    main()
