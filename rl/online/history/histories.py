"""The histories of users that policies read: what each was shown and did. A fold over the log.

Age counts a user's own decisions, as in the simulators: the slots of the last one have age 1, those before it age 2.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

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
"""Outcomes by kind of feedback. Other kinds (custom ones) earn rewards but are no outcome."""


def to_outcome(kind: str, value: float = 1.0) -> int | None:
    """Return the outcome that feedback reports; None if its kind is none.

    A value of 0 or less reports that it did not happen: a click of value 0 is an item that was ignored.
    """
    outcome = OUTCOMES.get(kind)
    return outcome if outcome is None or value > 0 else IGNORED


@dataclass(frozen=True, slots=True)
class _Slate:
    decision_id: str
    items: tuple[str, ...]
    outcomes: tuple[int, ...]


class Histories:
    """The last decisions of each user. The same calls in the same order give the same histories.

    Args:
        length: T, entries of a history; decisions that are older than all of them are forgotten.
        max_users: beyond this the user whose last decision is longest ago is forgotten.
    """

    def __init__(self, length: int = 20, max_users: int = 100_000) -> None:
        if length < 1 or max_users < 1:
            raise ValueError(f"length and max_users must be at least 1, got {length} and {max_users}")
        self.length, self.max_users = length, max_users
        self._slates = dict[str, tuple[_Slate, ...]]()  # by user, oldest decision first; last the user decided for last
        self._users = dict[str, str]()  # by decision

    def __len__(self) -> int:
        return len(self._slates)

    def __contains__(self, user_id: str) -> bool:
        """Return whether a user is remembered."""
        return user_id in self._slates

    def add_slate(self, user_id: str, decision_id: str, items: Sequence[str]) -> None:
        """Add what a user was shown, best slot first; a decision that has been added already changes nothing."""
        if decision_id in self._users:
            return
        new = _Slate(decision_id, tuple(items[: self.length]), (SHOWN,) * min(len(items), self.length))
        slates = (*self._slates.pop(user_id, ()), new)
        while len(slates) > self.length or sum(len(slate.items) for slate in slates[1:]) >= self.length:
            del self._users[slates[0].decision_id]
            slates = slates[1:]
        self._slates[user_id], self._users[decision_id] = slates, user_id
        if len(self._slates) > self.max_users:
            self.forget(next(iter(self._slates)))

    def add_outcome(self, decision_id: str, item_id: str | None, outcome: int) -> bool:
        """Add what the user did with an item (None: with that of the first slot); the strongest outcome stays.

        Slots without an outcome count as ignored from then on: the user has answered.

        Returns:
            Whether the decision is remembered and has shown the item.
        """
        if (slate := self._find(decision_id)) is None:
            return False
        if item_id is None:
            slot = 0
        elif item_id in slate.items:
            slot = slate.items.index(item_id)
        else:
            return False
        outcomes = _close(slate)
        outcomes[slot] = max(outcomes[slot], outcome)
        self._replace(slate, outcomes)
        return True

    def close(self, decision_id: str) -> bool:
        """Count slots without an outcome as ignored: the wait is over. Returns whether the decision is remembered."""
        if (slate := self._find(decision_id)) is None:
            return False
        self._replace(slate, _close(slate))
        return True

    def encode(self, user_id: str | None, encoder: VisitEncoder) -> IntArray:
        """Return a user's history [T, 3] as `rl.policy.queries.Query` has it: oldest first, padded on the left.

        An entry of an item that the encoder does not know has item 0 and an age, padding has neither.
        """
        history = np.zeros((self.length, 3), dtype=np.int64)
        items, outcomes, ages = list[str](), list[int](), list[int]()  # newest decision first
        for age, slate in enumerate(reversed(self._slates.get(user_id, ()) if user_id is not None else ()), start=1):
            fitting = min(len(slate.items), self.length - len(items))
            items += slate.items[:fitting][::-1]
            outcomes += slate.outcomes[:fitting][::-1]
            ages += [age] * fitting
        if n := len(items):
            history[-n:, ITEM], history[-n:, OUTCOME] = encoder.item_positions(items[::-1]), outcomes[::-1]
            history[-n:, AGE] = ages[::-1]
        return history

    def forget(self, user_id: str) -> None:
        """Forget a user."""
        for slate in self._slates.pop(user_id, ()):
            del self._users[slate.decision_id]

    def copy(self) -> Self:
        """Return a copy that later calls do not change, nor it this one."""
        copy = type(self)(self.length, self.max_users)
        copy._slates, copy._users = dict(self._slates), dict(self._users)  # their values are never changed in place
        return copy

    def to_json(self) -> list[tuple[str, list[tuple[str, tuple[str, ...], tuple[int, ...]]]]]:
        """Return all that is kept, in its order, for `load_json`."""
        return [
            (user_id, [(slate.decision_id, slate.items, slate.outcomes) for slate in slates])
            for user_id, slates in self._slates.items()
        ]

    def load_json(self, users: Iterable[tuple[str, Iterable[tuple[str, Sequence[str], Sequence[int]]]]]) -> None:
        """Replace what is kept by what `to_json` gave."""
        self._slates, self._users = {}, {}
        for user_id, slates in users:
            of_user = tuple(_Slate(name, tuple(items), tuple(outcomes)) for name, items, outcomes in slates)
            self._slates[user_id] = of_user
            self._users |= {slate.decision_id: user_id for slate in of_user}

    def _find(self, decision_id: str) -> _Slate | None:
        user_id = self._users.get(decision_id)
        if user_id is None:
            return None
        return next(slate for slate in self._slates[user_id] if slate.decision_id == decision_id)

    def _replace(self, slate: _Slate, outcomes: Sequence[int]) -> None:
        user_id = self._users[slate.decision_id]
        new = _Slate(slate.decision_id, slate.items, tuple(outcomes))
        # Assigned, not moved: only decisions count for which user is forgotten first.
        self._slates[user_id] = tuple(new if one is slate else one for one in self._slates[user_id])


def _close(slate: _Slate) -> list[int]:
    """Return the outcomes of a slate, ignored where there is none."""
    return [max(outcome, IGNORED) for outcome in slate.outcomes]


HistoryStep: TypeAlias = Callable[[Histories], object]
"""One call of a method of the histories, as a value that can be sent."""
