"""A Q network in service: the ONNX model that its training has written, in ONNX Runtime, without torch.

This stands in the place of `rl.policies.transformer.policy`, which computes the same in torch, and is switched off by
leaving the model out of the artefact. Measured with ONNX Runtime 1.31 and torch 2.x on one core, for 50 candidates and
20 history entries: 0.2 ms a decision where torch takes 1.0, and no seconds for importing torch in a replica.

Requests are computed one by one even where they come together, without the padding of their histories: a matrix product
may round a row differently beside others, and a decision must be computed again to the last bit when it is audited.
"""

from collections.abc import Callable

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from rl.policy.arrays import FloatArray, bound
from rl.policy.errors import PolicyError
from rl.policy.interface import Explorer, Policy
from rl.policy.queries import AGE, Impressions, Query

_NO_HISTORY = np.zeros((1, 3), dtype=np.int64)  # one entry of padding: the model needs one

State = dict[str, NDArray[np.float64]]


class GraphPolicy(Policy):
    """Scores candidates by the graph of a Q network.

    Args:
        graph: what `rl.policies.transformer.export.to_onnx` has returned for a Q network.
        explorer: what is drawn from the Q values.
        state: the weights that the graph was made of.

    Raises:
        PolicyError: it is no such graph.
    """

    learns = False

    def __init__(self, graph: bytes, explorer: Explorer, state: State) -> None:
        self._graph, self._state, self.explorer = graph, state, explorer
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            shapes = {given.name: given.shape for given in self._session.get_inputs()}
            self._n_features = int(shapes["features"][2]) if "features" in shapes else 0
        except Exception as error:  # onnxruntime's have no other base
            raise PolicyError(f"a graph that cannot be run: {type(error).__name__}") from error

    def expected(self, query: Query) -> FloatArray:
        """Return Q values [B, A]: the expected discounted sum of rewards from showing each candidate.

        Raises:
            PolicyError: the query's features are not those that the network was made for.
        """
        if query.features.shape[2] != self._n_features:
            found, wanted = query.features.shape[2], self._n_features
            raise PolicyError(f"a query has {found} features, this network was trained with {wanted}")
        features = bound(query.features).astype(np.float32)
        q = np.empty(query.items.shape)
        for row in range(len(query)):
            one = slice(row, row + 1)
            history = _NO_HISTORY if query.history is None else query.history[row]
            present = history[history[:, AGE] > 0]
            inputs = {
                "items": query.items[one],
                "mask": query.mask[one],
                "history": (present if len(present) else _NO_HISTORY)[None],
            }
            if self._n_features:
                inputs["features"] = np.broadcast_to(features[one], (1, query.items.shape[1], self._n_features))
            q[row] = self._session.run(None, inputs)[0][0]
        return q

    def score(self, query: Query, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Return the Q values as scores [B, 1, A] and as expectation [B, A], computed once."""
        q = self.expected(query)
        return q[:, None, :], q

    def update(self, impressions: Impressions) -> None:
        """Learn nothing: a network is trained by `rl.train` and replaced whole."""

    def state_dict(self) -> State:
        """Return the weights."""
        return {name: array.copy() for name, array in self._state.items()}

    def load_state_dict(self, state: State) -> None:
        """See `rl.policy.interface.Policy.load_state_dict`.

        Raises:
            PolicyError: the weights are not those that the graph was made of.
        """
        alike = state.keys() == self._state.keys()
        if not alike or not all(np.array_equal(state[name], array) for name, array in self._state.items()):
            raise PolicyError("a graph keeps the weights that it was made of: export one of the others")

    def __reduce__(self) -> tuple[Callable[..., "GraphPolicy"], tuple[bytes, Explorer, State]]:
        """Copy and pickle it by its graph: a session can be neither."""
        return GraphPolicy, (self._graph, self.explorer, self._state)
