"""Commands that read the log, where there is none: the path is named, and no empty log is made in its place."""

from importlib import import_module
from pathlib import Path

import pytest

from data.command import REFUSED
from tests.support.gates import by_chance

pytestmark = pytest.mark.heavy  # what trains, and MLflow, take seconds to import


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("data.archive.run", []),
        ("data.dsjson", ["export", "log.dsjson"]),
        ("rl.drift", []),
        ("rl.evaluate", ["--challenger", "a/one", "--champion", "a/other", "--no-track"]),
        ("rl.train", ["--kind", "offline", "--name", "x", "--source", "log", "--no-track"]),
        ("serve.audit.run", []),
        ("serve.keys", ["list"]),
        ("serve.keys", ["rotate", "shop"]),
        ("serve.keys", ["revoke", "shop"]),
    ],
)
def test_a_log_that_is_not_there_is_not_made(
    command: str,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("RAYCOMMEND_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    by_chance(tmp_path / "a", "one")
    by_chance(tmp_path / "a", "other")
    assert import_module(command).main(arguments) == REFUSED
    assert f"no log at {home / 'store.db'}: RAYCOMMEND_HOME is the folder that it is in" in capsys.readouterr().err
    assert not (home / "store.db").exists()


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("rl.registry", ["show"], "no registry at "),
        ("rl.rollback", [], "raycommend has no champion"),
        ("rl.promote", ["2"], "raycommend has no champion"),
        ("rl.evaluate", ["--challenger", "2", "--champion", "1"], "no registry at "),
        ("rl.evaluate", ["--again", "2"], "no registry at "),
    ],
)
def test_a_registry_that_is_not_there_is_not_made(
    command: str,
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert import_module(command).main(arguments) == REFUSED
    assert said in capsys.readouterr().err
    assert not (tmp_path / "home" / "mlflow.db").exists()
