"""Tests of rooms stay in this process: one that starts a Ray, or another Python, is marked `heavy` or `slow`."""

import subprocess
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import ray

from data.settings import Settings
from rl.encoders.customers import CustomerEncoder
from rl.training.run.tracking_client import tracking_client
from tests.support.shops import small_market

_REFUSAL = "a test that starts a Ray, or another Python, is marked `heavy` or `slow`"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark those that share the tests' Ray."""
    for item in items:
        if "ray_local" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.heavy)


@pytest.fixture(scope="session")
def encoder() -> CustomerEncoder:
    """That of `tests.support.shops.small_market`."""
    return small_market()[1]


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracker's database that has nothing in it, to be copied: MLflow takes seconds to make one."""
    settings = Settings(home=tmp_path_factory.mktemp("mlflow"))
    tracking_client(settings.tracking_uri).search_experiments()
    return settings.home / "mlflow.db"


@pytest.fixture(autouse=True)
def no_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that starts one and is not marked: `make unit` is to run without.

    Small programs may run: the imports of MLflow and torch ask `uname` and `ldconfig`.
    """
    if any(request.node.get_closest_marker(mark) is not None for mark in ("heavy", "slow")):
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
