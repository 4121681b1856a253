"""A log by a clock that tests set, on both databases."""

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
    return Clock()


@pytest.fixture
def store(url: str, clock: Callable[[], datetime]) -> Iterator[Store]:
    with closing(Store.open(url, clock)) as store:
        yield store
