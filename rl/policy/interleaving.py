"""Team-draft interleaving: two policies fill a slate together, and it is known who chose what, and with what chance.

The slots are filled in pairs. A coin says which policy chooses first in a pair; the other chooses the second slot. Each
draws from its own distribution over what is left, as it fills a slate alone. Whoever chose a slot gets what it earns.

What is logged of a slot is the probability of its item given the items in the slots before it, over both policies'
draws and the coins (not given the coins, which nobody who evaluates another policy knows). With p_t(i) the
probability that policy t draws item i there, of the first slot of a pair it is (p_1(i) + p_2(i)) / 2. Of the second,
the first's item says something of the coin: policy t has chosen the first, i, with probability c_t = p_t(i) / (p_1(i)
+ p_2(i)), so that it is c_1 p_2(j) + c_2 p_1(j). Coins of other pairs say nothing: what a policy draws depends on the
items that are gone, not on who took them.

Source: Radlinski, Kurup and Joachims 2008, "How does clickthrough data reflect retrieval quality?", section 4.2, for
rankings; with draws in their place as here, the expected credit of two equal policies is equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rl.policy.arrays import BoolArray, FloatArray
from rl.policy.draws import sample
from rl.policy.interface import Constraint, Policy
from rl.policy.queries import Query, Slates

Pair: TypeAlias = tuple[FloatArray, FloatArray]
"""Of each policy the distribution [1, A] of the next slot."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One slate of two policies."""

    slates: Slates
    teams: tuple[int, ...]
    """Of each slot, which policy has chosen it: 0 or 1."""


def marginal(first: float, p: Pair) -> FloatArray:
    """Return the distribution [1, A] of a slot, if the first policy chooses it with a probability."""
    mixed: FloatArray = first * p[0] + (1.0 - first) * p[1]
    return mixed


def second_chance(p: Pair, item: int) -> float:
    """Return the probability that the first policy chooses the second slot of a pair, given the item of the first."""
    return float(p[1][0, item] / (p[0][0, item] + p[1][0, item]))


def draft(
    policies: Sequence[Policy],
    queries: Sequence[Query],
    k: int,
    rng: np.random.Generator,
    constraint: Constraint | None = None,
) -> Draft:
    """Fill one slate of k slots at most; under a constraint it ends where no candidate is allowed.

    Args:
        policies: two.
        queries: one visit as each policy sees it, with the same candidates.
        k: slots; fewer are filled where there are fewer candidates.
        rng: gives each policy's draws, the coins, and a number a slot.
        constraint: what holds whatever the policies think.

    Raises:
        ValueError: there are not two policies with a query each, of one visit.
    """
    if len(policies) != 2 or len(queries) != 2 or any(len(query) != 1 for query in queries):
        raise ValueError(f"expected two policies with a query of one visit each, got {len(policies)}, {len(queries)}")
    both = [policy.score(query, rng) for policy, query in zip(policies, queries, strict=True)]
    if constraint is not None and constraint.bias is not None:
        bias = constraint.bias
        both = [(scores + bias[:, None, :], expected + bias) for scores, expected in both]
    left: BoolArray = queries[0].mask & queries[1].mask
    chosen, chances, teams, worth = list[int](), list[float](), list[int](), list[float]()
    first = np.zeros(left.shape)
    turn, chance = 0, 0.5
    for slot in range(k):
        so_far = np.array([chosen], dtype=np.int64).reshape(1, -1)
        allowed = left if constraint is None else constraint.allowed(left, slot, so_far)
        if not allowed.any():
            break
        p = (
            policies[0].explorer.probabilities(both[0][0], allowed),
            policies[1].explorer.probabilities(both[1][0], allowed),
        )
        if slot % 2 == 0:
            turn, chance = int(rng.random() < 0.5), 0.5
        else:
            turn = 1 - turn
        item = int(sample(p[turn], rng)[0])
        mixed = marginal(chance, p)
        first = mixed if slot == 0 else first
        chosen.append(item)
        chances.append(float(mixed[0, item]))
        teams.append(turn)
        worth.append(float(both[turn][1][0, item]))
        chance = second_chance(p, item)
        left = left.copy()
        left[0, item] = False
    slates = Slates(
        np.array([chosen], dtype=np.int64).reshape(1, -1),
        np.array([chances]).reshape(1, -1),
        np.array([worth]).reshape(1, -1),
        first,
    )
    return Draft(slates, tuple(teams))
