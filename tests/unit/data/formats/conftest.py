"""Fixtures of the formats' tests."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from data.log.store import Store


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Store]:
    """A log to read into, some weeks after all that is read."""
    store = Store.open(f"sqlite:///{tmp_path / 'into.db'}", lambda: datetime(2026, 3, 31, 12, tzinfo=UTC))
    yield store
    store.close()
