"""One module for the runner and the learner of an algorithm, where both are in this process."""

from typing import Any

from rl.algorithms.learners import learner_module


def share_module(algorithm: Any) -> bool:
    """Let the runner act with the learner's own module: then there are no weights to copy.

    Returns:
        Whether they are in one process, so that it does.
    """
    shared = not algorithm.env_runner_group.num_remote_workers() and bool(algorithm.learner_group.is_local)
    if shared:
        algorithm.env_runner.module = learner_module(algorithm)
    return shared
