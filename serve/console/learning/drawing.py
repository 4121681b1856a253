"""Curves and boards as what pages draw: data of charts, and lines of small pictures in SVG."""

import json
import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from data.fields import from_us
from rl.evaluation.board.curves import Curves
from rl.evaluation.board.tally import Change
from rl.policy.arrays import FloatArray

WIDTH: Final = 100
HEIGHT: Final = 24
LEAST: Final = 3
_FEW: Final = 0.1
"""Of the most decisions that a bucket has: the means of buckets with fewer would be all that one sees."""
_DIGITS: Final = 6


def chart(x: Sequence[float], series: Sequence[dict[str, Any]], **options: Any) -> str:
    """Return the data of a chart as `console.js` takes it, numbers with as many digits as one can see."""
    return json.dumps({"x": list(x), "series": list(series), **options}, allow_nan=False)


def values(found: FloatArray) -> list[float | None]:
    """Return numbers for a chart; None where there is none."""
    return [float(f"{one:.{_DIGITS}g}") if math.isfinite(one) else None for one in found.tolist()]


def reward_chart(curves: Curves) -> str:
    """Return the chart of mean rewards."""
    series = []
    for curve in curves.curves:
        line = curve.over_time
        few = line.count < max(LEAST, _FEW * float(line.count.max()))
        value, low, high = (values(np.where(few, np.nan, found)) for found in (line.value, line.low, line.high))
        series.append({"label": curve.name, "values": value, "low": low, "high": high})
    return chart(_middles(curves), series, time=True)


def regret_chart(curves: Curves) -> str:
    """Return the chart of regret, added up."""
    series = [
        {
            "label": curve.name,
            "values": values(curve.regret.value),
            "low": values(curve.regret.low),
            "high": values(curve.regret.high),
        }
        for curve in curves.curves
        if curve.regret is not None
    ]
    return chart(_middles(curves), series, time=True, digits=0)


def exploration_chart(curves: Curves) -> str:
    """Return the chart of how much was left to chance."""
    series = [{"label": curve.name, "values": values(curve.exploration)} for curve in curves.curves]
    return chart(_middles(curves), series, time=True, percent=True)


def _middles(curves: Curves) -> list[float]:
    return [round(start + curves.width_us / 2) / 1e6 for start in curves.starts_us.tolist()]


class Mark(NamedTuple):
    """A change of version on the time line."""

    x: float
    """From 0 to `WIDTH`."""
    change: Change
    row: int
    """Of its policy."""


def place_marks(changes: Sequence[Change], curves: Curves) -> tuple[list[Mark], list[str]]:
    """Return where changes are on the time line, and the policies that have rows there."""
    policies = list(dict.fromkeys(change.policy for change in changes))
    if not len(curves.starts_us):
        return [], policies
    begin = int(curves.starts_us[0])
    span = int(curves.starts_us[-1]) + curves.width_us - begin
    marks = [
        Mark(round(WIDTH * (change.time_us - begin) / span, 2), change, policies.index(change.policy))
        for change in changes
    ]
    return marks, policies


def sparkline(found: FloatArray) -> str:
    """Return the line of numbers from 0 to their largest, as the points of an SVG polyline; "": there is none."""
    there = np.flatnonzero(np.isfinite(found))
    if not len(there):
        return ""
    top = max(float(found[there].max()), 1e-12)
    last = max(len(found) - 1, 1)
    points = [(WIDTH * at / last, HEIGHT - 2 - (HEIGHT - 4) * float(found[at]) / top) for at in there.tolist()]
    if len(points) == 1:
        points = [(0.0, points[0][1]), (float(WIDTH), points[0][1])]
    return " ".join(f"{x:.4g},{y:.4g}" for x, y in points)


class Axis(NamedTuple):
    """The numbers that whiskers are drawn between."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Return where a number is, from 0 to `WIDTH`; what is beyond is at the edge."""
        return round(WIDTH * min(max((value - self.low) / (self.high - self.low), 0.0), 1.0), 2)


def find_axis(ends: Sequence[float | None]) -> Axis:
    """Return the axis that holds numbers, and 0."""
    known = [0.0, *(end for end in ends if end is not None and math.isfinite(end))]
    low, high = min(known), max(known)
    room = 0.05 * (high - low) or 1.0
    return Axis(low - (room if low < 0 else 0.0), high + room)


def moment(us: int) -> Any:
    """Return microseconds as a time."""
    return from_us(us)
