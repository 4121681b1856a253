"""When the service moves closed days to the archive: once soon after it has started, then daily."""

from contextlib import closing
from datetime import datetime, timedelta

from data.archive.run import Summary, archive_days
from data.log.store import Store
from serve.config import DailyArchive, ServiceConfig


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
