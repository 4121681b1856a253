"""A log that tests of what follows it write by hand."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from data.log.store import Store
from tests.support.clocks import Clock
from tests.support.logs import Written


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Written]:
    """An empty one, by a clock that the test sets."""
    clock = Clock()
    with closing(Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock)) as store:
        yield Written(store, clock)
