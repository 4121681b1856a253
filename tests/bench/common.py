"""What the benches share: the line of figures that each prints last, and the picture of its curve."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data.settings import Settings
from tests.bench.table import digest, read_rows


def finish(bench: str, figures: Mapping[str, float], peers: Mapping[str, float], seeds: int) -> None:
    """Print the figures as one JSON object and keep it as `bench/NAME.json` in the home.

    `code` is a digest of the code that the bench measures, by which `tests.bench.table` sees that it has changed.
    """
    machine = {"cores": os.cpu_count(), "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")}
    result = {
        "bench": bench,
        "figures": figures,
        "peers": peers,
        "seeds": seeds,
        "commit": commit(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "code": digest(read_rows().code[bench]),
        "machine": machine,
    }
    (folder() / f"{bench}.json").write_text(json.dumps(result) + "\n")
    print(json.dumps(result), flush=True)


def plot(
    bench: str, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str, **lines: float
) -> None:
    """Save curves (x and y values by label), with horizontal lines by name, as `bench/NAME.png` in the home."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel=x, ylabel=y, title=bench)
    for label, (xs, ys) in curves.items():
        axes.plot(xs, ys, label=label)
    for name, height in lines.items():
        axes.axhline(height, linestyle="--", linewidth=1, color="grey")
        axes.annotate(name.replace("_", " "), (1, height), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(folder() / f"{bench}.png", dpi=120)


def folder() -> Path:
    """Return the folder that benches write to."""
    path = Settings().home / "bench"
    path.mkdir(parents=True, exist_ok=True)
    return path


def commit() -> str:
    """Return the commit that is checked out, with a + if files differ from it."""
    done = subprocess.run(["git", "describe", "--always", "--dirty=+"], check=False, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)
