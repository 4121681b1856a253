"""Fixtures of the log's tests."""

import pytest

from tests.support.clocks import Clock


@pytest.fixture
def clock() -> Clock:
    """One that a test sets."""
    return Clock()
