"""The policy of a Q network: torch within, arrays at the interface."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from rl.policies.transformer.network import QNetwork, Tables
from rl.policy.arrays import FloatArray, bound, check_array
from rl.policy.errors import PolicyError
from rl.policy.explorers import ExplorerConfig
from rl.policy.interface import Policy
from rl.policy.queries import AGE, Impressions, Query

Forward: TypeAlias = Callable[..., torch.Tensor]
"""`QNetwork.forward`, or what computes the same: takes the network, then its arguments."""


class TransformerPolicy(Policy):
    """Scores candidates by a Q network.

    Args:
        network: used as it is, so that later changes of its weights change the policy.
        explorer: what is drawn from the Q values.
        frozen: the weights stay as they are for as long as this policy is used, so that what follows from them alone is
            computed once.
        compiled: what is called in place of the network. It is compiled for one shape, so padding is not left out.
    """

    learns = False

    def __init__(
        self,
        network: QNetwork,
        explorer: ExplorerConfig,
        frozen: bool = False,
        compiled: Forward | None = None,
    ) -> None:
        self.network, self.explorer, self._compiled = network, explorer, compiled
        self._tables: Tables | None = None
        if frozen:
            with torch.inference_mode():
                self._tables = network.tables()

    def expected(self, query: Query) -> FloatArray:
        """Return Q values [B, A]: the expected discounted sum of rewards from showing each candidate.

        Raises:
            PolicyError: the query's features are not those that the network was made for.
        """
        if query.features.shape[2] != self.network.n_features:
            found, wanted = query.features.shape[2], self.network.n_features
            raise PolicyError(f"a query has {found} features, this network was trained with {wanted}")
        with torch.inference_mode():
            if self._compiled is None:
                q = self.network(*tensors(query), self._tables)
            else:
                q = self._compiled(self.network, *tensors(query, whole=True), self._tables)
        values: FloatArray = q.numpy().astype(np.float64)
        return values

    def score(self, query: Query, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Return the Q values as scores [B, 1, A] and as expectation [B, A], computed once."""
        q = self.expected(query)
        return q[:, None, :], q

    def export_graph(self) -> bytes:
        """See `Policy.export_graph`; its inputs and outputs are those of `rl.policies.transformer.export.to_onnx`."""
        from rl.policies.transformer.export import to_onnx  # the exporter takes seconds to import

        return to_onnx(self.network)[0]

    def update(self, impressions: Impressions) -> None:
        """Learn nothing: a network is trained by `rl.train` and replaced whole."""

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return the weights; every float32 is a float64 exactly."""
        return {name: array.numpy().astype(np.float64) for name, array in self.network.state_dict().items()}

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """See `rl.policy.interface.Policy.load_state_dict`."""
        shapes = {name: tuple(array.shape) for name, array in self.network.state_dict().items()}
        self.network.load_state_dict(
            {name: torch.from_numpy(check_array(state, name, shape)) for name, shape in shapes.items()}
        )


def tensors(query: Query, whole: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a query's items, mask, history and features as the arguments of `QNetwork.forward`.

    Unless the history is to be `whole`, entries that are padding in every row are left out; at least one stays, also
    for a query without a history.
    """
    history = query.history if query.history is not None else np.zeros((len(query), 1, 3), dtype=np.int64)
    if not whole:
        longest = int((history[:, :, AGE] > 0).any(axis=0).sum())
        history = history[:, -max(longest, 1) :]
    return (
        torch.from_numpy(np.ascontiguousarray(query.items)),
        torch.from_numpy(np.ascontiguousarray(query.mask)),
        torch.from_numpy(np.ascontiguousarray(history)),
        torch.from_numpy(np.ascontiguousarray(bound(query.features), dtype=np.float32)),
    )
