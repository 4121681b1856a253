"""Fixtures of version 1's tests."""

import pytest
from fastapi.testclient import TestClient

from serve.api.application import create_api
from serve.decisions.service import Service


@pytest.fixture
def client(service: Service) -> TestClient:
    """Of the application of a test's own service."""
    return TestClient(create_api(service), raise_server_exceptions=False)
