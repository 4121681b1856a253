"""The Ray that a command works on: the cluster that it was given, or one of its own on this machine. Needs ray."""

import logging
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import ray


@contextmanager
def ray_session(cpus: float) -> Iterator[None]:
    """Give a Ray: the one that runs in this process, the one of `RAY_ADDRESS` (which a job has), or a new one.

    Args:
        cpus: that a new one must have at least.
    """
    quiet()
    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=logging.WARNING)
    else:
        ray.init(
            "local",
            num_cpus=max(os.cpu_count() or 1, math.ceil(cpus)),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    try:
        yield
    finally:
        ray.shutdown()


def quiet() -> None:
    """Keep what RLlib says of its own transition to another API off the terminal; errors are raised as ever."""
    for name in ("ray.rllib", "ray.tune", "ray._common.deprecation", "ray._private.authentication"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="ray|gymnasium")
