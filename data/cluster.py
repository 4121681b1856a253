"""The Ray that a command works on: that of this process, the cluster it was given, or a quiet one of its own."""

import atexit
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray


def start_ray(cpus: float | None = None, *, own: bool = False, jobs: bool = False) -> bool:
    """Connect to Ray, unless this process is connected: to that of `RAY_ADDRESS` (which a job has), or a new one.

    Args:
        cpus: that a new one must have at least; None: as many as Ray finds.
        own: start a new one whatever `RAY_ADDRESS` says.
        jobs: let a new one take jobs: with its dashboard, on this machine only. It ends with this process.

    Returns:
        Whether this call connected: who called ends it with `ray.shutdown()`, or leaves that to the end of the process.
    """
    if ray.is_initialized():
        return False
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # it tells that tokens are on
    if os.environ.get("RAY_ADDRESS") and not own:
        ray.init(logging_level=logging.WARNING)
    else:
        least = None if cpus is None else max(os.cpu_count() or 1, math.ceil(cpus))
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
        if jobs:
            ray.init(_head_that_takes_jobs(least), **quiet)
            atexit.register(ray.shutdown)  # before the head ends, whose own hook was registered earlier
        else:
            ray.init("local", num_cpus=least, include_dashboard=False, **quiet)
    return True


def _head_that_takes_jobs(cpus: int | None) -> str:
    """Start one, which ends with this process, and return its address.

    `ray.init` has no say in the port of the agent that starts jobs: of two Rays of a machine only one would take any.
    What else `ray.init` does for one that it starts is done here: without a token who reaches it may run code on it,
    and without the switch Ray reports how it is used.
    """
    from ray._common.usage import usage_lib
    from ray._private.authentication import authentication_token_setup as token  # Ray's version is pinned
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    usage_lib.set_usage_stats_enabled_via_env_var(False)
    token.enable_token_auth_by_default()
    token.ensure_token_if_auth_enabled(create_token_if_missing=True)
    asked = RayParams(
        num_cpus=cpus,
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        dashboard_port=None,  # the first that is free
        dashboard_agent_listen_port=0,
    )
    head = Node(asked, head=True, shutdown_at_exit=True, spawn_reaper=True, ray_init_cluster=True)
    return str(head.gcs_address)


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
