"""How good the transformer-DQN gets in the shop: `python -m tests.bench.shop [--seeds N] [--only FIGURE]`.

Three trainings for each seed, each by its experiment file: 200,000 environment steps, 14,000, and 200,000 where the
history does not tell what came of what was shown. Returns are those of the greedy policy of the averaged network over
20,000 episodes that no training has seen; in the third over 200,000, since the figure to reach is .018 below the
ceiling there and the mean of 20,000 is known to .04 only. The curves are of 2,000 others; `seconds_to_11_8` is how long
it trained until one of them reached 11.8, evaluations not counted.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from time import perf_counter

import numpy as np
import torch
from threadpoolctl import threadpool_limits

import rl
from rl.algorithms.dqn.algorithm import DQN
from rl.config import parse_config
from rl.evaluation.returns import play
from rl.simulators.registry import make
from rl.training.kinds.dqn import DQNExperiment
from rl.training.run.session import ray_session
from tests.bench.common import finish, plot, say

FIGURES = {"return_200k": "shop", "return_14k": "shop_14k", "shown_200k": "shop_shown"}
CEILINGS = {"greedy_on_the_exact_belief": 12.197, "best_if_only_shown": 4.868, "random": 3.219}
EPISODES = {"shop": 20_000, "shop_14k": 20_000, "shop_shown": 200_000}
SHORT, ROWS = 2_000, 1_000
SEED = 1_000_003  # of the episodes that policies are judged on, with the training's seed added
POINTS, GOOD = 25, 11.8


@dataclass(frozen=True)
class Trained:
    """What came of one training."""

    steps: list[int]
    returns: list[float]
    final: float
    standard_error: float
    seconds_to_good: float


def main() -> None:
    """Train, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.shop", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=FIGURES, action="append", help="leave the other figures out")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    peers: dict[str, float] = {}
    curves: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    torch.set_num_threads(1)
    with threadpool_limits(1), ray_session(1):
        for figure in options.only or FIGURES:
            runs = [train(FIGURES[figure], seed) for seed in range(options.seeds)]
            figures[figure] = round(mean(run.final for run in runs), 4)
            peers |= {f"{figure}_seed_{seed}": round(run.final, 4) for seed, run in enumerate(runs)}
            peers[f"{figure}_standard_error"] = round(max(run.standard_error for run in runs), 4)
            curves[FIGURES[figure]] = runs[0].steps, [float(r) for r in np.mean([run.returns for run in runs], axis=0)]
            if figure == "return_200k":
                figures["seconds_to_11_8"] = round(mean(run.seconds_to_good for run in runs), 1)
    plot("shop", curves, "environment steps", "return of a greedy episode", **CEILINGS)
    finish("shop", figures, peers, options.seeds)


def train(name: str, seed: int) -> Trained:
    """Train by an experiment file with a seed of its own."""
    file = Path(rl.__file__).parent / "experiments" / f"{name}.toml"
    experiment = parse_config(DQNExperiment, [str(file), "--seed", str(seed)])
    algorithm: DQN = experiment.algorithm().build_algo()
    environment = experiment.environment
    steps, returns, seconds, good = [0], [evaluate(algorithm, environment.name, SHORT, seed)[0]], 0.0, float("inf")
    while algorithm.env_steps < experiment.env_steps:
        start = perf_counter()
        algorithm.train()
        seconds += perf_counter() - start
        if algorithm.env_steps >= experiment.env_steps * len(steps) / POINTS:
            steps.append(algorithm.env_steps)
            returns.append(evaluate(algorithm, environment.name, SHORT, seed)[0])
            good = min(good, seconds) if returns[-1] >= GOOD else good
    final, error = evaluate(algorithm, environment.name, EPISODES[name], seed)
    algorithm.stop()
    say(f"{name}, seed {seed}: {final:.3f} +- {error:.3f} after {steps[-1]:,} steps in {seconds:.0f} s of training")
    return Trained(steps, returns, final, error, good)


def evaluate(algorithm: DQN, name: str, episodes: int, seed: int) -> tuple[float, float]:
    """Return the mean return of the greedy policy of the averaged network, and its standard error."""
    policy = algorithm.learner_group._learner.q_module.averaged_policy()
    returns = play(policy, make(name, ROWS), episodes, SEED + seed, np.random.default_rng(SEED + seed))
    return returns.mean, returns.standard_error


if __name__ == "__main__":
    main()
