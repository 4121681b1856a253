"""Who was shown what and what came of it, as the histories that policies read. A fold over the log.

Age counts a user's own decisions, as in the simulators: the slots of the last one have age 1, those before it age 2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from rl.encoders.base import VisitEncoder
from rl.policy.arrays import IntArray
from rl.policy.queries import AGE, CLICK, IGNORED, ITEM, OUTCOME, PURCHASE, SHOWN, VIEW

OUTCOMES: Mapping[str, int] = {
    "view": VIEW,
    "dwell": VIEW,
    "rating": VIEW,  # they have looked at it; how they liked it is in the value, which histories do not have
    "click": CLICK,
    "accept": CLICK,
    "purchase": PURCHASE,
    "reject": IGNORED,
}
"""What a kind of feedback says that the user did. Other kinds (custom ones) earn rewards but say nothing of that."""


def outcome_of(kind: str, value: float = 1.0) -> int | None:
    """Return the outcome that feedback reports; None if its kind says nothing.

    A value of 0 or less reports that it did not happen: a click of value 0 is an item that was ignored.
    """
    outcome = OUTCOMES.get(kind)
    return outcome if outcome is None or value > 0 else IGNORED


@dataclass(frozen=True, slots=True)
class _Shown:
    decision_id: str
    items: tuple[str, ...]
    outcomes: tuple[int, ...]


class Histories:
    """The last decisions of each user. The same calls in the same order give the same histories.

    Args:
        length: T, entries of a history; decisions that are older than all of them are forgotten.
        most_users: kept; beyond it the one whose last decision is longest ago is forgotten.
    """

    def __init__(self, length: int = 20, most_users: int = 100_000) -> None:
        if length < 1 or most_users < 1:
            raise ValueError(f"length and most_users must be at least 1, got {length} and {most_users}")
        self.length, self.most_users = length, most_users
        self._shown = dict[str, tuple[_Shown, ...]]()  # by user, oldest decision first; the user shown last is last
        self._user = dict[str, str]()  # by decision

    def __len__(self) -> int:
        return len(self._shown)

    def show(self, user_id: str, decision_id: str, items: Sequence[str]) -> None:
        """A user was shown a slate, best slot first; one that is known already changes nothing."""
        if decision_id in self._user:
            return
        before = self._shown.pop(user_id, ())
        kept = (*before, _Shown(decision_id, tuple(items[: self.length]), (SHOWN,) * min(len(items), self.length)))
        while len(kept) > self.length or sum(len(shown.items) for shown in kept[1:]) >= self.length:
            del self._user[kept[0].decision_id]
            kept = kept[1:]
        self._shown[user_id], self._user[decision_id] = kept, user_id
        if len(self._shown) > self.most_users:
            self.forget(next(iter(self._shown)))

    def happened(self, decision_id: str, item_id: str | None, outcome: int) -> bool:
        """The user did something with an item (None: of the first slot); the strongest is kept.

        What is not known of the other slots counts as ignored from then on: the user has answered.

        Returns:
            Whether the decision is remembered and has shown the item.
        """
        if (shown := self._find(decision_id)) is None:
            return False
        if item_id is None:
            slot = 0
        elif item_id in shown.items:
            slot = shown.items.index(item_id)
        else:
            return False
        outcomes = [max(known, IGNORED) for known in shown.outcomes]
        outcomes[slot] = max(outcomes[slot], outcome)
        self._replace(shown, tuple(outcomes))
        return True

    def closed(self, decision_id: str) -> bool:
        """No feedback is awaited any more: what is not known counts as ignored. Returns whether it is remembered."""
        if (shown := self._find(decision_id)) is None:
            return False
        self._replace(shown, tuple(max(known, IGNORED) for known in shown.outcomes))
        return True

    def of(self, user_id: str | None, encoder: VisitEncoder) -> IntArray:
        """Return a user's history [T, 3] as `rl.policy.queries.Query` has it: oldest first, padded on the left.

        An entry of an item that the encoder does not know has item 0 and an age, padding has neither.
        """
        history = np.zeros((self.length, 3), dtype=np.int64)
        items, outcomes, ages = list[str](), list[int](), list[int]()  # newest decision first
        for age, shown in enumerate(reversed(self._shown.get(user_id, ()) if user_id is not None else ()), start=1):
            fitting = min(len(shown.items), self.length - len(items))
            items += shown.items[:fitting][::-1]
            outcomes += shown.outcomes[:fitting][::-1]
            ages += [age] * fitting
        if n := len(items):
            history[-n:, ITEM], history[-n:, OUTCOME] = encoder.item_positions(items[::-1]), outcomes[::-1]
            history[-n:, AGE] = ages[::-1]
        return history

    def forget(self, user_id: str) -> None:
        """Forget a user."""
        for shown in self._shown.pop(user_id, ()):
            del self._user[shown.decision_id]

    def copy(self) -> Self:
        """Return a copy that later calls do not change, nor it this one."""
        copied = type(self)(self.length, self.most_users)
        copied._shown, copied._user = dict(self._shown), dict(self._user)  # what they hold is never changed in place
        return copied

    def _find(self, decision_id: str) -> _Shown | None:
        user_id = self._user.get(decision_id)
        if user_id is None:
            return None
        return next(shown for shown in self._shown[user_id] if shown.decision_id == decision_id)

    def _replace(self, shown: _Shown, outcomes: tuple[int, ...]) -> None:
        user_id = self._user[shown.decision_id]
        new = _Shown(shown.decision_id, shown.items, outcomes)
        # Assigned, not moved: who is forgotten first is a matter of decisions alone.
        self._shown[user_id] = tuple(new if one is shown else one for one in self._shown[user_id])
