"""Interest evolution: return of learned slates: `python -m tests.bench.interest_evolution [--seeds N] [--steps N]`.

One process, 64 users at a time. What a click does to the time that is left shows nowhere until the time is used up:
neither the quality nor the budget is observed. So targets are n-step returns about as long as an episode; a value that
is bootstrapped from the next observation cannot know what there is to learn.
"""

import argparse
import logging

import numpy as np
import ray
import torch

from rl.algorithms.slate_q import SlateQConfig
from rl.policies.baselines import Random
from rl.policy import Policy
from rl.returns import play
from rl.simulators.interest_evolution import InterestEvolution
from tests.bench.common import finish, plot, say

ENVS, ROUNDS, POINTS = 64, 50, 12
EPISODES, OF_POINT = 3_000, 300  # episodes played at the end, and for each point of the curve


def main() -> None:
    """Train and play, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many; they begin with 0")
    parser.add_argument("--steps", type=int, default=300_000, help="environment steps of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ray.init("local", num_cpus=1, include_dashboard=False, logging_level=logging.ERROR)
    runs, randoms = [], []
    for seed in range(options.seeds):
        runs.append(learn(seed, options.steps))
        randoms.append(earned(Random(), EPISODES, seed))
        say(f"seed {seed}: {runs[-1][1][-1]:.2f}, random {randoms[-1]:.2f}")
    curves = {f"seed {seed}": run for seed, run in enumerate(runs)}
    known = {
        "random": 160.6,
        "by_interest": 168.0,
        "by_interest_and_quality": 248.2,
        "by_quality": 264.3,
        "priced": 280.2,
    }
    plot("interest_evolution", curves, "environment steps", "minutes watched in an episode", **known)
    figures = {
        "return_300k": round(float(np.mean([returns[-1] for _, returns in runs])), 2),
        "random": round(float(np.mean(randoms)), 2),
    }
    finish("interest_evolution", figures, {}, options.seeds)


def learn(seed: int, steps: int) -> tuple[list[float], list[float]]:
    """Train with one seed; returns environment steps and the averaged greedy policy's mean returns then."""
    algorithm = config(seed, steps).build_algo()
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


def config(seed: int, steps: int) -> SlateQConfig:
    """Return what is trained: a small network, since there is no history."""
    made: SlateQConfig = SlateQConfig().environment("raycommend/InterestEvolution-v0", disable_env_checking=True)
    made.env_runners(num_envs_per_env_runner=ENVS).debugging(seed=seed, log_level="ERROR")
    made.training(
        network={"width": 32, "heads": 1, "layers": 0, "value_scale": 30.0, "added_scale": 4.0},
        gamma=1.0,
        n_step=160,  # steps: about as long as a good policy's episode
        loss="mse",  # returns are skewed, and their mean is what is wanted
        choice_weight=4.0,
        lr=1e-3,
        weight_decay=0.3,
        tau=0.001,
        train_batch_size_per_learner=256,
        env_steps_per_update=64,  # few updates, since long returns of some thousand users are soon known by heart
        replay_capacity=300_000,
        horizon=steps,
        epsilon_final=0.3,  # in every slot; with .1 slates and states go together, and returns fall again
        epsilon_share=0.3,
        lr_final_share=0.02,
        lr_decay_share=0.6,
        learning_starts=2_000,
        rounds_per_iteration=ROUNDS,
    )
    return made


def earned(policy: Policy, episodes: int, seed: int) -> float:
    """Return the mean return of a policy that has not seen these users before."""
    return play(policy, InterestEvolution(300), episodes, 10_000 + seed, np.random.default_rng([seed, 2])).mean


if __name__ == "__main__":
    main()
