"""Evaluations in a process of their own, so that who answers meanwhile loses neither time nor memory to them.

The child is told what to do on its standard input: others see its arguments.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Literal, TypeAlias

from pydantic import BaseModel
from threadpoolctl import threadpool_limits

from data.log.store import Store
from data.settings import Settings

LONGEST_S = 6 * 3_600.0
"""After so long an evaluation is given up."""
_NICENESS = 10

log = logging.getLogger("raycommend.personalizer")


class Task(BaseModel):
    """What a child is to do."""

    kind: Literal["evaluation", "importance"]
    key: str
    settings: Settings


Run: TypeAlias = Callable[[Task], None]
"""Does a task; blocks."""


def run_child(task: Task) -> None:
    """Let a child do it, and wait for its end; that it failed is logged."""
    importable = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-m", "serve.api.personalizer.evaluations.child"]
    environment, text = {**os.environ, "PYTHONPATH": importable}, task.model_dump_json().encode()
    try:
        child = subprocess.run(
            command, input=text, env=environment, stdout=subprocess.DEVNULL, timeout=LONGEST_S, check=False
        )
    except subprocess.TimeoutExpired:
        log.error("%s %s was given up: it took more than %g s", task.kind, task.key, LONGEST_S)
        return
    if child.returncode:
        log.error("%s %s has failed with status %d", task.kind, task.key, child.returncode)


def run_here(task: Task) -> None:
    """Do it in this process.

    Raises:
        StoreError: the log does not answer.
    """
    # What evaluates takes seconds to load, and memory: who answers is spared both.
    from serve.api.personalizer.evaluations.work import work, work_on_importances

    do = work if task.kind == "evaluation" else work_on_importances
    with closing(Store.open(task.settings.store_url)) as store, threadpool_limits(1, "blas"):
        do(store, task.settings, task.key)


def main() -> None:
    """Do what standard input says."""
    os.nice(_NICENESS)
    run_here(Task.model_validate_json(sys.stdin.buffer.read()))


if __name__ == "__main__":
    main()
