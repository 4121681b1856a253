"""What an explanation consists of.

A score is explained as a sum: `base`, what is expected of an item of which no feature says anything, and what each
feature adds to it. By the methods "exact" and "table" the sum is the score up to rounding. By the others a feature's
part is what changes with it alone, and `error` says how far the sum is off.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Method: TypeAlias = Literal["exact", "table", "gradient", "leave_one_out"]
"""How contributions were found: from a sum that the score is; from the rows of a table that it is a mean of; a
feature's value times the score's derivative; the score less what it would be without the feature."""

EXACT: tuple[Method, ...] = ("exact", "table")
"""Those whose contributions add up to the score."""
CROSS = " × "
"""Between the names of features that were multiplied."""
TOP = 50
"""Features that are listed unless more, or fewer, are asked for."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the numbers of one visit's query are called."""

    features: tuple[str, ...] = ()
    """[F] columns of its dense features."""
    ids: Mapping[int, str] = field(default_factory=dict)
    """Its features by id, as far as they were said of this visit."""
    history: tuple[str, ...] = ()
    """[T] entries of its history."""

    def column(self, place: int) -> str:
        """Return the name of a dense feature; by its place where it has none."""
        return self.features[place] if place < len(self.features) else f"feature {place}"

    def of_id(self, feature: int) -> str:
        """Return the name of a feature by id; by its number where it has none."""
        return self.ids.get(feature, f"feature {feature:x}")

    def entry(self, place: int) -> str:
        """Return the name of an entry of the history; by its place where it has none."""
        return self.history[place] if place < len(self.history) else f"history {place}"


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one feature, or features multiplied with each other, add to a score."""

    names: tuple[str, ...]
    """Of the features: several where they were multiplied."""
    value: float
    """As the policy has it: after bounds, bases and weights."""
    contribution: float

    @property
    def name(self) -> str:
        """The names in one."""
        return CROSS.join(self.names)


@dataclass(frozen=True, slots=True)
class Share:
    """How much of the variance of what is expected comes with a feature."""

    names: tuple[str, ...]
    share: float
    """Of the variance; all shares add up to 1. Less than 0: that the feature is there makes it more certain."""

    @property
    def name(self) -> str:
        """The names in one."""
        return CROSS.join(self.names)


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How uncertain what is expected of an item is."""

    sd: float
    """Posterior standard deviation of the expected reward."""
    shares: tuple[Share, ...] = ()
    other_shares: float = 0.0
    """Sum of those that are not listed."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a table has of an item in a state, or in a wider context that the state is part of."""

    state: str
    value: float
    """What is expected there: the mean, drawn towards the value of the wider context."""
    mean: float | None
    """Of the rewards that were observed there; None: there were none."""
    count: float
    """Observations: how often the item was recommended there, as far as it was learned; of popularity, purchases."""


@dataclass(frozen=True, slots=True)
class ItemExplanation:
    """Why a policy expects what it expects of one item."""

    score: float
    """The expected reward."""
    base: float
    """What is expected where no feature says anything."""
    contributions: tuple[Contribution, ...] = ()
    """The largest first, by absolute value."""
    others: float = 0.0
    """Sum of the contributions that are not listed."""
    uncertainty: Uncertainty | None = None
    """None: the policy does not know."""
    table: tuple[Row, ...] = ()
    """The narrowest state first."""

    @property
    def error(self) -> float:
        """How far base and contributions are off the score."""
        return self.base + sum(one.contribution for one in self.contributions) + self.others - self.score


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a policy expects what it expects of some items of one visit."""

    method: Method
    items: tuple[ItemExplanation, ...]
    window: int | None = None
    """Of a policy that forgets: it answered by what so many last decisions have taught. None: by all that it has
    learned."""


def largest(contributions: Iterable[Contribution], top: int) -> tuple[tuple[Contribution, ...], float]:
    """Return those of the largest absolute values that are not 0, the largest first, and the sum of the others."""
    ranked = sorted(contributions, key=lambda one: -abs(one.contribution))
    listed = tuple(one for one in ranked[:top] if one.contribution)
    return listed, sum(one.contribution for one in ranked[top:])


def largest_shares(shares: Sequence[Share], top: int) -> tuple[tuple[Share, ...], float]:
    """Return the largest shares by absolute value that are not 0, the largest first, and the sum of the others."""
    ranked = sorted(shares, key=lambda one: -abs(one.share))
    listed = tuple(one for one in ranked[:top] if one.share)
    return listed, sum(one.share for one in ranked[top:])
