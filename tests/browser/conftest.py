"""Fixtures of the tests in a browser: one service for all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.browsers import Showroom, chromium


@pytest.fixture(scope="session")
def showroom(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Showroom]:
    """A service with a console, keys, and a shop of named goods."""
    room = Showroom(Path(tmp_path_factory.mktemp("showroom")))
    room.start()
    yield room
    room.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's chromium."""
    with chromium() as browser:
        yield browser
