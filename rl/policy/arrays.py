"""The arrays that pass between rooms, and the checks of those that come from outside."""

import numpy as np
from numpy.typing import NDArray

from rl.policy.errors import PolicyError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

LARGEST = 1e15
"""What a feature's or a reward's absolute value is taken to be at most: the doors refuse more, old logs may hold it."""


def bound(values: FloatArray) -> FloatArray:
    """Return values, those beyond `LARGEST` cut to it: products and sums of them stay finite."""
    return np.minimum(np.maximum(values, -LARGEST), LARGEST)


def check_array(state: dict[str, NDArray[np.float64]], name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return a copy of one array of a saved state, of a given shape and finite.

    Raises:
        PolicyError: the array is missing, has another shape, or is not finite.
    """
    if name not in state:
        raise PolicyError(f"the saved policy has no array {name!r}; it has {sorted(state)}")
    array = np.array(state[name], dtype=np.float64)
    if array.shape != shape:
        raise PolicyError(f"array {name!r} of the saved policy has shape {array.shape}, this policy needs {shape}")
    if not np.isfinite(array).all():
        raise PolicyError(f"array {name!r} of the saved policy holds values that are not finite")
    return array
