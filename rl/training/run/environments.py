"""The simulator of an experiment, and what is known of it."""

from typing import Any

import gymnasium as gym

from data.errors import RecommenderError
from data.features.customers import Encoder
from data.schema import RewardSpec
from rl.artefacts.artefact import Sizes
from rl.encoders.base import CustomerEncoder
from rl.simulators.batched import BatchedEnv
from rl.simulators.registry import make
from rl.training.run.errors import TrainingError
from rl.training.run.experiment import Environment


def environment(wanted: Environment, num_envs: int) -> BatchedEnv:
    """Make the simulator of an experiment.

    Raises:
        TrainingError: there is none of that name, or it does not take these options.
    """
    try:
        return make(wanted.name, num_envs, **wanted.options)
    except (RecommenderError, ValueError, TypeError, OSError) as error:
        raise TrainingError(f"environment: {error}") from error


def describe_observations(env: BatchedEnv, space: gym.spaces.Dict | None = None) -> dict[str, Any]:
    """Return what an artefact keeps of what its policy saw: `sizes`, `history`, `reward` and `encoder`.

    Args:
        env: the simulator.
        space: of the observations that the policy learned from; None: the simulator's.
    """
    own: Any = env.single_observation_space
    learned_from = space or own
    history: Any = learned_from.get("history")
    sizes = Sizes.of(learned_from)
    encoder = getattr(env, "encoder", None)  # that of the service: its features can be computed for real visits
    return {
        "sizes": sizes,
        "history": 0 if history is None else history.shape[0],
        "reward": getattr(env, "reward_spec", RewardSpec()),
        "encoder": CustomerEncoder.of(encoder) if isinstance(encoder, Encoder) and sizes == Sizes.of(own) else None,
    }


def ceilings(env: BatchedEnv) -> dict[str, float]:
    """Return what a simulator knows of the best that can be earned in it, by name; empty if it knows nothing."""
    known = getattr(env, "ceilings", None)
    return {name: float(value) for name, value in known().items()} if callable(known) else {}
