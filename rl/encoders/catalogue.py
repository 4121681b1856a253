"""The encoder that knows a catalogue's ids alone, for policies that learn from histories."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rl.encoders.base import name_entries, stack_histories
from rl.encoders.visit import Visit
from rl.policy.arrays import IntArray
from rl.policy.explanation.parts import Names
from rl.policy.queries import Query


@dataclass(frozen=True)
class CatalogueEncoder:
    """Encodes items as their positions and passes histories through; there are no features and one state."""

    items: tuple[str, ...]
    """N item ids; the item at index i has position i + 1."""

    n_features = 0
    n_states = 1

    @classmethod
    def numbered(cls, n: int) -> "CatalogueEncoder":
        """Return the encoder of the ids "1" to "N", which are what simulators call their items."""
        return cls(tuple(str(number) for number in range(1, n + 1)))

    @cached_property
    def version(self) -> str:
        """See `VisitEncoder.version`."""
        return hashlib.sha256(json.dumps(self.items).encode()).hexdigest()[:12]

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

    def names(self, visit: Visit) -> Names:
        """See `VisitEncoder.names`."""
        return Names(history=name_entries(visit.history, self.items))

    def query(self, visits: Sequence[Visit]) -> Query:
        """See `VisitEncoder.query`."""
        b = len(visits)
        items = self.item_positions(item for visit in visits for item in visit.candidates).reshape(b, -1)
        return Query(
            features=np.zeros((b, 1, 0)),
            state=np.zeros(b, dtype=np.int64),
            items=items,
            mask=np.ones(items.shape, dtype=np.bool_),
            history=stack_histories(visits),
        )
