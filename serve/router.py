"""Which policy answers: fixed shares of the customers. Light: no Ray."""

from collections.abc import Mapping
from hashlib import blake2b

import numpy as np

from rl.policy import PolicyError


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
        self._names = list(shares)
        self._bounds = np.cumsum(list(shares.values())) / total

    def route(self, key: str) -> str:
        """Return the policy for a customer (or, without one, for a decision)."""
        return self._names[int(np.searchsorted(self._bounds, unit_interval(key), side="right"))]


def unit_interval(key: str) -> float:
    """Hash a key to [0, 1), the same on every machine (Python's own hash of a string is not)."""
    return int.from_bytes(blake2b(key.encode(), digest_size=6).digest()) / 2**48


def seed(key: str) -> int:
    """Derive the seed of a decision's draws from its id, so that the decision can be replayed."""
    return int.from_bytes(blake2b(key.encode(), digest_size=16, person=b"raycommend draws").digest())
