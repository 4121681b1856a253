"""`python -m tests.support.faults.die STEP ARGUMENTS...`: `rl.train`, killed with SIGKILL in the middle of a step."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from rl import train


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _after(function: Callable[..., Any], calls: int = 1) -> Callable[..., Any]:
    """Return a function that ends with the process when it has been called so often."""
    left = iter(range(calls - 1))

    def called(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named)
        if next(left, None) is None:
            _die()
        return result

    return called


def _unnamed(replace: Callable[..., Any], calls: int = 1) -> Callable[..., Any]:
    """Return what gives a folder to fill, which is then filled and never takes its place."""

    @contextmanager
    def given(path: Path) -> Iterator[Path]:
        with replace(path) as new:
            yield new
            _die()

    return given


STEPS: Final[Mapping[str, tuple[str, str, Callable[..., Any], int]]] = {
    "sampling": ("rl.algorithms.dqn.algorithm", "DQN._sample", _after, 30),
    "learning": ("rl.algorithms.dqn.algorithm", "DQN._update", _after, 60),
    "evaluating": ("rl.training.run.rllib", "play", _after, 1),
    "checkpointing": ("rl.training.run.runs", "replace_folder", _unnamed, 1),
    "saving": ("rl.artefacts.artefact", "replace_folder", _unnamed, 1),
    "registering": ("mlflow.tracking", "MlflowClient.set_terminated", _after, 2),
    "promoting": ("mlflow.tracking", "MlflowClient.create_model_version", _after, 1),
}
"""By name: of which module what is replaced, by what, and after how many calls the process ends."""


def main() -> None:
    """Train, and die."""
    step, *arguments = sys.argv[1:]
    module, path, how, calls = STEPS[step]
    owner, *names = import_module(module), *path.split(".")
    for name in names[:-1]:
        owner = getattr(owner, name)
    setattr(owner, names[-1], how(getattr(owner, names[-1]), calls))
    sys.exit(train.main(arguments))


if __name__ == "__main__":
    main()
