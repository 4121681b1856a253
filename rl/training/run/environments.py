"""The simulator of an experiment, and what is known of it."""

from typing import Any

import gymnasium as gym

from data.errors import RecommenderError
from data.features.customers import Encoder
from data.reward import RewardSpec
from rl.encoders.base import VisitEncoder
from rl.encoders.catalogue import CatalogueEncoder
from rl.encoders.customers import CustomerEncoder
from rl.encoders.simulated import SimulatedEncoder
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
    """Return what an artefact keeps of what its policy saw: `encoder`, `history` and `reward`.

    The encoder is that of the service where the simulator has one, so that its features can be computed for real
    visits, and one of ids where there are no features.

    Args:
        env: the simulator.
        space: of the observations that the policy learned from; None: the simulator's.
    """
    own: Any = env.single_observation_space
    learned_from = space or own
    history: Any = learned_from.get("history")
    encoder: VisitEncoder = SimulatedEncoder.of(learned_from)
    of_service = getattr(env, "encoder", None)
    if isinstance(of_service, Encoder) and encoder == SimulatedEncoder.of(own):
        encoder = CustomerEncoder.of(of_service)
    elif not encoder.n_features and encoder.n_states == 1:
        encoder = CatalogueEncoder.numbered(len(encoder.items))
    return {
        "encoder": encoder,
        "history": 0 if history is None else history.shape[0],
        "reward": getattr(env, "reward_spec", RewardSpec()),
    }


def ceilings(env: BatchedEnv) -> dict[str, float]:
    """Return what a simulator knows of the best that can be earned in it, by name; empty if it knows nothing."""
    known = getattr(env, "ceilings", None)
    return {name: float(value) for name, value in known().items()} if callable(known) else {}
