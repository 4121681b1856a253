"""How the propensities of a slate came about, slot by slot. Axis names as in `rl.policy.interface`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.policy.explorers import UNIFORM

Parts: TypeAlias = Callable[[BoolArray], Mapping[str, FloatArray]]
"""`rl.policy.interface.Explorer.parts` of one query's scores: what probabilities [1, A] are sums of, for a mask."""
Allowed: TypeAlias = Callable[[BoolArray, int, IntArray], BoolArray]
"""`rl.policy.interface.Constraint.allowed`."""


@dataclass(frozen=True, slots=True)
class SlotChance:
    """How probable a slot's item was."""

    parts: Mapping[str, float]
    """What the propensity is the sum of."""
    uniform: float
    """What of it comes from uniform draws."""
    candidates: int
    """That the slot could have been filled with."""
    best: bool
    """No other of these had a higher expected reward."""
    kept_out: tuple[int, ...]
    """Positions that were left and that the constraint did not allow."""


def explain_slots(
    parts: Parts, expected: FloatArray, mask: BoolArray, slate: Sequence[int], allowed: Allowed | None = None
) -> list[SlotChance]:
    """Return how probable each item of a slate was that one policy has drawn.

    Args:
        parts: of its explorer, for the scores that it has drawn from.
        expected: [1, A] with what a constraint adds.
        mask: [1, A].
        slate: positions, in the order of the slots.
        allowed: of the constraint; None: there is none.
    """
    found = list[SlotChance]()
    for position, left, possible in _walk(mask, slate, allowed):
        chances = {name: float(p[0, position]) for name, p in parts(possible).items()}
        found.append(_chance(chances, chances.get(UNIFORM, 0.0), position, left, possible, expected))
    return found


def explain_draft(
    parts: Mapping[str, Parts],
    expected: Mapping[str, FloatArray],
    mask: BoolArray,
    slate: Sequence[int],
    teams: Sequence[str],
    allowed: Allowed | None = None,
) -> list[SlotChance]:
    """Return how probable each item of a slate was that two policies have drafted; see `rl.policy.interleaving`.

    Args:
        parts: as in `explain_slots`, by policy, in the order in which they are interleaved.
        expected: likewise, [1, A] each.
        mask: [1, A].
        slate: positions, in the order of the slots.
        teams: of each slot, which policy has chosen it.
        allowed: of the constraint; None: there is none.
    """
    found, first = list[SlotChance](), 0.5  # the probability that the first policy chooses
    for slot, (position, left, possible) in enumerate(_walk(mask, slate, allowed)):
        drawn = {
            name: {part: float(p[0, position]) for part, p in of_policy(possible).items()}
            for name, of_policy in parts.items()
        }
        shares = (0.5, 0.5) if slot % 2 == 0 else (first, 1.0 - first)
        chances = {
            f"{name}: {part}": share * p
            for share, (name, of_policy) in zip(shares, drawn.items(), strict=True)
            for part, p in of_policy.items()
        }
        uniform = sum(share * of.get(UNIFORM, 0.0) for share, of in zip(shares, drawn.values(), strict=True))
        found.append(_chance(chances, uniform, position, left, possible, expected[teams[slot]]))
        one, other = (sum(of_policy.values()) for of_policy in drawn.values())
        first = other / (one + other)  # the first's item says something of the coin
    return found


def _walk(mask: BoolArray, slate: Sequence[int], allowed: Allowed | None) -> "list[tuple[int, BoolArray, BoolArray]]":
    """Return of each slot its position, what was left before, and what was possible."""
    left, found = mask.copy(), list[tuple[int, BoolArray, BoolArray]]()
    for slot, position in enumerate(slate):
        before = np.array([slate[:slot]], dtype=np.int64).reshape(1, slot)
        found.append((position, left, left if allowed is None else allowed(left, slot, before)))
        left = left.copy()
        left[0, position] = False
    return found


def _chance(
    chances: Mapping[str, float],
    uniform: float,
    position: int,
    left: BoolArray,
    possible: BoolArray,
    expected: FloatArray,
) -> SlotChance:
    best = bool(expected[0, position] >= expected[0, possible[0]].max())
    kept_out = tuple(np.flatnonzero(left[0] & ~possible[0]).tolist())
    there = {name: p for name, p in chances.items() if p}
    return SlotChance(there, uniform, int(possible.sum()), best, kept_out)
