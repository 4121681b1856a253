"""What goes wrong on the way from a user to the log, at given rates: delays, duplicates, losses, another order, and
users whose interests change.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self, cast

import numpy as np

from data.errors import DataError

_DISTRIBUTIONS: dict[str, int] = {"fixed": 1, "uniform": 2, "exponential": 1, "lognormal": 2}
_Kind = Literal["fixed", "uniform", "exponential", "lognormal"]


@dataclass(frozen=True)
class Delay:
    """How long a report takes: "fixed:S", "uniform:LOW:HIGH", "exponential:MEAN", "lognormal:MEDIAN:SIGMA"; seconds."""

    kind: _Kind = "fixed"
    numbers: tuple[float, ...] = (0.0,)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one as it is written.

        Raises:
            DataError: it is none.
        """
        kind, *given = text.split(":")
        try:
            numbers = [float(part) for part in given]
        except ValueError:
            numbers = []
        right = len(numbers) == _DISTRIBUTIONS.get(kind) and all(0 <= number < math.inf for number in numbers)
        if not right or (kind == "uniform" and numbers[0] > numbers[1]):
            raise DataError(
                "a delay is fixed:S, uniform:LOW:HIGH, exponential:MEAN or lognormal:MEDIAN:SIGMA, in seconds from 0, "
                f"got {text!r}"
            )
        return cls(cast(_Kind, kind), tuple(numbers))

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one, in seconds."""
        match self.kind, self.numbers:
            case "fixed", (delay,):
                return delay
            case "uniform", (low, high):
                return float(rng.uniform(low, high))
            case "exponential", (mean,):
                return float(rng.exponential(mean))
            case "lognormal", (median, sigma):
                return float(median * np.exp(sigma * rng.standard_normal()))
        raise AssertionError("it was checked")


@dataclass(frozen=True)
class Disorder:
    """What becomes of each report; shares are of reports, each drawn on its own."""

    delay: Delay = Delay()
    late: float = 0.0
    """These come `late_by_s` later than their delay."""
    late_by_s: float = 0.0
    duplicates: float = 0.0
    """These are sent twice, the second time after a delay of its own, counted from the first."""
    lost: float = 0.0
    """These are never sent."""
    shuffled: float = 0.0
    """These come up to `shuffled_within_s` later, evenly, so that others overtake them."""
    shuffled_within_s: float = 5.0

    def fate(self, rng: np.random.Generator) -> tuple[bool, tuple[float, ...]]:
        """Draw what becomes of a report: whether it is late, and when it is sent, in seconds; never, once or twice."""
        lost, late, shuffled, twice = rng.random(4)
        due = self.delay.draw(rng)
        within, again = rng.uniform(0.0, self.shuffled_within_s), self.delay.draw(rng)
        if lost < self.lost:
            return False, ()
        if shuffled < self.shuffled:
            due += within
        if is_late := late < self.late:
            due += self.late_by_s
        return bool(is_late), (due, due + again) if twice < self.duplicates else (due,)


@dataclass(frozen=True)
class Shift:
    """From some visit on, some of the items change places in what users like."""

    at: int
    """The first visit of it."""
    share: float
    """Of the items."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one as it is written: "AT:SHARE".

        Raises:
            DataError: it is none.
        """
        at, _, share = text.partition(":")
        try:
            shift = cls(int(at), float(share))
        except ValueError:
            shift = cls(-1, 0.0)
        if shift.at < 0 or not 0 < shift.share <= 1:
            raise DataError(f"a shift is VISIT:SHARE, such as 4000:0.5, with a share up to 1, got {text!r}")
        return shift


@dataclass(frozen=True)
class Naming:
    """Names of items by number, and back."""

    names: tuple[str, ...]
    numbers: Mapping[str, int]


class Names:
    """Which name an item has on which visit: after a shift, the name of another one.

    Users ask for and are shown names, the simulator knows items by number. So a shift gives what was liked as one item
    another's name, and all that is known of the best that can be earned stays true.
    """

    def __init__(self, items: Sequence[str], shifts: Sequence[Shift], rng: np.random.Generator) -> None:
        names, self._namings = list(items), [(0, _naming(items))]
        for shift in sorted(shifts, key=lambda shift: shift.at):
            moved = rng.permutation(len(names))[: max(2, round(shift.share * len(names)))].tolist()
            taken = [names[number] for number in moved]
            for number, name in zip(moved, taken[1:] + taken[:1], strict=True):
                names[number] = name
            self._namings.append((shift.at, _naming(names)))

    def at(self, visit: int) -> Naming:
        """Return the names on a visit."""
        return next(naming for since, naming in reversed(self._namings) if since <= visit)


def _naming(names: Sequence[str]) -> Naming:
    return Naming(tuple(names), {name: number for number, name in enumerate(names)})
