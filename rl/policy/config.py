"""The configuration of a policy: what a person writes, and what builds the policy."""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from rl.policy.interface import Policy


class BasePolicyConfig(BaseModel, ABC):
    """Base of every policy's configuration, which has a `kind` of its own beside its fields.

    Its module is loaded wherever configurations are read: `build` imports what the policy itself needs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def build(self, n_features: int, n_states: int, popularity: NDArray[np.float64]) -> Policy:
        """Build an untrained policy.

        Args:
            n_features: length F of the joint features, or of the context's alone.
            n_states: number of discrete context states.
            popularity: [N + 1] of each catalogue position; position 0 is the unknown item.
        """

    def serve(self, graph: bytes, state: dict[str, NDArray[np.float64]]) -> Policy | None:
        """Build the policy that answers by a graph; see `rl.policy.interface.Policy.export_graph`.

        Args:
            graph: the ONNX model.
            state: what the policy's `state_dict` was when the graph was exported.

        Returns:
            None: this kind of policy answers by itself.
        """
        return None
