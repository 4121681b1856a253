"""Tests of rooms stay in this process: one that starts a Ray, or another process, is marked `heavy`."""

import platform
import subprocess
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
import ray


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark those that share the tests' Ray."""
    for item in items:
        if "ray_local" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.heavy)


@pytest.fixture(scope="session", autouse=True)
def known_platform() -> None:
    """Ask once for the platform, for which Python runs `uname`: MLflow asks when it is imported."""
    platform.platform()


@pytest.fixture(autouse=True)
def no_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that starts a process and is not marked: `make unit` is to run without."""
    if request.node.get_closest_marker("heavy") is not None:
        return

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("a test that starts a Ray, or another process, is marked `heavy`")

    for owner, name in ((subprocess.Popen, "__init__"), (BaseProcess, "start"), (ray, "init")):
        monkeypatch.setattr(owner, name, refuse)
