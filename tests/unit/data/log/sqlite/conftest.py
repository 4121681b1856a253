"""These tests are about SQLite alone."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def new_url(tmp_path: Path) -> Callable[[str], str]:
    """What makes the URL of a database of its own, by a name."""
    return lambda name: f"sqlite:///{tmp_path}/{name}.db"
