"""The Q network as an RLModule, with its averaged copy and the exploration that runners act by."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor

from rl.algorithms.batch import PROPENSITIES
from rl.policies.transformer.config import QNetworkConfig
from rl.policies.transformer.network import QNetwork
from rl.policies.transformer.packing import share
from rl.policies.transformer.policy import Forward, TransformerPolicy
from rl.policy.explorers import EpsilonGreedy
from rl.policy.interface import Policy
from rl.policy.queries import Query

EPSILON = "epsilon"


class QModule(TorchRLModule, TargetNetworkAPI, InferenceOnlyAPI):
    """Q values for the observations of `rl.simulators`: dictionaries with the names of `rl.policy.queries.Query`.

    `model_config` has the fields of `QNetworkConfig`, the seed of the initial weights as `seed`, and as
    `compile_network` whether the network is compiled, anew for every shape of batch.
    """

    _compiled: Forward | None = None
    """Called in place of the network; it is given the network, so that a copy of this module goes on by its own."""

    def setup(self) -> None:
        """Build the network for the observation space."""
        options = dict(self.model_config)
        if options.pop("compile_network", False):
            self._compiled = torch.compile(QNetwork.forward, dynamic=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.pop("seed", 0))
            self.net = QNetwork(QNetworkConfig(**options), *sizes(self.observation_space))
        self.register_buffer(EPSILON, torch.ones(()))  # a buffer, so that it reaches the runners with the weights

    def make_target_networks(self) -> None:
        """Copy the network; the copy follows it as an average over updates."""
        self._target = QNetwork(self.net.config, self.net.n_items, self.net.n_features)
        self._target.load_state_dict(self.net.state_dict())
        self._target.requires_grad_(False).eval()

    def get_target_network_pairs(self) -> list[tuple[QNetwork, QNetwork]]:
        """Return the network with its averaged copy."""
        return [(self.net, self._target)]

    def get_non_inference_attributes(self) -> list[str]:
        """Name what runners do not need."""
        return ["_target"]

    def acting_policy(self) -> Policy:
        """Return the network's epsilon-greedy policy, until an update changes it; see `Acting`."""
        self.net.eval()
        explorer = EpsilonGreedy(epsilon=float(self.epsilon))
        return TransformerPolicy(self.net, explorer, frozen=True, compiled=self._compiled)

    def averaged_policy(self) -> TransformerPolicy:
        """Return the greedy policy of the averaged copy: what is evaluated and exported."""
        return TransformerPolicy(self._target, EpsilonGreedy(epsilon=0.0))

    def q_values(self, network: QNetwork, observation: Mapping[str, Tensor]) -> Tensor:
        """Return Q values [B, A] of batched observations as tensors; histories share rows where that saves work."""
        items, mask, history, features = inputs(observation)
        forward = self._compiled or QNetwork.__call__
        if (shared := share(history)) is None:
            return forward(network, items, mask, history, features)
        items, mask, features = (tensor.index_select(0, shared.order) for tensor in (items, mask, features))
        q = forward(network, items, mask, shared.history, features, owner=shared.owner)
        return q.index_select(0, shared.back)

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the averaged network's Q values."""
        return {"qf_preds": self.q_values(self._target, batch[Columns.OBS])}

    def _forward_inference(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Return the best position of each row; RLlib's own runners call this."""
        observation = batch[Columns.OBS]
        q = self.q_values(self.net, observation).masked_fill(~observation["mask"].bool(), -torch.inf)
        return {Columns.ACTIONS: q.argmax(1)}

    def _forward_exploration(self, batch: dict[str, Any], t: int = 0, **_: Any) -> dict[str, Any]:
        """Return positions drawn by the acting policy, with the logarithm of their probability."""
        observation = {name: array.numpy() for name, array in batch[Columns.OBS].items()}
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        slates = self.acting_policy().decide(Query.of(observation), 1, rng)
        return {
            Columns.ACTIONS: torch.from_numpy(slates.positions[:, 0]),
            Columns.ACTION_LOGP: torch.from_numpy(np.log(slates.propensities[:, 0])),
            PROPENSITIES: torch.from_numpy(slates.propensities),
        }

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Return nothing: the loss itself passes a batch of columns through the networks."""
        return {}


def sizes(space: gym.spaces.Dict) -> tuple[int, int]:
    """Return the number of items and of features that observations of a space have."""
    items, features = space["items"], space.spaces.get("features")
    return int(items.high.max()), features.shape[-1] if features else 0  # type: ignore[attr-defined, index]


def inputs(observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the arguments of `QNetwork.forward`; what an observation lacks is empty."""
    items = observation["items"]
    history, features = observation.get("history"), observation.get("features")
    if history is None:
        history = items.new_zeros((len(items), 1, 3))
    if features is None:
        features = torch.zeros(len(items), 1, 0, device=items.device)
    return items, observation["mask"], history, features.float()
