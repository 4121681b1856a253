"""Tests of rooms stay in this process: one that starts a Ray, or another Python, is marked `heavy`."""

import subprocess
import sys
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
import ray

_REFUSAL = "a test that starts a Ray, or another Python, is marked `heavy`"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark those that share the tests' Ray."""
    for item in items:
        if "ray_local" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.heavy)


@pytest.fixture(autouse=True)
def no_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that starts one and is not marked: `make unit` is to run without.

    Small programs may run: the imports of MLflow and torch ask `uname` and `ldconfig`.
    """
    if request.node.get_closest_marker("heavy") is not None:
        return
    popen = subprocess.Popen.__init__

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail(_REFUSAL)

    def refuse_python(process: Any, args: Any, *given: Any, **options: Any) -> None:
        if str(args if isinstance(args, str) else next(iter(args))) == sys.executable:
            refuse()
        popen(process, args, *given, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse_python)
    monkeypatch.setattr(BaseProcess, "start", refuse)
    monkeypatch.setattr(ray, "init", refuse)
