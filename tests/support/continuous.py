"""A shop that is trained on continuously, and runs that are killed: `python -m tests.support.continuous SPEC STEP`."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from data.log.store import Store
from data.settings import Settings
from rl.config import parse_config
from rl.continuous.pipeline import FUNCTIONS, do_run
from rl.continuous.specification import ContinuousSpec
from rl.continuous.work import Work
from rl.gate import conformance
from rl.registry import register
from tests.support.clocks import Clock
from tests.support.gates import by_chance, learner, log_by_chance

SPEC = """
name = "drinks"
[trigger]
decisions = 1_000
[data]
least = 10
held_out = 0.5
[gate]
look = 250
slowdown = 1000.0
learn = false  # as trained: else the champion learns the log as well, as it would in service
"""
DECISIONS = 4_000


def make_home(home: Path) -> Path:
    """Log decisions that were made by chance, and let a policy that has learned nothing be the champion; its spec."""
    clock = Clock()
    with closing(Store.open(f"sqlite:///{home / 'store.db'}", clock)) as store:
        log_by_chance(store, clock, by_chance(home / "policies").digest, DECISIONS)
    learner(home / "policies")
    register(Settings(home=home), home / "policies" / "learner", "champion")
    (home / "spec.toml").write_text(SPEC)
    return home / "spec.toml"


def load_spec(path: Path, **fields: Any) -> ContinuousSpec:
    """Return the settings of a file, some of them changed."""
    return parse_config(ContinuousSpec, [str(path)]).model_copy(update=fields)


def killed_at(step: str, when: str) -> dict[str, Callable[[Work], dict[str, Any]]]:
    """Return the steps, of which one kills the process: before it begins, or `after` its work but before it is kept."""

    def die(work: Work) -> dict[str, Any]:
        if when == "after":
            FUNCTIONS[step](work)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("nobody is killed twice")

    return {**FUNCTIONS, step: die}


def main() -> None:
    """Do a run that is killed."""
    conformance._TIMED = 50
    spec = load_spec(Path(sys.argv[1]))
    do_run(spec, Settings(), killed_at(*sys.argv[2:4]) if len(sys.argv) > 2 else FUNCTIONS)


if __name__ == "__main__":
    main()
