"""The learning curve as a picture. Imports matplotlib when it draws."""

from collections.abc import Mapping, Sequence
from pathlib import Path

Point = dict[str, float]
"""One point of a learning curve: `env_steps`, and the metrics that are known there by name."""


def draw_curve(path: Path, title: str, curve: Sequence[Point], ceilings: Mapping[str, float]) -> None:
    """Write a PNG of the returns against environment steps.

    Args:
        path: of the picture.
        title: above it.
        curve: `return` is drawn where it is known, `evaluation_return` with two standard errors to either side.
        ceilings: known returns by name, drawn as lines.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(title=title, xlabel="environment steps", ylabel="return of an episode")
    if acted := [(point["env_steps"], point["return"]) for point in curve if "return" in point]:
        axes.plot(*zip(*acted, strict=True), color="tab:grey", linewidth=1, label="while learning")
    if evaluated := [point for point in curve if "evaluation_return" in point]:
        axes.errorbar(
            [point["env_steps"] for point in evaluated],
            [point["evaluation_return"] for point in evaluated],
            [2 * point["evaluation_standard_error"] for point in evaluated],
            color="tab:blue",
            marker="o",
            markersize=3,
            label="evaluated, without exploration (± 2 standard errors)",
        )
    for name, value in ceilings.items():
        axes.axhline(value, color="tab:orange", linestyle="--", linewidth=1)
        axes.annotate(f"{name} {value:.3f}", (0, value), xycoords=("axes fraction", "data"), va="bottom", fontsize=8)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right")
    figure.savefig(path)
