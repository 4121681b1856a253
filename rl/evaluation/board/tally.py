"""What was shown and what it earned, added up. Sums add: what was added can be corrected by what it has become."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from rl.evaluation.board.timeline import Timeline
from rl.policy.arrays import FloatArray, IntArray

COUNT: Final = 0
"""Field of sums: how many."""
SUM: Final = 1
"""Field of sums: of rewards."""
SQUARES: Final = 2
"""Field of sums: of squared rewards."""
SLOTS: Final = 3
"""Field of sums of decisions: slots that were seen."""
ELSEWHERE: Final = 4
"""Field of sums of decisions: of the probabilities that a slot, drawn again, would have shown another item."""
BEST: Final = 5
"""Field of sums of decisions: of what an oracle would have earned, where somebody who knows has reported it."""
KNOWN: Final = 6
"""Field of sums of decisions: of how many that was reported."""
DECISION_FIELDS: Final = 7

BUCKETS: Final = 240
ITEM_BUCKETS: Final = 40
MOST_ARMS: Final = 64
MOST_ITEMS: Final = 20_000
OTHERS: Final = ""
"""The item that stands for those that are beyond `MOST_ITEMS`, and the policy for those beyond `MOST_ARMS`."""


class Arm(NamedTuple):
    """Who has decided."""

    policy: str
    abtest: str | None = None
    variant: str | None = None


class Change(NamedTuple):
    """A policy has answered with another version: another artefact, or another fold."""

    time_us: int
    policy: str
    version: str
    """The artefact's digest and the fold's id, joined by a dot."""


@dataclass(frozen=True)
class Shown:
    """Decisions, with what they have earned: N of them, S slots that were seen."""

    times_us: IntArray
    """[N]"""
    arms: IntArray
    """[N] as `Tally.arm` numbers them."""
    rewards: FloatArray
    """[N]"""
    rows: IntArray
    """[S] of which decision a slot is."""
    items: IntArray
    """[S] as `Tally.item` numbers them."""
    slot_rewards: FloatArray
    """[S]"""
    propensities: FloatArray
    """[S]"""
    best: FloatArray
    """[N] what an oracle would have earned, not a number where it is not known."""


class Tally:
    """Sums of all that was added."""

    def __init__(self) -> None:
        self.arms = dict[Arm, int]()
        self.item_numbers = dict[str, int]()
        self.decisions = Timeline(DECISION_FIELDS, BUCKETS)
        """By arm: the fields above."""
        self.items: FloatArray = np.zeros((0, 0, 3))
        """[arms, items, 3] of slots: COUNT, SUM, SQUARES."""
        self.shares = dict[int, Timeline]()
        """Of each arm, by item: how many slots have shown it."""
        self.changes = list[Change]()
        """In the order in which the log has them."""
        self._versions = dict[str, str]()

    def arm(self, arm: Arm) -> int:
        """Return the number of an arm, a new one where it is new."""
        if arm not in self.arms and len(self.arms) >= MOST_ARMS:
            arm = Arm(OTHERS)
        return self.arms.setdefault(arm, len(self.arms))

    def item(self, item: str) -> int:
        """Return the number of an item, a new one where it is new."""
        if item not in self.item_numbers and len(self.item_numbers) >= MOST_ITEMS:
            item = OTHERS
        return self.item_numbers.setdefault(item, len(self.item_numbers))

    def see_version(self, time_us: int, policy: str, version: str) -> None:
        """Note with which version a policy has answered, given as decisions have it."""
        begun = version.rpartition(".")[0]
        if self._versions.get(policy) != begun:
            self._versions[policy] = begun
            self.changes.append(Change(time_us, policy, begun))

    def add(self, shown: Shown, sign: float = 1.0) -> None:
        """Add decisions; by sign -1 take back what was added before."""
        if not len(shown.arms):
            return
        n, known = len(shown.arms), np.isfinite(shown.best)
        fields = np.empty((n, DECISION_FIELDS))
        fields[:, COUNT], fields[:, SUM], fields[:, SQUARES] = 1.0, shown.rewards, shown.rewards**2
        fields[:, SLOTS] = np.bincount(shown.rows, minlength=n)
        fields[:, ELSEWHERE] = np.bincount(shown.rows, 1 - shown.propensities, minlength=n)
        fields[:, BEST], fields[:, KNOWN] = np.where(known, shown.best, 0.0), known
        self.decisions.add(shown.arms, shown.times_us, sign * fields)
        self._add_items(shown, sign)

    def _add_items(self, shown: Shown, sign: float) -> None:
        arms, rewards = shown.arms[shown.rows], shown.slot_rewards
        shape = self.items.shape
        need = (max(shape[0], len(self.arms)), len(self.item_numbers))
        if need[0] > shape[0] or need[1] > shape[1]:
            grown = np.zeros((need[0], -(-need[1] // 64) * 64, 3))
            grown[: shape[0], : shape[1]] = self.items
            self.items = grown
        np.add.at(self.items, (arms, shown.items), sign * np.stack([np.ones_like(rewards), rewards, rewards**2], 1))
        times = shown.times_us[shown.rows]
        for arm in np.unique(arms).tolist():
            of = arms == arm
            line = self.shares.setdefault(arm, Timeline(1, ITEM_BUCKETS))
            line.add(shown.items[of], times[of], np.full((int(of.sum()), 1), sign))

    def numbers(self, policies: Sequence[str] | None = None) -> list[int]:
        """Return the numbers of the arms of some policies, or of all."""
        return [number for arm, number in self.arms.items() if policies is None or arm.policy in policies]
