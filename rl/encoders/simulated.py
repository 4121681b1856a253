"""The encoder of policies that saw a simulator's own contexts: it says how large those are, and encodes no visits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from rl.encoders.base import VisitEncoder
from rl.encoders.catalogue import CatalogueEncoder
from rl.encoders.visit import Visit
from rl.policy.arrays import IntArray
from rl.policy.errors import PolicyError
from rl.policy.explanation.parts import Names
from rl.policy.queries import Query


@dataclass(frozen=True)
class SimulatedEncoder:
    """Items are called "1" to "N", as simulators call them."""

    n_items: int
    n_features: int
    n_states: int

    @classmethod
    def of(cls, space: gym.Space[Any]) -> Self:
        """Return the encoder of what a simulator's observations hold; see `rl.simulators.batched`."""
        assert isinstance(space, gym.spaces.Dict), "observations of simulators are dictionaries"
        items, features, state = space["items"], space.get("features"), space.get("state")
        assert isinstance(items, gym.spaces.Box), "items are numbers"
        return cls(
            n_items=int(items.high.max()),
            n_features=features.shape[-1] if features is not None and features.shape else 0,
            n_states=int(state.n) if isinstance(state, gym.spaces.Discrete) else 1,
        )

    @classmethod
    def like(cls, encoder: VisitEncoder) -> Self:
        """Return the encoder of a simulator whose observations are as large as another encoder's queries."""
        return cls(n_items=len(encoder.items), n_features=encoder.n_features, n_states=encoder.n_states)

    @property
    def items(self) -> tuple[str, ...]:
        """See `VisitEncoder.items`."""
        return CatalogueEncoder.numbered(self.n_items).items

    @property
    def version(self) -> str:
        """See `VisitEncoder.version`."""
        return f"simulated-{self.n_items}-{self.n_features}-{self.n_states}"

    @property
    def popularity(self) -> NDArray[np.float64]:
        """[N + 1] zeros: nothing is known of it."""
        return np.zeros(self.n_items + 1)

    def item_positions(self, items: Sequence[str]) -> IntArray:
        """See `VisitEncoder.item_positions`."""
        return CatalogueEncoder.numbered(self.n_items).item_positions(items)

    def names(self, visit: Visit) -> Names:
        """See `VisitEncoder.names`; features are known by their places alone."""
        return Names()

    def query(self, visits: Sequence[Visit]) -> Query:
        """Refuse.

        Raises:
            PolicyError: always: no visit has the contexts of a simulator.
        """
        raise PolicyError("visits cannot be encoded for a policy that saw a simulator's own contexts")
