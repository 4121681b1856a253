"""How the propensities of a slate came about, slot by slot. Axis names as in `rl.policy.interface`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rl.policy.arrays import BoolArray, FloatArray, IntArray

Parts: TypeAlias = Callable[[FloatArray, BoolArray], Mapping[str, FloatArray]]
"""`rl.policy.interface.Explorer.parts`."""
Allowed: TypeAlias = Callable[[BoolArray, int, IntArray], BoolArray]
"""`rl.policy.interface.Constraint.allowed`."""


@dataclass(frozen=True, slots=True)
class SlotChance:
    """How probable a slot's item was."""

    parts: Mapping[str, float]
    """What the propensity is the sum of."""
    candidates: int
    """That the slot could have been filled with."""
    best: bool
    """No other of these had a higher expected reward."""
    kept_out: tuple[int, ...]
    """Positions that were left and that a constraint did not allow."""


def explain_slots(
    parts: Parts,
    scores: FloatArray,
    expected: FloatArray,
    mask: BoolArray,
    slate: Sequence[int],
    allowed: Allowed | None,
) -> list[SlotChance]:
    """Return how probable each item of one slate was.

    Args:
        parts: of the explorer.
        scores: [1, S, A] that the slate was drawn from, with what a constraint adds.
        expected: [1, A] likewise.
        mask: [1, A].
        slate: positions, in the order of the slots.
        allowed: of the constraint; None: there is none.
    """
    left, found = mask.copy(), list[SlotChance]()
    for slot, position in enumerate(slate):
        before = np.array([slate[:slot]], dtype=np.int64).reshape(1, slot)
        possible = left if allowed is None else allowed(left, slot, before)
        chances = {name: float(p[0, position]) for name, p in parts(scores, possible).items()}
        best = bool(expected[0, position] >= expected[0, possible[0]].max())
        kept_out = np.flatnonzero(left[0] & ~possible[0])
        found.append(SlotChance(chances, int(possible.sum()), best, tuple(kept_out.tolist())))
        left[0, position] = False
    return found
