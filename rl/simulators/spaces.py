"""What actions may be: a position, or a slate of them; and the check that every simulator makes."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from data.errors import RecommenderError
from rl.policy.arrays import IntArray


class ActionError(RecommenderError, ValueError):
    """An action is not in the action space; says which, in which episode, and the space."""


class SlateSpace(gym.spaces.MultiDiscrete):
    """Slates of K different positions among A candidates, [K], or [B, K] of a batch of B.

    Args:
        candidates: A.
        slots: K, at most A.
        rows: B; None: of a single slate.
    """

    def __init__(self, candidates: int, slots: int, rows: int | None = None) -> None:
        if not 1 <= slots <= candidates:
            raise ValueError(f"slots must be between 1 and the {candidates} candidates, got {slots}")
        self.candidates, self.slots = candidates, slots
        super().__init__(np.full((slots,) if rows is None else (rows, slots), candidates))

    def sample(self, mask: Any = None, probability: Any = None) -> NDArray[np.integer[Any]]:
        """Draw slates uniformly; they are drawn whole, so that neither masks nor probabilities of slots are taken."""
        if mask is not None or probability is not None:
            raise ValueError(f"{self} draws whole slates: it takes no mask and no probability")
        everything = np.broadcast_to(np.arange(self.candidates, dtype=self.dtype), (*self.shape[:-1], self.candidates))
        return self.np_random.permuted(everything, axis=-1)[..., : self.slots]

    def contains(self, x: Any) -> bool:
        """Say whether slates are in range and without repeats."""
        return super().contains(x) and not repeats(np.asarray(x)).any()

    def __repr__(self) -> str:
        """Name the space as errors do."""
        return f"SlateSpace({self.candidates} candidates, {self.slots} different ones)"


def repeats(slates: IntArray) -> NDArray[np.bool_]:
    """Return which slates [..., K] hold a position twice."""
    found: NDArray[np.bool_] = (np.diff(np.sort(slates, axis=-1), axis=-1) == 0).any(axis=-1)
    return found


def batch_actions(space: gym.Space[Any], rows: int) -> gym.Space[Any]:
    """Return the space of the actions of B episodes."""
    if isinstance(space, SlateSpace):
        return SlateSpace(space.candidates, space.slots, rows)
    batch: gym.Space[Any] = batch_space(space, rows)
    return batch


def check_actions(actions: Any, space: gym.Space[Any], rows: int) -> IntArray:
    """Return the actions of B = rows episodes as an array of whole numbers in the space of each, [B] or [B, K].

    Raises:
        ActionError: one of them is not in the space by its type, its shape or its value, or a slate has repeats and may
            have none.
    """
    try:
        given = np.asarray(actions)
    except ValueError as error:  # of lists that are not of one length
        raise ActionError(f"actions of {rows} episodes in {space} must be an array: {error}") from error
    wanted = (rows, *(space.shape or ()))
    if given.shape != wanted:
        raise ActionError(f"actions of {rows} episodes in {space} must have the shape {wanted}, got {given.shape}")
    if given.dtype.kind not in "iu":
        raise ActionError(
            f"episode 0: action {given[0].tolist()!r} is not in {space}: not a whole number ({given.dtype})"
        )
    low, high = _bounds(space)
    wrong = (given < low) | (given >= high)
    if wrong.any():
        row = int(np.argwhere(wrong)[0, 0])
        raise ActionError(f"episode {row}: action {given[row].tolist()} is not in {space}")
    if isinstance(space, SlateSpace) and (twice := repeats(given)).any():
        row = int(twice.argmax())
        raise ActionError(f"episode {row}: action {given[row].tolist()} is not in {space}: a position is there twice")
    return given


def _bounds(space: gym.Space[Any]) -> tuple[Any, Any]:
    """Return the lowest action, and what all are below."""
    if isinstance(space, gym.spaces.Discrete):
        return int(space.start), int(space.start) + int(space.n)
    assert isinstance(space, gym.spaces.MultiDiscrete), f"actions are positions on the candidate axis, got {space}"
    start: IntArray = space.start.astype(np.int64)
    return start, start + space.nvec.astype(np.int64)


def entropy(seed: int | Sequence[int | None], rows: int) -> int | list[int]:
    """Return what the generator of a batch is seeded by: one number, or one for each of B = rows episodes.

    An episode without a number takes one from the system.

    Raises:
        ValueError: there are not as many numbers as episodes.
    """
    if not isinstance(seed, Sequence):
        return seed
    if len(seed) != rows:
        raise ValueError(f"seed: needs one number, or one for each of {rows} episodes, got {len(seed)}")
    return [int(np.random.SeedSequence().generate_state(1)[0]) if one is None else one for one in seed]
