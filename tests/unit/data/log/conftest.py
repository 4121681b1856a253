"""The log's tests run on both databases, by a clock that they set."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime

import pytest

from data.log.store import Store
from tests.support.clocks import Clock
from tests.support.databases import new_url as new_url
from tests.support.databases import url as url


@pytest.fixture
def clock() -> Clock:
    """One that a test sets."""
    return Clock()


@pytest.fixture
def store(url: str, clock: Callable[[], datetime]) -> Iterator[Store]:
    """A new log by the test's clock."""
    with closing(Store.open(url, clock)) as store:
        yield store
