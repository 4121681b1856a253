"""Fixtures shared by all tests."""

import gc
import logging
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import ray
from anyio.from_thread import start_blocking_portal
from starlette.testclient import TestClient
from threadpoolctl import threadpool_limits

from data.log.store import Store
from tests.support.postgres import Cluster, cluster


def pytest_collection_finish() -> None:
    """Keep what was imported out of the collector's way: looking through it takes a fifth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_settings_from_outside() -> Iterator[None]:
    """Keep a developer's own log, archive, tracker and key out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for name in ("HOME", "STORE", "ARCHIVE", "API_KEY", "PLAIN"):
            patch.delenv(f"RAYCOMMEND_{name}", raising=False)
        yield


def pytest_configure() -> None:
    """Let torch, which is imported later, compute with one thread: more are slower on networks of this size."""
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with one BLAS thread, as `rl.train` does."""
    with threadpool_limits(1, "blas"):
        yield


@pytest.fixture(scope="session", autouse=True)
def one_event_loop() -> Iterator[None]:
    """Let all test clients ask in one, not start a thread with one for each request."""
    with start_blocking_portal() as portal, pytest.MonkeyPatch.context() as patch:
        patch.setattr(TestClient, "portal", portal)
        yield


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """One Ray for all tests that need it, on two CPUs of this machine."""
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """One PostgreSQL for all tests that need a database of their own in one."""
    with cluster() as running:
        yield running


@pytest.fixture
def clock() -> Callable[[], datetime]:
    """The machine's; tests that set the time have a fixture of this name."""
    return lambda: datetime.now(UTC)


@pytest.fixture
def store(tmp_path: Path, clock: Callable[[], datetime]) -> Iterator[Store]:
    """A new log by the test's clock."""
    store = Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock)
    yield store
    store.close()
