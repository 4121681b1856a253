"""What an algorithm's learner holds."""

from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID


def learner_module(algorithm: Algorithm) -> Any:
    """Return the RLModule of an algorithm's learner: itself, or a copy where the learner is in another process."""
    found = algorithm.learner_group.foreach_learner(lambda learner: learner.module[DEFAULT_MODULE_ID].unwrapped())
    return next(iter(found)).get()
