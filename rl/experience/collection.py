"""Transitions collected by a policy that acts in a simulator, as columns of a transitions table."""

import numpy as np

from rl.experience.checks import NEXT, Columns
from rl.policy.arrays import BoolArray
from rl.policy.interface import Policy
from rl.policy.queries import Query
from rl.simulators.batched import BatchedEnv, Observation


def collect_transitions(
    policy: Policy, env: BatchedEnv, interactions: int, seed: int, rng: np.random.Generator
) -> Columns:
    """Return transitions of one step as `rl.experience.transitions` describes them, in the order of time, [N, ...].

    Args:
        policy: decides by its own explorer; what is logged is the probability that it drew with.
        env: any simulator, B episodes at once. Next observations are kept where its discount is not 0.
        interactions: how many at least; rounded up to a multiple of B.
        seed: of the simulator.
        rng: of the policy's draws.
    """
    slate = env.single_action_space.shape  # () for one item
    observation, _ = env.reset(seed=seed)
    steps: list[Columns] = []
    for _ in range(-(-interactions // env.num_envs)):
        slates = policy.decide(Query.of(observation), slate[0] if slate else 1, rng)
        after, rewards, terminated, truncated, info = env.step(slates.positions if slate else slates.positions[:, 0])
        step = {**observation, "actions": slates.positions, "propensities": slates.propensities, "rewards": rewards}
        if env.discount:
            step["discounts"] = env.discount * ~terminated
            last = _where(truncated, info["final_obs"], after) if truncated.any() else after
            step |= {NEXT + name: column for name, column in last.items()}
        steps.append({name: _narrow(column) for name, column in step.items()})
        observation = after
    return {name: np.concatenate([step[name] for step in steps]) for name in steps[0]}


def _where(rows: BoolArray, yes: Observation, no: Observation) -> Observation:
    """Choose whole rows of one observation or the other."""
    return {name: np.where(rows.reshape(-1, *[1] * (yes[name].ndim - 1)), yes[name], no[name]) for name in no}


def _narrow(column: np.ndarray) -> np.ndarray:
    return column.astype(np.float32) if column.dtype == np.float64 else column
