"""The simulator of an experiment, and what is known of it. Light: no ray, no torch."""

from rl.simulators.batched import BatchedEnv
from rl.simulators.registry import make
from rl.training.errors import TrainingError
from rl.training.experiment import Environment


def environment(wanted: Environment, num_envs: int) -> BatchedEnv:
    """Make the simulator of an experiment.

    Raises:
        TrainingError: there is none of that name, or it does not take these options.
    """
    try:
        return make(wanted.name, num_envs, **wanted.options)
    except (ValueError, TypeError, OSError) as error:
        raise TrainingError(f"environment: {error}") from error


def ceilings(env: BatchedEnv) -> dict[str, float]:
    """Return what a simulator knows of the best that can be earned in it, by name; empty if it knows nothing."""
    known = getattr(env, "ceilings", None)
    return {name: float(value) for name, value in known().items()} if callable(known) else {}
