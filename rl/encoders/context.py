"""The encoder of visits that are known by numbers of their context, for policies with a model for each item."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rl.encoders.base import stack_histories
from rl.encoders.visit import Visit
from rl.policy.arrays import LARGEST, IntArray
from rl.policy.queries import Query


@dataclass(frozen=True)
class ContextEncoder:
    """Encodes items as their positions, and a visit as numbers of its context; what is no number there is 0."""

    items: tuple[str, ...]
    """N item ids; the item at index i has position i + 1."""
    numbers: tuple[str, ...]
    """Names of the F numbers."""

    n_states = 1

    @property
    def n_features(self) -> int:
        """See `VisitEncoder.n_features`."""
        return len(self.numbers)

    @cached_property
    def version(self) -> str:
        """See `VisitEncoder.version`."""
        return hashlib.sha256(json.dumps([self.items, self.numbers]).encode()).hexdigest()[:12]

    @property
    def popularity(self) -> NDArray[np.float64]:
        """[N + 1] zeros: nothing is known of it."""
        return np.zeros(len(self.items) + 1)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {item: position for position, item in enumerate(self.items, start=1)}

    def item_positions(self, items: Iterable[str]) -> IntArray:
        """See `VisitEncoder.item_positions`."""
        return np.array([self._positions.get(item, 0) for item in items], dtype=np.int64)

    def query(self, visits: Sequence[Visit]) -> Query:
        """Encode B visits; features are [B, 1, F]."""
        said = [[_number(visit.context.get(name)) for name in self.numbers] for visit in visits]
        items = self.item_positions(item for visit in visits for item in visit.candidates).reshape(len(visits), -1)
        return Query(
            features=np.array(said, dtype=np.float64).reshape(len(visits), 1, -1),
            state=np.zeros(len(visits), dtype=np.int64),
            items=items,
            mask=np.ones(items.shape, dtype=np.bool_),
            history=stack_histories(visits),
        )


def _number(given: object) -> float:
    if not isinstance(given, int | float):
        return 0.0
    if abs(given) > LARGEST:  # a whole number may be more than a float holds
        return LARGEST if given > 0 else -LARGEST
    return float(given)
