"""The slate network as an RLModule."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rl.algorithms.batch import PROPENSITIES
from rl.algorithms.dqn.module import (
    EPSILON,
    QModule,
    inputs,
    sizes,
)
from rl.policies.slates.choice import best_slates
from rl.policies.slates.config import SlateNetworkConfig
from rl.policies.slates.network import Judged, SlateNetwork
from rl.policies.slates.policy import SlatePolicy
from rl.policy.explorers import EpsilonGreedy
from rl.policy.queries import Query


class SlateQModule(QModule):
    """Values and choice logits for the observations of `rl.simulators` whose actions are slates.

    `model_config` has the fields of `SlateNetworkConfig`, and the seed of the initial weights as `seed`.
    """

    net: SlateNetwork
    _target: SlateNetwork

    def setup(self) -> None:
        """Build the network for the observation space, for slates as long as the action space's."""
        options = dict(self.model_config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.pop("seed", 0))
            self.net = SlateNetwork(SlateNetworkConfig(**options), *sizes(self.observation_space))
        self.k = int(self.action_space.shape[0])
        self.register_buffer(EPSILON, torch.ones(()))  # as in QModule

    def make_target_networks(self) -> None:
        """Copy the network; the copy follows it as an average over updates."""
        self._target = deepcopy(self.net)
        self._target.requires_grad_(False).eval()

    def acting_policy(self) -> SlatePolicy:
        """Return the network's policy, epsilon-greedy in every slot; see `rl.algorithms.bypass.rollout.Acting`."""
        self.net.eval()
        return SlatePolicy(self.net, EpsilonGreedy(epsilon=float(self.epsilon)), self.k)

    def averaged_policy(self) -> SlatePolicy:
        """Return the greedy policy of the averaged copy: what is evaluated and exported."""
        return SlatePolicy(self._target, EpsilonGreedy(epsilon=0.0), self.k)

    def judge(self, network: SlateNetwork, observation: Mapping[str, Tensor]) -> Judged:
        """Return values and logits of batched observations as tensors."""
        items, _, history, features = inputs(observation)
        return network.judge(items, history, features)

    def _forward_inference(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Return the best slate of each row; RLlib's own runners call this."""
        judged = self.judge(self.net, batch[Columns.OBS])
        return {Columns.ACTIONS: best_slates(judged.added, judged.logits, batch[Columns.OBS]["mask"], self.k)[0]}

    def _forward_exploration(self, batch: dict[str, Any], t: int = 0, **_: Any) -> dict[str, Any]:
        """Return slates drawn by the acting policy, with the logarithm of their probability."""
        observation = {name: array.numpy() for name, array in batch[Columns.OBS].items()}
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        slates = self.acting_policy().decide(Query.of(observation), self.k, rng)
        return {
            Columns.ACTIONS: torch.from_numpy(slates.positions),
            Columns.ACTION_LOGP: torch.from_numpy(np.log(slates.propensities).sum(axis=1)),
            PROPENSITIES: torch.from_numpy(slates.propensities),
        }
