"""Running a step of an ingestion as tasks on Ray, with a progress line. Imports Ray."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import DataContext

from data.errors import DataError

TASKS_PER_CPU = 6


class Progress:
    """A line on a terminal that says how far a run is; silent where the stream is no terminal."""

    def __init__(self, stream: Any = None) -> None:
        self._stream = stream if stream is not None and stream.isatty() else None
        self._shown_s = 0.0

    def show(self, step: str, done: int, total: int, unit: str) -> None:
        """Show `done` of `total`; drawn at most ten times a second, and always when all is done."""
        now = time.monotonic()
        if self._stream is None or (now - self._shown_s < 0.1 and done < total):
            return
        self._shown_s = now
        share = min(done / total, 1.0) if total else 1.0
        bar = "=" * round(30 * share)
        self._stream.write(f"\r\x1b[K{step} [{bar:<30}] {share:4.0%}  {done:,} {unit}")
        self._stream.write("\n" if done >= total else "")
        self._stream.flush()


def task_count() -> int:
    """Return how many tasks a step is divided into, at most: enough for all CPUs to end at about the same time."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return max(1, int(resources.get("CPU", 1))) * TASKS_PER_CPU


def run_tasks(function: Callable[..., Iterator[pa.Table]], tasks: int, **arguments: object) -> Iterator[pa.Table]:
    """Run a function once for each task number, by Ray Data; yields what it yields as tasks are finished.

    Raises:
        DataError: a task raised one.
    """
    if not tasks:
        return
    numbers = [pa.table({"task": [number]}) for number in range(tasks)]
    try:
        with quiet_ray_data():
            blocks = ray.data.from_arrow(numbers).map_batches(
                function, batch_size=None, batch_format="pyarrow", fn_kwargs=arguments
            )
            yield from blocks.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and type(cause) is not DataError:  # Ray's own wrapper is a subclass of it
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is None:
            raise
        raise DataError(str(cause).splitlines()[0]) from error  # Ray appends advice


@contextmanager
def quiet_ray_data() -> Iterator[None]:
    """Set Ray Data's options for the datasets made inside: our own progress line, no log lines, no slow start."""
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
