"""Intervals on one axis, as shares of the width of a drawing; curves as the charts of pages take them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from rl.evaluation.abtests import scorecard
from rl.gate.comparison import WEIGHTS, Bound, Comparison

_CROWDED: Final = 6.0
"""The axis reaches at most this many times as far as the narrowest interval: a wide one ends at its edge."""
_GOOD, _BAD = {"better", "holds"}, {"worse", "broken"}


class Interval(Protocol):
    """A value with its interval."""

    @property
    def value(self) -> float:
        """What is most likely."""
        ...

    @property
    def low(self) -> float:
        """Its lower end."""
        ...

    @property
    def high(self) -> float:
        """Its upper end."""
        ...


@dataclass(frozen=True)
class Bar:
    """An interval in a drawing that is 100 wide."""

    low: float
    value: float
    high: float
    zero: float
    """Where nothing differs."""
    beyond: bool
    """It reaches further than is drawn."""
    margin: float | None = None
    """What must not be crossed; None: nothing, or it is beyond what is drawn."""

    @classmethod
    def of(
        cls,
        low: float,
        value: float,
        high: float,
        axis: tuple[float, float],
        zero: float | None = None,
        margin: float | None = None,
    ) -> "Bar":
        """Place an interval on an axis from one number to another, and what is even: default, the middle."""
        first, last = axis
        width = last - first or 1.0

        def place(number: float) -> float:
            return round(100 * min(max((number - first) / width, 0.0), 1.0), 2)

        even = (first + last) / 2 if zero is None else zero
        inside = margin is not None and first <= margin <= last
        return cls(
            place(low),
            place(value),
            place(high),
            place(even),
            low < first or high > last,
            place(margin) if inside and margin is not None else None,
        )


@dataclass(frozen=True)
class Row:
    """A variant beside the control by one metric."""

    metric: str
    role: str
    variant: str
    segment: str | None
    finding: str
    light: str
    """good, bad or nothing."""
    control_mean: float
    mean: float
    relative: bool
    """Whether `found` is a share of the control's mean."""
    found: Interval | None
    bar: Bar | None
    interval: str
    level: float
    adjusted: bool


def draw_rows(rows: Sequence[scorecard.Row]) -> tuple[Row, ...]:
    """Return rows of a scorecard with their lifts on one axis, which is as wide to both sides."""
    axis = _axis([row.lift for row in rows if row.lift is not None])
    return tuple(_draw(row, axis) for row in rows)


def _draw(row: scorecard.Row, axis: tuple[float, float]) -> Row:
    lift, bar = row.lift, None
    if lift is not None:
        margin = row.margin / row.control_mean if row.margin is not None and row.control_mean else None
        bar = Bar.of(lift.low, lift.value, lift.high, axis, margin=margin)
    return Row(
        metric=row.metric,
        role=row.role,
        variant=row.variant,
        segment=row.segment,
        finding=row.finding,
        light=_light(row.finding),
        control_mean=row.control_mean,
        mean=row.mean,
        relative=lift is not None,
        found=lift if lift is not None else row.difference,
        bar=bar,
        interval=row.interval,
        level=1 - row.alpha,
        adjusted=row.adjusted,
    )


def _light(finding: str) -> str:
    return "good" if finding in _GOOD else "bad" if finding in _BAD else ""


def _axis(found: Iterable[Interval]) -> tuple[float, float]:
    reaches = [max(abs(one.low), abs(one.high)) for one in found]
    if not reaches:
        return -1.0, 1.0
    reach = 1.05 * min(max(reaches), _CROWDED * max(min(reaches), 1e-9))
    return -reach, reach


@dataclass(frozen=True)
class DrawnBound:
    """A bound of the gate's report with its difference on one axis."""

    bound: Bound
    bar: Bar | None


def draw_bounds(comparison: Comparison) -> tuple[DrawnBound, ...]:
    """Return all bounds of a comparison, the one of all decisions first."""
    bounds = (comparison.all, *comparison.guarded)
    axis = _axis([one.difference for one in bounds if one.difference is not None])
    return tuple(DrawnBound(one, _bar(one, axis)) for one in bounds)


def _bar(bound: Bound, axis: tuple[float, float]) -> Bar | None:
    found = bound.difference
    return None if found is None else Bar.of(found.low, found.value, found.high, axis, margin=bound.needed)


def draw_looks(comparison: Comparison) -> Mapping[str, Any]:
    """Return the difference by decisions so far, with the bound that decides, as a chart."""
    looks = comparison.looks
    last = looks[-1]
    final = last.lower if last.lower is not None else 0.0
    least = min(final, 0.0) - 4 * max(abs(last.difference - final), 1e-12)  # first bounds are far below all else
    lower = [look.lower if look.lower is not None and look.lower >= least else None for look in looks]
    return {
        "x": [look.decisions for look in looks],
        "series": [
            {"label": "difference", "values": [look.difference for look in looks]},
            {"label": "lower bound at all looks", "values": lower},
            {"label": "margin", "values": [comparison.all.needed] * len(looks)},
        ],
    }


def draw_rewards(comparison: Comparison) -> Mapping[str, Any]:
    """Return what challenger and log have earned between looks, as a chart."""
    looks = comparison.looks
    return {
        "x": [look.decisions for look in looks],
        "series": [
            {"label": "challenger, estimated", "values": [look.challenger for look in looks]},
            {"label": "as logged", "values": [look.champion for look in looks]},
        ],
    }


def draw_weights(comparison: Comparison) -> list[tuple[str, float, float]]:
    """Return the importance weights: the bounds of each bin, and the share of the decisions of both policies in it."""
    names = ["0", *(f"to {edge:g}" for edge in WEIGHTS[1:]), f"above {WEIGHTS[-1]:g}"]
    bins = zip(names, comparison.challenger.bins, comparison.champion.bins, strict=True)
    return [(name, one / comparison.decisions, other / comparison.decisions) for name, one, other in bins]
