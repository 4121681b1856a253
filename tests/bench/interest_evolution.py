"""Interest evolution: return of learned slates: `python -m tests.bench.interest_evolution [--seeds N] [--steps N]`.

One process. What is trained is in `rl/experiments/interest_evolution.toml`.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

import rl
from rl.algorithms.slate_q.algorithm import SlateQ
from rl.config import parse_config
from rl.evaluation.returns import play
from rl.policies.baselines import Random
from rl.policy.interface import Policy
from rl.simulators.interest_evolution import InterestEvolution
from rl.training.kinds.slate_q import SlateQExperiment
from rl.training.run.session import ray_session
from tests.bench.common import finish, plot, say

POINTS = 12
EPISODES, OF_POINT = 3_000, 300  # episodes played at the end, and for each point of the curve


def main() -> None:
    """Train and play, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many; they begin with 0")
    parser.add_argument("--steps", type=int, help="environment steps of each (default: the experiment's)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs, randoms = [], []
    with threadpool_limits(1), ray_session(1):
        for seed in range(options.seeds):
            runs.append(learn(experiment(seed, options.steps)))
            randoms.append(earned(Random(), EPISODES, seed))
            say(f"seed {seed}: {runs[-1][1][-1]:.2f}, random {randoms[-1]:.2f}")
    curves, known = {f"seed {seed}": run for seed, run in enumerate(runs)}, InterestEvolution().ceilings()
    plot("interest_evolution", curves, "environment steps", "minutes watched in an episode", **known)
    figures = {
        "return_300k": round(float(np.mean([returns[-1] for _, returns in runs])), 2),
        "random": round(float(np.mean(randoms)), 2),
    }
    finish("interest_evolution", figures, {}, options.seeds)


def experiment(seed: int, steps: int | None) -> SlateQExperiment:
    """Return what the experiment file describes, with a seed, and maybe a length, of its own."""
    file = Path(rl.__file__).parent / "experiments" / "interest_evolution.toml"
    length = [] if steps is None else ["--env_steps", str(steps)]
    return parse_config(SlateQExperiment, [str(file), "--seed", str(seed), *length])


def learn(experiment: SlateQExperiment) -> tuple[list[float], list[float]]:
    """Train once; returns environment steps and the averaged greedy policy's mean returns then."""
    seed, steps = experiment.seed, experiment.env_steps
    algorithm: SlateQ = experiment.algorithm().build_algo()
    module = algorithm.learner_group._learner.q_module
    at, returns = [0.0], [earned(module.averaged_policy(), OF_POINT, seed)]
    while algorithm.env_steps < steps:
        algorithm.train()
        if algorithm.env_steps >= steps:
            break
        if algorithm.env_steps >= at[-1] + steps / POINTS:
            at.append(float(algorithm.env_steps))
            returns.append(earned(module.averaged_policy(), OF_POINT, seed))
            say(f"seed {seed}: {returns[-1]:.1f} after {algorithm.env_steps} steps")
    at.append(float(algorithm.env_steps))
    returns.append(earned(module.averaged_policy(), EPISODES, seed))
    algorithm.stop()
    return at, returns


def earned(policy: Policy, episodes: int, seed: int) -> float:
    """Return the mean return of a policy that has not seen these users before."""
    return play(policy, InterestEvolution(300), episodes, 10_000 + seed, np.random.default_rng([seed, 2])).mean


if __name__ == "__main__":
    main()
