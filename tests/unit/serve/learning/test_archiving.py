"""A service moves closed days to the archive by itself, in a task of its own."""

import asyncio
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
import ray

from data.log.store import Store
from serve.config import DailyArchive, ServiceConfig
from serve.learning import archiving
from tests.support.archives import write_days
from tests.support.clocks import Clock
from tests.support.rows import count_rows

pytestmark = pytest.mark.heavy


def rows_left(store: Store) -> int:
    counts = count_rows(store)
    return counts["decisions"] + counts["events"] + max(counts["versions"] - 2, 0)


def test_closed_days_are_archived_soon_after_the_start(
    ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiving, "_FIRST_S", 0.1)
    config = ServiceConfig(home=str(tmp_path), archive=DailyArchive())
    with closing(Store.open(config.settings.store_url, clock := Clock())) as store:
        write_days(store, clock, 60)
        before = store.decisions()

        async def serve() -> None:
            node = ray.get_runtime_context().get_node_id()
            daily = asyncio.create_task(archiving.archive_daily(config, node, None))
            deadline = time.monotonic() + 120
            while rows_left(store):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            daily.cancel()
            with suppress(asyncio.CancelledError):
                await daily

        asyncio.run(serve())
        assert store.decisions() == before
