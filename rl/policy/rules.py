"""What a shop wants of a slate, as a constraint on a policy: pins, boosts, caps by category, slots of their own.

Of a slate under rules:

- a pinned item is shown in its slot with probability 1 and nowhere else. Where nothing else is allowed before its slot,
  it comes forward: what is pinned is shown even if there are fewer candidates than slots. A pin beyond the last slot
  only keeps its item out;
- at most `caps[c]` items have category c. Pinned items count beforehand, and are shown even if they alone are more;
- an item that a slot excludes is not shown in it. Nor is one that a later slot cannot do without, where another would
  do here: no choice ends a slate early that another choice would have filled;
- a slate ends where nothing is allowed.

Axis names as in `rl.policy.interface`, and C capped categories.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data.schema import Rules
from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.policy.errors import PolicyError

_FREE = np.iinfo(np.int64).max
"""The slot of an item that has none."""


@dataclass(frozen=True, slots=True)
class RulesConstraint:
    """A `rl.policy.interface.Constraint` for queries that all have the same candidates; made by `rules_constraint`."""

    bias: FloatArray | None
    """[1, A] boosts."""
    pins: IntArray
    """[A] the slot that each item is pinned to."""
    members: BoolArray
    """[A, C] which items have a capped category."""
    room: IntArray
    """[C] how many items of a category may be shown beside pinned ones."""
    forbidden: BoolArray | None = None
    """[K, A] which items each slot excludes; None: the slots are those of a list, pins may come forward."""

    def allowed(self, left: BoolArray, slot: int, chosen: IntArray) -> BoolArray:
        """See `rl.policy.interface.Constraint.allowed`."""
        next_pins = np.where(left, self.pins, _FREE).min(axis=1, keepdims=True)  # [B, 1]
        pinned: BoolArray = left & (self.pins == next_pins) & (next_pins < _FREE)
        unpinned = left & (self.pins == _FREE)
        free = unpinned & ~self._full(chosen) if len(self.room) else unpinned
        if self.forbidden is None:
            shown: BoolArray = np.where((next_pins == slot) | ~free.any(axis=1, keepdims=True), pinned, free)
            return shown
        if np.any(self.pins == slot):
            return pinned
        return self._that_leave_enough(free & ~self.forbidden[slot], unpinned, slot)

    def _full(self, chosen: IntArray) -> BoolArray:
        """Return which candidates have a category that is full, [B, A]."""
        counted = self.members & (self.pins == _FREE)[:, None]
        full: BoolArray = counted[chosen].sum(axis=1) >= self.room  # [B, C]
        blocked: BoolArray = full @ self.members.T
        return blocked

    def _that_leave_enough(self, free: BoolArray, unpinned: BoolArray, slot: int) -> BoolArray:
        """Leave of [B, A] candidates for a slot those after which the slate can still become as long as it can now."""
        assert self.forbidden is not None
        own = ~np.isin(np.arange(slot, len(self.forbidden)), self.pins)
        places = ~self.forbidden[slot:][own]  # [slots, A] this one and the later ones that have no pin
        lasting = free.copy()
        for row in np.flatnonzero(free.any(axis=1)):
            lasting[row, _needed_later(places & unpinned[row])] = False
        # Of caps the matching knows nothing: where they leave only items that are needed later, the slate is shorter.
        return np.where(lasting.any(axis=1, keepdims=True), lasting, free)


def rules_constraint(
    candidates: Sequence[str], rules: Rules, exclusions: Sequence[Collection[str]] | None = None
) -> RulesConstraint | None:
    """Return the constraint that holds for slates of the candidates.

    Args:
        candidates: [A] item ids, in the order of the query's.
        rules: boosts and categories of items that are no candidates have no effect. A slot counts from 0.
        exclusions: of each slot, the items that it excludes; None: it is a list, whose slots are all alike.

    Returns:
        None where the rules ask for nothing, so that nothing need be checked.

    Raises:
        PolicyError: a pinned item is no candidate, is excluded by its slot, or shares its slot with another; a slot or
            a cap is negative.
    """
    if exclusions is not None and not any(exclusions):
        exclusions = None
    if exclusions is None and not (rules.pins or rules.boosts or rules.caps):
        return None
    at = {item: position for position, item in enumerate(candidates)}
    pins = _pins(rules.pins, at)
    if negative := {category: cap for category, cap in rules.caps.items() if cap < 0}:
        raise PolicyError(f"a cap is at least 0 items, got {negative}")
    members = np.zeros((len(candidates), len(rules.caps)), dtype=np.bool_)
    for column, category in enumerate(rules.caps):
        members[[at[item] for item, has in rules.categories.items() if category in has and item in at], column] = True
    caps = np.array(list(rules.caps.values()), dtype=np.int64)
    boosts = {at[item]: boost for item, boost in rules.boosts.items() if item in at}
    bias = np.zeros((1, len(candidates)))
    bias[0, list(boosts)] = list(boosts.values())
    constraint = RulesConstraint(
        bias=bias if boosts else None,
        pins=pins,
        members=members,
        room=np.maximum(caps - members[pins != _FREE].sum(axis=0), 0),
    )
    return constraint if exclusions is None else replace(constraint, forbidden=_exclude(exclusions, at, rules.pins))


def _pins(given: Mapping[str, int], at: Mapping[str, int]) -> IntArray:
    """Return the slot of each candidate, [A]."""
    pins = np.full(len(at), _FREE, dtype=np.int64)
    pinned: dict[int, str] = {}
    for item, slot in given.items():
        if item not in at:
            raise PolicyError(f"item {item!r} is pinned to slot {slot} and is no candidate")
        if slot < 0:
            raise PolicyError(f"slots count from 0, item {item!r} is pinned to {slot}")
        if slot in pinned:
            raise PolicyError(f"items {pinned[slot]!r} and {item!r} are both pinned to slot {slot}")
        pins[at[item]], pinned[slot] = slot, item
    return pins


def _exclude(exclusions: Sequence[Collection[str]], at: Mapping[str, int], pins: Mapping[str, int]) -> BoolArray:
    """Return which candidates each slot excludes, [K, A]."""
    forbidden = np.zeros((len(exclusions), len(at)), dtype=np.bool_)
    for slot, items in enumerate(exclusions):
        forbidden[slot, [at[item] for item in items if item in at]] = True
    for item, slot in pins.items():
        if slot < len(exclusions) and forbidden[slot, at[item]]:
            raise PolicyError(f"item {item!r} is pinned to slot {slot}, which excludes it")
    return forbidden


def _needed_later(places: BoolArray) -> list[int]:
    """Return the items without which fewer of the places [slots, A] after the first one could be filled in a row."""
    later = places[1:]
    if not len(later) or later.sum(axis=1).min() > len(later):  # whatever is taken, each has an item of its own
        return []
    longest = next(n for n in range(len(places), -1, -1) if (_match(places[:n]) >= 0).all())
    later = places[1:longest]
    needed = []
    for item in _match(later):  # no other is: this matching does without
        without = later.copy()
        without[:, item] = False
        if (_match(without) < 0).any():
            needed.append(int(item))
    return needed


def _match(places: BoolArray) -> IntArray:
    """Give as many of the places [slots, A] as possible an item each, [slots]; -1 is none."""
    # Loaded when it is needed: only slots that exclude items need it.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    matched: IntArray = maximum_bipartite_matching(csr_array(places), perm_type="column")
    return matched
