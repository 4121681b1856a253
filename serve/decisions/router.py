"""Which policy answers: fixed shares of the users."""

from collections.abc import Collection, Mapping

import numpy as np

from rl.policy.errors import PolicyError
from serve.abtests.assignment import unit_interval


class Router:
    """Splits customers by a hash of their id, so that a customer stays with one policy."""

    def __init__(self, shares: Mapping[str, float]) -> None:
        """Take the shares by policy; they need not sum to 1.

        Raises:
            PolicyError: the shares sum to 0.
        """
        total = sum(shares.values())
        if total <= 0:
            raise PolicyError(f"the policies' shares of the traffic sum to {total}; at least one must be positive")
        self._shares, self._names = dict(shares), list(shares)
        self._only = self._names[0] if len(shares) == 1 else None
        self._bounds = np.cumsum(list(shares.values())) / total

    def restrict_to(self, names: Collection[str]) -> "Router":
        """Return one for those of its policies that are there: the customers of the others are split among them."""
        if set(self._names) <= set(names):
            return self
        left = {name: share for name, share in self._shares.items() if name in names}
        return Router(left if sum(left.values()) > 0 else dict.fromkeys(names, 1.0))

    def route(self, key: str) -> str:
        """Return the policy for a customer (or, without one, for a decision)."""
        if self._only is not None:
            return self._only
        return self._names[int(np.searchsorted(self._bounds, unit_interval(key), side="right"))]
