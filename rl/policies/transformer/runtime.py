"""The policy of a Q network that does not change, for one request at a time, fast. Needs onnx, onnxruntime, torch.

Requests are computed one by one even where they come together: a matrix product may round a row differently beside
others, and a decision must be computed again to the last bit when it is audited.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from rl.policies.transformer.graph import to_graph
from rl.policies.transformer.policy import TransformerPolicy
from rl.policy.arrays import BoolArray, FloatArray, IntArray, bound
from rl.policy.errors import PolicyError
from rl.policy.interface import Policy
from rl.policy.queries import AGE, ITEM, OUTCOME, Impressions, Query

TOLERANCE = 1e-4
_CHECKED = ((1, 0), (2, 1), (50, 20), (7, 33))  # candidates, history entries


class QuickTransformer(Policy):
    """Scores what the policy that it is made of does, up to rounding; it keeps the weights of when it was made.

    Raises:
        PolicyError: onnxruntime computes something else than torch on random requests.
    """

    learns = False

    def __init__(self, policy: TransformerPolicy) -> None:
        self._policy, self.explorer = policy, policy.explorer
        self._compile()

    def _compile(self) -> None:
        network = self._policy.network
        self._n_items, self._n_features = network.n_items, network.n_features
        self._oldest, self._dueling = network.config.oldest, network.value is not None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(to_graph(network), options, providers=["CPUExecutionProvider"])
        self._takes = {given.name for given in self._session.get_inputs()}
        self._check()

    def expected(self, query: Query) -> FloatArray:
        """Return Q values [B, A]; see `TransformerPolicy.expected`."""
        if query.features.shape[2] != self._n_features:
            found, wanted = query.features.shape[2], self._n_features
            raise PolicyError(f"a query has {found} features, this network was trained with {wanted}")
        features = bound(query.features).astype(np.float32)
        q = np.empty(query.items.shape)
        for row in range(len(query)):
            history = None if query.history is None else query.history[row]
            q[row] = self._of_one(query.items[row], query.mask[row], history, features[row])
        return q

    def score(self, query: Query, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Return the Q values as scores [B, 1, A] and as expectation [B, A], computed once."""
        q = self.expected(query)
        return q[:, None, :], q

    def _of_one(
        self, items: IntArray, mask: BoolArray, history: IntArray | None, features: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return [A] for items [A], mask [A], history [T, 3] and features [A, F] or [1, F]."""
        entries = kinds = np.zeros(0, dtype=np.int64)
        if history is not None and (present := history[history[:, AGE] > 0]).size:
            entries = self._known(present[:, ITEM])
            kinds = present[:, OUTCOME] * (self._oldest + 1) + np.minimum(present[:, AGE], self._oldest)
        given: dict[str, Any] = {
            "candidates": self._known(items)[:, None],
            "share": mask[None].astype(np.float32) / np.float32(max(mask.sum(), 1)),
            "entries": entries,
            "kinds": kinds,
            "rows": np.concatenate(([-1], entries))[:, None],
            "columns": np.concatenate(([-2], entries))[None],
            "features": features,
        }
        q: NDArray[np.float32] = self._session.run(None, {name: given[name] for name in self._takes})[0][:, 0]
        return q

    def _known(self, items: IntArray) -> IntArray:
        """Return ids with those beyond the network's as 0."""
        known: IntArray = items * (items <= self._n_items)
        return known

    def _check(self) -> None:
        rng = np.random.default_rng(0)
        for a, t in _CHECKED:
            query = Query(
                features=rng.normal(size=(1, a, self._n_features)),
                state=np.zeros(1, dtype=np.int64),
                items=rng.integers(self._n_items + 3, size=(1, a)),
                mask=np.arange(a)[None] % 3 < 2,
                history=np.stack(
                    [rng.integers(self._n_items + 3, size=t), rng.integers(5, size=t), np.arange(t, 0, -1)], axis=1
                )[None],
            )
            difference = float(np.abs(self.expected(query) - self._policy.expected(query)).max())
            if not difference <= TOLERANCE:  # which NaN is not either
                raise PolicyError(
                    f"onnxruntime differs from torch by {difference:.2g} for {a} candidates, more than {TOLERANCE}"
                )

    def update(self, impressions: Impressions) -> None:
        """Learn nothing, as the policy that it is made of."""

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return the weights."""
        return self._policy.state_dict()

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """Take over other weights; see `rl.policy.interface.Policy.load_state_dict`."""
        self._policy.load_state_dict(state)
        self._compile()

    def __reduce__(self) -> tuple[Callable[..., "QuickTransformer"], tuple[TransformerPolicy]]:
        """Copy and pickle it by its policy: a session can be neither."""
        return QuickTransformer, (self._policy,)
