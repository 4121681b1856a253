"""Pictures of what a policy believes, as inline SVG: the posterior of an item, before and after it has learned."""

import math
from collections.abc import Iterable, Sequence
from typing import Final

from markupsafe import Markup

from serve.explanations.estimates import Estimate

WIDTH: Final = 240
HEIGHT: Final = 56
_BASE: Final = HEIGHT - 6
_POINTS: Final = 48
_SPREAD: Final = 3.0
"""Standard deviations that are drawn to either side."""
_MARGIN: Final = 0.08

Span = tuple[float, float]


def span(estimates: Iterable[Estimate]) -> Span:
    """Return an axis on which all of these can be seen, so that what stands on it can be compared."""
    ends = [one.mean + side * _SPREAD * (one.sd or 0.0) for one in estimates for side in (-1, 1)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    margin = _MARGIN * (high - low) or 0.5
    return low - margin, high + margin


def posterior(now: Estimate, before: Estimate | None, axis: Span, label: str) -> Markup:
    """Return the picture of an estimate, with that from before behind it.

    Args:
        now: by what is known.
        before: by what was known when the item was last on the page; None: it was not.
        axis: the least and the greatest expected reward that are drawn.
        label: what it is, for who cannot see it.
    """
    parts = [Markup('<line class="axis" x1="0" x2="{}" y1="{}" y2="{}"/>').format(WIDTH, _BASE, _BASE)]
    if axis[0] < 0.0 < axis[1]:
        zero = _x(0.0, axis)
        parts.append(Markup('<line class="zero" x1="{}" x2="{}" y1="4" y2="{}"/>').format(zero, zero, _BASE))
    if before is not None:
        parts.append(_bell(before, axis, "before"))
    parts.append(_bell(now, axis, "now"))
    return _picture(parts, label, "posterior")


def trail(values: Sequence[float], label: str) -> Markup:
    """Return the picture of a number that changes, its newest value at the right."""
    low, high = min(values), max(values)
    size = (high - low) or 1.0
    step = WIDTH / max(len(values) - 1, 1)
    points = " ".join(
        f"{i * step:.1f},{_BASE - (value - low) / size * (HEIGHT - 14):.1f}" for i, value in enumerate(values)
    )
    last = points.rpartition(" ")[2].partition(",")
    parts = [
        Markup('<polyline class="line" points="{}"/>').format(points),
        Markup('<circle class="mean" cx="{}" cy="{}" r="4"/>').format(last[0], last[2]),
    ]
    return _picture(parts, label, "trail")


def _bell(one: Estimate, axis: Span, name: str) -> Markup:
    mean = _x(one.mean, axis)
    if not one.sd:
        mark = Markup('<line class="{} point" x1="{}" x2="{}" y1="10" y2="{}"/>')
        return mark.format(name, mean, mean, _BASE)
    xs = [one.mean + one.sd * _SPREAD * (2 * i / _POINTS - 1) for i in range(_POINTS + 1)]
    ys = [math.exp(-0.5 * ((x - one.mean) / one.sd) ** 2) for x in xs]
    path = " ".join(f"{_x(x, axis)},{_BASE - y * (HEIGHT - 12):.1f}" for x, y in zip(xs, ys, strict=True))
    shape = Markup(
        '<polygon class="{} bell" points="{},{} {} {},{}"/><line class="{} mean" x1="{}" x2="{}" y1="{}" y2="{}"/>'
    )
    return shape.format(name, _x(xs[0], axis), _BASE, path, _x(xs[-1], axis), _BASE, name, mean, mean, 6, _BASE)


def _x(value: float, axis: Span) -> str:
    return f"{(value - axis[0]) / (axis[1] - axis[0]) * WIDTH:.1f}"


def _picture(parts: Sequence[Markup], label: str, name: str) -> Markup:
    frame = Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}" preserveAspectRatio="none">{}</svg>')
    return frame.format(name, WIDTH, HEIGHT, label, Markup("").join(parts))
