"""The Ray that a training works on, without what RLlib says of itself."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from data.cluster import start_ray


@contextmanager
def ray_session(cpus: float) -> Iterator[None]:
    """Give a Ray, as `data.cluster.start_ray` does, and end it if it was not there before.

    Args:
        cpus: that a new one must have at least.
    """
    quiet()
    started = start_ray(cpus)
    try:
        yield
    finally:
        if started:
            ray.shutdown()


def quiet() -> None:
    """Keep what RLlib says of its own transition to another API off the terminal; errors are raised as ever."""
    for name in ("ray.rllib", "ray.tune", "ray._common.deprecation"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="ray|gymnasium")
