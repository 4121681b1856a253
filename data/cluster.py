"""The Ray that a command works on: that of this process, the cluster it was given, or a quiet one of its own."""

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray


def start_ray(cpus: float | None = None, *, own: bool = False, jobs: bool = False) -> bool:
    """Connect to Ray, unless this process is connected: to that of `RAY_ADDRESS` (which a job has), or a new one.

    Args:
        cpus: that a new one must have at least; None: as many as Ray finds.
        own: start a new one whatever `RAY_ADDRESS` says.
        jobs: let a new one take jobs: with its dashboard, on this machine only.

    Returns:
        Whether this call connected: who called ends it with `ray.shutdown()`, or leaves that to the end of the process.
    """
    if ray.is_initialized():
        return False
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # it tells that tokens are on
    if os.environ.get("RAY_ADDRESS") and not own:
        ray.init(logging_level=logging.WARNING)
    else:
        ray.init(
            "local",
            num_cpus=None if cpus is None else max(os.cpu_count() or 1, math.ceil(cpus)),
            include_dashboard=jobs,
            dashboard_host="127.0.0.1",
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    return True


@contextmanager
def quiet_ray_data() -> Iterator[None]:
    """Set Ray Data's options for the datasets made inside: our own progress line, no log lines, no slow start."""
    from ray.data import DataContext  # takes a second to import, and most commands need it not

    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    # With budgets, Ray Data 2.60 runs one task at a time for a second: its first question for the cluster's resources
    # finds no answer, and it asks again a second later. What our tasks return is small and needs no budget.
    context.op_resource_reservation_enabled = False
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # a failure is raised, and need not be logged as well
    try:
        with DataContext.current(context):
            yield
    finally:
        logger.setLevel(level)
