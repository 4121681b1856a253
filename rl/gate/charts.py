"""Charts as SVG that stands in a page: curves, intervals and bars, nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 76, 16, 14, 34
_TICKS = 5


@dataclass(frozen=True)
class Curve:
    """Points that a line goes through; where y is None it is broken."""

    name: str
    color: str
    x: Sequence[float]
    y: Sequence[float | None]
    dashed: bool = False


@dataclass(frozen=True)
class Span:
    """An interval with a value in it, a bound of its own, and what that must be above."""

    name: str
    value: float
    low: float
    high: float
    bound: float | None
    needed: float
    good: bool


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float) -> "_Axis":
        low, high = min(values), max(values)
        room = 0.06 * (high - low) or max(abs(high), 1.0) * 0.1
        return cls(low - room, high + room, start, end)

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        step = 10 ** np.floor(np.log10((self.high - self.low) / _TICKS))
        step *= next(f for f in (1, 2, 5, 10) if (self.high - self.low) / (step * f) <= _TICKS)
        first = np.ceil(self.low / step) * step
        return [round(float(tick), 12) + 0.0 for tick in np.arange(first, self.high, step)]


def curves(title: str, of: Sequence[Curve], x_label: str, height: int = 260) -> str:
    """Draw lines over one axis, with a legend."""
    xs = [x for one in of for x in one.x]
    ys = [y for one in of for y in one.y if y is not None]
    if not ys:
        return ""
    x, y = _Axis.of(xs, _LEFT, _WIDTH - _RIGHT), _Axis.of([*ys], height - _BOTTOM, _TOP + 18)
    parts = [*_grid_y(y), *_grid_x(x, height, x_label)]
    for number, one in enumerate(of):
        dash = ' stroke-dasharray="6 4"' if one.dashed else ""
        for run in _runs(one):
            points = " ".join(f"{x.at(a):.1f},{y.at(b):.1f}" for a, b in run)
            line = f'fill="none" stroke="{one.color}" stroke-width="2"{dash}'
            parts.append(f'<polyline points="{points}" {line}/>')
        at = _LEFT + 8 + 190 * number
        parts.append(f'<line x1="{at}" y1="12" x2="{at + 22}" y2="12" stroke="{one.color}" stroke-width="2"{dash}/>')
        parts.append(f'<text x="{at + 28}" y="16">{escape(one.name)}</text>')
    return _svg(title, height, parts)


def spans(title: str, of: Sequence[Span]) -> str:
    """Draw an interval a row, all over one axis; a diamond is the bound, a bar what it must be above."""
    left, height = 250, _TOP + 26 * len(of) + _BOTTOM
    ends = [v for one in of for v in (one.low, one.high, one.needed, 0.0, *([] if one.bound is None else [one.bound]))]
    x = _Axis.of(ends, left, _WIDTH - _RIGHT)
    zero = f'<line x1="{x.at(0):.1f}" y1="{_TOP}" x2="{x.at(0):.1f}" y2="{height - _BOTTOM}" class="zero"/>'
    parts = [*_grid_x(x, height, "reward of a decision, challenger minus champion"), zero]
    for row, one in enumerate(of):
        y, color = _TOP + 26 * row + 13, "#1a7f4b" if one.good else "#b3261e"
        parts.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{escape(_short(one.name))}</text>')
        low, high = x.at(one.low), x.at(one.high)
        parts.append(f'<line x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" stroke="{color}" stroke-width="3"/>')
        parts.append(f'<circle cx="{x.at(one.value):.1f}" cy="{y}" r="4" fill="{color}"/>')
        needed = x.at(one.needed)
        parts.append(f'<line x1="{needed:.1f}" y1="{y - 8}" x2="{needed:.1f}" y2="{y + 8}" stroke="#555"/>')
        if one.bound is not None:
            at = x.at(one.bound)
            parts.append(f'<path d="M{at - 5:.1f} {y} l5 -5 5 5 -5 5z" fill="#fff" stroke="{color}"/>')
    return _svg(title, height, parts)


def bars(title: str, names: Sequence[str], of: Sequence[Sequence[float]], colors: Sequence[str]) -> str:
    """Draw shares by group, one bar beside the other."""
    height, wide = 220, (_WIDTH - _LEFT - _RIGHT) / len(names)
    y = _Axis(0.0, max(max(shares) for shares in of) * 1.05 or 1.0, height - _BOTTOM, _TOP)
    parts, each = _grid_y(y), 0.8 * wide / len(of)
    for column, name in enumerate(names):
        left = _LEFT + column * wide + 0.1 * wide
        middle = f'x="{left + 0.4 * wide:.1f}" y="{height - _BOTTOM + 16}"'
        parts.append(f'<text {middle} text-anchor="middle">{escape(name)}</text>')
        for number, (shares, color) in enumerate(zip(of, colors, strict=True)):
            top, at = y.at(shares[column]), left + number * each
            size = f'width="{each - 1:.1f}" height="{y.start - top:.1f}"'
            parts.append(f'<rect x="{at:.1f}" y="{top:.1f}" {size} fill="{color}"/>')
    return _svg(title, height, parts)


def _runs(curve: Curve) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(curve.x, curve.y, strict=True):
        if y is not None:
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _grid_y(axis: _Axis) -> list[str]:
    parts = []
    for tick in axis.ticks():
        at = axis.at(tick)
        parts.append(f'<line x1="{_LEFT}" y1="{at:.1f}" x2="{_WIDTH - _RIGHT}" y2="{at:.1f}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>')
    return parts


def _grid_x(axis: _Axis, height: int, label: str) -> list[str]:
    parts = []
    for tick in axis.ticks():
        at = axis.at(tick)
        parts.append(f'<line x1="{at:.1f}" y1="{_TOP}" x2="{at:.1f}" y2="{height - _BOTTOM}" class="grid"/>')
        parts.append(f'<text x="{at:.1f}" y="{height - _BOTTOM + 15}" text-anchor="middle">{tick:,.10g}</text>')
    middle = (axis.start + axis.end) / 2
    parts.append(f'<text x="{middle:.1f}" y="{height - 3}" text-anchor="middle" class="label">{escape(label)}</text>')
    return parts


def _svg(title: str, height: int, parts: Sequence[str]) -> str:
    box = f'viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}"'
    return f"<figure><figcaption>{escape(title)}</figcaption><svg {box}>{''.join(parts)}</svg></figure>"


def _short(text: str) -> str:
    return text if len(text) <= 34 else f"{text[:33]}…"
