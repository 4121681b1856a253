"""Where a training is, on standard error: a bar on a terminal, a line every few seconds elsewhere."""

import sys
from collections.abc import Mapping
from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

_EVERY_S = 5.0  # between two plain lines


class Display:
    """Shows one training. Used as a context.

    Args:
        name: of the training.
        total: environment steps that it will take.
    """

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total = name, total
        console = Console(file=sys.stderr)
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TaskProgressColumn(),
                TextColumn("{task.fields[said]}"),
                console=console,
            )
            self._task = self._bar.add_task(name, total=total, said="")
        self._said = -_EVERY_S

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Say what is being done now."""
        if self._bar:
            self._bar.update(self._task, said=text)
        else:
            print(f"{self._name}: {text}", file=sys.stderr, flush=True)

    def update(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Show how far the training is, and what it has earned; see `format_progress`."""
        text = format_progress(env_steps, self._total, values)
        if self._bar:
            self._bar.update(self._task, completed=env_steps, said=text)
        elif monotonic() - self._said >= _EVERY_S or "evaluation_return" in values or env_steps >= self._total:
            self._said = monotonic()
            self.say(text)


def format_progress(env_steps: int, total: int, values: Mapping[str, float]) -> str:
    """Return a line like `12,800/200,000 env steps  return 5.12  epsilon 0.81  2,310 env steps/s  ETA 0:01:21`.

    Args:
        env_steps: taken.
        total: to be taken.
        values: of which `return`, `evaluation_return`, `epsilon` and `env_steps_per_s` are shown.
    """
    parts = [f"{env_steps:,}/{total:,} env steps"]
    for name, title in (("return", "return"), ("evaluation_return", "evaluated"), ("epsilon", "epsilon")):
        if (value := values.get(name)) is not None and value == value:
            parts.append(f"{title} {value:.3g}" if name == "epsilon" else f"{title} {value:.3f}")
    if rate := values.get("env_steps_per_s"):
        left = timedelta(seconds=round(max(0, total - env_steps) / rate))
        parts += [f"{rate:,.0f} env steps/s", f"ETA {left}"]
    return "  ".join(parts)
