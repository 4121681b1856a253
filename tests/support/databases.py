"""Fixtures for tests that run on both databases: import them into a conftest, or a module."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.packages import needs_package
from tests.support.postgres import Cluster

POSTGRES = pytest.param("postgres", marks=[pytest.mark.heavy, needs_package("postgresql")])


@pytest.fixture(params=["sqlite", POSTGRES])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """What makes the URL of a database of its own, by a name."""
    if request.param == "sqlite":
        return lambda name: f"sqlite:///{tmp_path}/{name}.db"
    cluster: Cluster = request.getfixturevalue("postgres")
    return lambda name: cluster.new_database()


@pytest.fixture
def url(new_url: Callable[[str], str]) -> str:
    """The URL of a log that is not there yet."""
    return new_url("store")
