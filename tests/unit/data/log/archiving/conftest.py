"""A log of three and a half days."""

from collections.abc import Iterator

import pytest

from data.log.store import Store
from data.schema import AnyRecord
from tests.support.archives import DECISIONS, write_days
from tests.support.clocks import Clock
from tests.support.databases import new_url, url

__all__ = ["new_url", "url"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(url: str, clock: Clock) -> Iterator[Store]:
    store = Store.open(url, clock)
    yield store
    store.close()


@pytest.fixture
def written(store: Store, clock: Clock) -> list[AnyRecord]:
    return write_days(store, clock, DECISIONS)
