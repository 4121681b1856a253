"""What a configuration asks of runners: in which environments they play, and how they evaluate."""

from dataclasses import dataclass
from typing import Any

from ray.rllib.env.env_context import EnvContext
from ray.tune.registry import ENV_CREATOR, _global_registry

from rl.simulators.batched import BatchedEnv
from rl.simulators.lookup import Maker, batch, display_name
from rl.simulators.registry import SIMULATORS, maker


@dataclass(frozen=True)
class Played:
    """How much an evaluation has played: what RLlib counts of it; the returns are among the runner's metrics."""

    steps: int

    def env_steps(self) -> int:
        """Steps of single environments."""
        return self.steps

    def agent_steps(self) -> int:
        """The same: there is one agent."""
        return self.steps


def environment_maker(env: Any) -> Maker:
    """Return what makes the environments that a configuration names: as in `rl.simulators.registry`, or by Ray Tune's.

    Raises:
        ValueError: none is named, or there is none of that name.
    """
    if env is None:
        raise ValueError('no environment: name one by .environment("raycommend/Shop-v0"), "module:Class" or its class')
    registry: Any = _global_registry  # which has no types
    if isinstance(env, str) and env not in SIMULATORS and registry.contains(ENV_CREATOR, env):
        creator = registry.get(ENV_CREATOR, env)
        return lambda **options: creator(EnvContext(options, worker_index=0))
    return maker(env)


def make_one(config: Any) -> BatchedEnv:
    """Make a batch of one of the environment that a configuration, an `AlgorithmConfig`, names."""
    return batch(environment_maker(config.env), 1, dict(config.env_config), display_name(config.env))


def validate_sampling(config: Any) -> None:
    """Check what a configuration, an `AlgorithmConfig`, asks of runners.

    Raises:
        ValueError: no environment that there is, or an evaluation that would take a training's own steps.
    """
    environment_maker(config.env)
    if not config.in_evaluation and not config.evaluation_interval and config.evaluation_duration_unit == "timesteps":
        raise ValueError(
            "evaluation_duration_unit 'timesteps' needs runners of its own, which evaluation_interval makes: without "
            "them the training's episodes would be played; set evaluation_interval, or count in 'episodes'"
        )
