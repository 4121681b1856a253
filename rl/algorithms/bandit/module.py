"""A policy as an RLlib module: its arrays are the module's buffers."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from rl.algorithms.batch import PROPENSITIES
from rl.policies import (
    LinearThompsonConfig,
    LinUCBConfig,
    NeuralLinearConfig,
    PolicyConfig,
    RidgeConfig,
    build,
)
from rl.policy.interface import Policy
from rl.policy.queries import Impressions, Query

POLICY = "policy"
"""Key of the policy's configuration in the module's model_config."""

Batch = Mapping[str, Any]


class BanditModule(TorchRLModule):
    """Holds a policy. The buffers, float64, mirror the policy's arrays, so weights and checkpoints carry them exactly.

    The observation space has the fields of `rl.policy.queries.Query` as simulators give them (see
    `rl.simulators.batched`).
    """

    def setup(self) -> None:
        """Build the policy that `model_config` describes for the module's spaces."""
        self._policy = build_policy(self.model_config[POLICY], self.observation_space)
        self.learned = nn.Module()
        self._mirror()
        self.register_load_state_dict_post_hook(BanditModule._take_buffers)
        # RLlib seeds torch with the configuration's seed and the worker's number before it builds a module.
        self._rng = np.random.default_rng(int(torch.randint(2**62, (1,)).item()))

    def acting_policy(self) -> Policy:
        """See `rl.algorithms.bypass.rollout.Acting`."""
        return self._policy

    def learn(self, observations: Impressions) -> None:
        """Let the policy learn."""
        self._policy.update(observations)
        self._mirror()

    def _mirror(self) -> None:
        for name, array in self._policy.state_dict().items():
            # a new tensor: whoever was given the old one, a checkpoint say, keeps what it was given
            self.learned.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)))

    def _take_buffers(self, incompatible: Any) -> None:
        """Take the buffers over into the policy after torch has loaded them."""
        self._policy.load_state_dict(
            {name: array.detach().cpu().numpy() for name, array in self.learned.named_buffers()}
        )

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, NDArray[np.float64]]:
        """Return the buffers as they are: RLlib's own way, here and in `set_state`, would round them to float32."""
        return {name: buffer.detach().cpu().numpy() for name, buffer in self.state_dict().items()}

    def set_state(self, state: Mapping[str, NDArray[np.float64] | Tensor]) -> None:
        """Load what `get_state` returned."""
        self.load_state_dict({name: torch.as_tensor(array) for name, array in state.items()})

    def _forward_inference(self, batch: Batch, **kwargs: Any) -> dict[str, Tensor]:
        """Return the actions of the highest expected reward."""
        query = Query.of(_numpy(batch[Columns.OBS]))
        expected = np.where(query.mask, self._policy.expected(query), -np.inf)
        best = np.argsort(-expected, axis=1, kind="stable")[:, : self._slots()]
        return {Columns.ACTIONS: self._as_actions(best)}

    def _forward_exploration(self, batch: Batch, **kwargs: Any) -> dict[str, Tensor]:
        """Return actions that the policy drew, with the logarithms of their propensities."""
        slates = self._policy.decide(Query.of(_numpy(batch[Columns.OBS])), self._slots(), self._rng)
        logp = torch.from_numpy(np.log(slates.propensities).sum(axis=1))
        return {
            Columns.ACTIONS: self._as_actions(slates.positions),
            Columns.ACTION_LOGP: logp,
            PROPENSITIES: torch.from_numpy(slates.propensities),
        }

    def _forward_train(self, batch: Batch, **kwargs: Any) -> dict[str, Tensor]:
        raise NotImplementedError("a bandit has no loss: its learner adds observations, see BanditLearner")

    def _slots(self) -> int:
        """Return K; actions are slates [K], or a single position."""
        return int(self.action_space.shape[0]) if self.action_space.shape else 1

    def _as_actions(self, positions: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(positions if self.action_space.shape else positions[:, 0])


def build_policy(config: Any, space: gym.Space[Any]) -> Policy:
    """Build an untrained policy for observations of a simulator's space.

    The number of items is the highest number that the space allows; nothing is known of their popularity.

    Raises:
        ValueError: a linear policy would learn from features that there are not.
    """
    assert isinstance(space, gym.spaces.Dict), f"a bandit needs the fields of a query as observation, got {space}"
    features, state, items = space.get("features"), space.get("state"), space["items"]
    assert isinstance(items, gym.spaces.Box), f"items must be a Box of numbers from 1, got {items}"
    policy: PolicyConfig = TypeAdapter[PolicyConfig](PolicyConfig).validate_python(config)
    n_features = features.shape[-1] if isinstance(features, gym.spaces.Box) else 0
    if not n_features and isinstance(policy, LinearThompsonConfig | LinUCBConfig | RidgeConfig | NeuralLinearConfig):
        raise ValueError(
            f"policy {policy.kind} learns from features, and the environment shows none: let its observations have "
            "features [1, F], a constant 1 if there is nothing to tell"
        )
    return build(
        policy,
        n_features=n_features,
        n_states=int(state.n) if isinstance(state, gym.spaces.Discrete) else 1,
        popularity=np.zeros(int(items.high.max()) + 1),
    )


def _numpy(observation: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: array.detach().cpu().numpy() for name, array in observation.items()}
