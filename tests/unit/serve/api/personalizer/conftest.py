"""Fixtures of the Personalizer API's tests."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from tests.support.personalizers import HEADERS, Loop, personalizer_loop


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """One for all tests of a file, as it takes long to build: each has events of its own."""
    with personalizer_loop(tmp_path_factory.mktemp("home")) as loop:
        yield loop


@pytest.fixture(scope="module")
def client(loop: Loop) -> TestClient:
    """One that has the key."""
    return TestClient(loop.app, headers=HEADERS, raise_server_exceptions=False)
