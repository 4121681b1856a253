"""Fixtures of the service's tests."""

import pytest


@pytest.fixture(params=[False, True], ids=["fast", "plain"])
def plain(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run a test twice: with what goes past FastAPI for speed, and with `RAYCOMMEND_PLAIN`, without."""
    is_plain = bool(request.param)
    monkeypatch.setenv("RAYCOMMEND_PLAIN", str(int(is_plain)))
    return is_plain
