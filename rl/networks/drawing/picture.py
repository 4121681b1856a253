"""The graph of a network as a picture.

One panel for the network, one for every network within it; data flows from left to right. All lengths are inches.
"""

from functools import cache
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve
from matplotlib.textpath import TextPath

from rl.networks.description.description import NetworkDescription
from rl.networks.drawing.layout import Edge, arrange
from rl.networks.drawing.panels import (
    Box,
    Panel,
    Role,
    panels,
)

_NAME, _SMALL, _TITLE = 10.0, 8.0, 12.0  # font sizes in points
_LINE = 0.17  # from one line of text to the next
_PAD, _GAP = 0.1, 0.18  # within a box, between boxes of a column
_BETWEEN, _MARGIN = 0.8, 0.3  # between columns, around a panel
_HEAD = 0.4  # of a panel, for its title
_DPI = 150
_COLOURS: dict[Role, tuple[str, str]] = {  # of a box and of its border
    "embedding": ("#fdf0d5", "#b7791f"),
    "input": ("#dbe9f6", "#2b6cb0"),
    "node": ("#f4f4f4", "#666666"),
    "network": ("#e9e1f5", "#6b46a8"),
    "output": ("#dff0df", "#2f7d32"),
}


def draw_network(description: NetworkDescription, path: Path) -> None:
    """Save the graph of a network as a picture; the ending of the path says as which kind, such as .png or .svg."""
    placed = [_Placed(panel) for panel in panels(description)]
    wide = max(panel.wide for panel in placed) + 2 * _MARGIN
    high = sum(panel.high + 2 * _MARGIN for panel in placed)
    figure = Figure(figsize=(wide, high), dpi=_DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, wide), ylim=(high, 0))  # y grows downwards
    axes.set_axis_off()
    top = 0.0
    for panel in placed:
        panel.draw(axes, top + _MARGIN)
        top += panel.high + 2 * _MARGIN
        if panel is not placed[-1]:
            axes.plot([_MARGIN, wide - _MARGIN], [top, top], color="#cccccc", linewidth=0.8)
    figure.savefig(path)


class _Placed:
    """A panel with the places of its boxes."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        heights = {name: len(box.lines) * _LINE + 2 * _PAD for name, box in panel.boxes.items()}
        self.heights = heights
        self.layout = arrange(panel.columns, panel.edges, heights, _GAP)
        self.widths = [0.0] * (max(panel.columns.values()) + 1)  # of columns
        for name, box in panel.boxes.items():
            column = panel.columns[name]
            self.widths[column] = max(self.widths[column], _box_width(box))
        self.left = [_MARGIN + sum(self.widths[:i]) + i * _BETWEEN for i in range(len(self.widths))]
        self.wide = max(self.left[-1] + self.widths[-1] - _MARGIN, _text_width(panel.title, _TITLE, bold=True))
        lowest = [self.layout.y[name] + heights[name] / 2 for name in heights]
        self.high = _HEAD + max(lowest + [y for route in self.layout.routes.values() for y in route])

    def draw(self, axes: Axes, top: float) -> None:
        """Draw below a height."""
        axes.text(_MARGIN, top, self.panel.title, fontsize=_TITLE, fontweight="bold", va="top")
        for edge in self.panel.edges:
            self._draw_edge(axes, edge, top + _HEAD)
        for name, box in self.panel.boxes.items():
            self._draw_box(axes, name, box, top + _HEAD)

    def _draw_box(self, axes: Axes, name: str, box: Box, top: float) -> None:
        column, high = self.panel.columns[name], self.heights[name]
        left, upper = self.left[column], top + self.layout.y[name] - high / 2
        fill, border = _COLOURS[box.role]
        shape = f"round,pad=0,rounding_size={0.06 if box.role != 'embedding' else 0.2}"
        shared = box.role == "embedding" and len(box.lines) > 2
        axes.add_patch(
            FancyBboxPatch(
                (left, upper),
                self.widths[column],
                high,
                boxstyle=shape,
                facecolor=fill,
                edgecolor=border,
                linewidth=2.2 if shared else 1.1,
                zorder=3,
            )
        )
        for i, line in enumerate(box.lines):
            axes.text(
                left + self.widths[column] / 2,
                upper + _PAD + (i + 0.5) * _LINE,
                line,
                fontsize=_SMALL if i else _NAME,
                fontweight="normal" if i else "bold",
                color="#333333" if i else "black",
                ha="center",
                va="center",
                zorder=4,
            )

    def _draw_edge(self, axes: Axes, edge: Edge, top: float) -> None:
        """Draw a line that bends between columns and runs level through those it passes."""
        source, target = edge
        start, y = self.panel.columns[source], top + self.layout.y[source]
        points, codes = [(self.left[start] + self.widths[start], y)], [Curve.MOVETO]
        ends = [top + passed for passed in [*self.layout.routes[edge], self.layout.y[target]]]
        for column, end in enumerate(ends, start + 1):
            x, to = points[-1][0], self.left[column]
            points += [((x + to) / 2, y), ((x + to) / 2, end), (to, end)]
            codes += [Curve.CURVE4] * 3
            if column < self.panel.columns[target]:
                points.append((to + self.widths[column], end))
                codes.append(Curve.LINETO)
            y = end
        from_table = self.panel.boxes[source].role == "embedding"
        axes.add_patch(
            FancyArrowPatch(
                path=Curve(points, codes),
                arrowstyle="-|>",
                mutation_scale=11,
                linewidth=1.1,
                linestyle=(0, (4, 2)) if from_table else "solid",
                color=_COLOURS["embedding"][1] if from_table else "#555555",
                zorder=2,
            )
        )


def _box_width(box: Box) -> float:
    widths = [_text_width(line, _SMALL if i else _NAME, bold=not i) for i, line in enumerate(box.lines)]
    return max(widths) + 3 * _PAD


@cache
def _text_width(text: str, size: float, bold: bool) -> float:
    font = FontProperties(weight="bold" if bold else "normal")
    return float(TextPath((0, 0), text, size=size, prop=font).get_extents().width) / 72  # points in an inch
