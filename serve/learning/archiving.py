"""When the service moves closed days to the archive: once soon after it has started, then daily."""

import asyncio
import logging
from contextlib import closing
from datetime import UTC, datetime, timedelta

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data.archive.run import Summary, archive_days
from data.log.store import Store
from serve.config import DailyArchive, ServiceConfig
from serve.metrics.learner import LearnerMetrics

_FIRST_S = 60.0
"""How long after its start a service archives closed days for the first time."""

log = logging.getLogger("ray.serve")


def archive_now(config: ServiceConfig) -> Summary:
    """Move closed days as `python -m data.archive` does; blocks, for minutes where there is much.

    Raises:
        StoreError: the log did not answer, or another process archives it; the next call goes on.
        DataError: the archive cannot be read or written to; the same.
    """
    daily, settings = config.archive or DailyArchive(), config.settings
    with closing(Store.open(settings.store_url)) as store:
        return archive_days(store, settings, daily.retention, keep_days=daily.keep_days)


def seconds_until(hour: int, now: datetime) -> float:
    """Return how long it is until the clock is at an hour of UTC, more than 0."""
    at = now.replace(hour=hour, minute=0, second=0, microsecond=0)
    return ((at if at > now else at + timedelta(days=1)) - now).total_seconds()


async def archive_daily(config: ServiceConfig, node: str | None, metrics: LearnerMetrics | None) -> None:
    """Move closed days to the archive in a task of its own, soon and then each day; what fails is tried again then.

    Args:
        config: of the application, with an archive.
        node: the machine that it must run on; None: any.
        metrics: count it.
    """
    assert config.archive is not None, "who calls has looked"
    here = None if node is None else NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(archive_now).options(num_cpus=0, max_retries=0, scheduling_strategy=here)
    wait_s = _FIRST_S
    while True:
        await asyncio.sleep(wait_s)
        try:
            done = await task.remote(config)
            log.info("closed days were archived: %s", done.model_dump_json())
            if metrics:
                metrics.archived(done.moved, done.seconds)
        except Exception:  # the log does not answer, or another process is at it, or the archive is full
            log.exception("closed days were not archived; it is tried again tomorrow")
            if metrics:
                metrics.archived(None)
        wait_s = seconds_until(config.archive.hour, datetime.now(UTC))
